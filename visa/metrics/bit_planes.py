"""A mask with eight rows to a byte: a step in any direction is then a plain offset in memory.

Row r of plane p is row p * rows_per_plane + r of the mask, and bit p of a byte belongs to plane p. Unlike
with eight neighbours to a byte, no bit has to cross into another byte when the mask is moved, but for the few
rows at a plane's ends.

Legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PLANES = 8
_WORD_BYTES = 8  # bits are counted eight bytes at a time


@dataclass(frozen=True)
class BitPlanes:
    """A packed mask. Invariant: what lies beyond the mask's rows and columns is zero.

    Attributes:
        packed: uint8 [rows of a plane, columns and room beside them]; a whole number of words wide.
        height: Rows of the mask.
        width: Columns of the mask.
    """

    packed: NDArray[np.uint8]
    height: int
    width: int

    @classmethod
    def pack_alike(cls, masks: Sequence[NDArray[np.bool_]], margin: int) -> list[BitPlanes]:
        """Packs masks of one size, without the columns in which none has a pixel.

        Args:
            masks: bool [H, W] each, with a pixel in one of them at least. One empty column is kept on either
                side of the pixels if there is one.
            margin: Empty columns to leave beside the mask.
        """
        height = len(masks[0])
        rows = -(-height // PLANES)
        packed = [_interleave(mask, rows) for mask in masks]
        columns = np.flatnonzero(np.bitwise_or.reduce(np.bitwise_or.reduce(packed), axis=0))
        window = slice(max(columns[0] - 1, 0), min(columns[-1] + 2, masks[0].shape[1]))
        width = window.stop - window.start
        stride = -(-(width + max(margin, 1)) // _WORD_BYTES) * _WORD_BYTES
        found = []
        for one in packed:
            roomy = np.zeros((rows, stride), dtype=np.uint8)
            roomy[:, :width] = one[:, window]
            found.append(cls(roomy, height, width))
        return found

    def boundary(self) -> BitPlanes:
        """The pixels that differ from the one to the right, below or below right; no border is a boundary."""
        rows, stride = self.packed.shape
        # One more column and row: beyond the border the mask goes on as it was.
        here = np.zeros((rows + 1, stride), dtype=np.uint8)
        here[:rows] = self.packed
        here[:rows, self.width] = self.packed[:, self.width - 1]
        here[rows] = here[0] >> 1
        plane, last = divmod(self.height - 1, rows)
        bit = np.uint8(1 << plane)
        last_row = here[last] & bit
        flat, size = here.reshape(-1), rows * stride
        found = flat[:size] ^ flat[stride:]
        for step in (1, stride + 1):
            found[:-1] |= flat[: size - 1] ^ flat[step : step + size - 1]
        found = found.reshape(rows, stride)
        found[last] &= ~bit
        found[last, :-1] |= last_row[:-1] ^ last_row[1:]
        found[:, self.width :] = 0
        return BitPlanes(found, self.height, self.width)

    def count(self, within: NDArray[np.uint8] | None = None) -> int:
        """The number of pixels, or of those that are also set in `within`, which is packed alike."""
        packed = self.packed if within is None else self.packed & within
        return int(np.bitwise_count(packed.reshape(-1).view(np.uint64)).sum(dtype=np.int64))

    def above_and_below(self, margin: int) -> NDArray[np.uint8]:
        """The planes with `margin` more rows on either side, from their neighbours: uint8 [R, stride]."""
        rows, stride = self.packed.shape
        wide = np.zeros((rows + 2 * margin, stride), dtype=np.uint8)
        wide[margin : margin + rows] = self.packed
        for plane in range(1, PLANES):
            reach = min(rows, margin - (plane - 1) * rows)  # rows of the plane that many planes away
            if reach <= 0:
                break
            below, above = margin + plane * rows, margin - (plane - 1) * rows
            wide[below : below + reach] = self.packed[:reach] >> plane
            wide[above - reach : above] = self.packed[rows - reach :] << plane
        return wide

    def unpack(self) -> NDArray[np.bool_]:
        """bool [H, W]."""
        bits = np.unpackbits(self.packed[None, :, : self.width], axis=0, bitorder="little").astype(bool)
        return bits.reshape(-1, self.width)[: self.height]


def pack_rows(mask: NDArray[np.bool_], stride: int) -> NDArray[np.uint8]:
    """A mask, bool [H, W], packed with rows of `stride` bytes."""
    rows = -(-len(mask) // PLANES)
    packed = np.zeros((rows, stride), dtype=np.uint8)
    packed[:, : mask.shape[1]] = _interleave(np.ascontiguousarray(mask), rows)
    return packed


def _interleave(mask: NDArray[np.bool_], rows: int) -> NDArray[np.uint8]:
    """uint8 [rows, W]: bit p holds the mask's rows from p * rows on."""
    size = rows * mask.shape[1]
    pixels = mask.reshape(-1).view(np.uint8)
    packed = np.zeros(size, dtype=np.uint8)
    for plane in range(PLANES - 1, -1, -1):
        part = pixels[plane * size : (plane + 1) * size]
        if part.size:
            packed += packed  # one bit up; faster than a shift of bytes
            packed[: part.size] |= part
    return packed.reshape(rows, mask.shape[1])
