"""The masks of one object through a video, kept as run lengths and decoded a frame at a time.

A mask of 480p takes 400 KB as bool and some hundred bytes as COCO run lengths; a long video's are written to
a temporary file as they come, so that memory does not grow with it.

Shapes: N objects, T frames, H W pixels.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np

# COCO's run-length encoding of one mask: {"size": [H, W], "counts": str}.
EncodedMask = dict[str, Any]
# Run lengths of one object that stay in memory; more of them go to a file.
SPOOL_BYTES = 2 * 2**20


class MaskTrack:
    """Masks of one object, bool [T, H, W]; all empty until they are put in.

    Args:
        shape: (T, H, W).

    Attributes:
        shape: (T, H, W).
        areas: pixels of each mask, int64 [T]; not to be changed.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        num_frames, height, width = (int(size) for size in shape)
        self.shape = num_frames, height, width
        self.areas = np.zeros(num_frames, np.int64)
        self._runs = SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115  # open as long as the track lives
        self._places = np.zeros((num_frames, 2), np.int64)  # where a frame's runs begin, how many bytes
        self._end = 0
        self._empty = _encode(np.zeros((height, width), bool))
        weakref.finalize(self, self._runs.close)

    @classmethod
    def of(cls, masks: np.ndarray) -> MaskTrack:
        """The track of bool [T, H, W].

        Raises:
            ValueError: that is no such array.
        """
        if masks.dtype != bool or masks.ndim != 3:
            raise ValueError(f"expected bool masks [T, H, W], got {masks.dtype} {list(masks.shape)}")
        track = cls(masks.shape)
        for index, mask in enumerate(masks):
            track.put(index, mask)
        return track

    @classmethod
    def union(cls, tracks: Sequence[MaskTrack]) -> MaskTrack:
        """The pixels of any of several tracks of one shape; of one track itself."""
        from pycocotools import mask as coco_mask

        if len(tracks) == 1:
            return tracks[0]
        joined = cls(tracks[0].shape)
        for index in range(len(joined)):
            shown = [track._encoded(index) for track in tracks if track.areas[index]]
            if shown:
                joined._put(index, coco_mask.merge(shown))
        return joined

    def put(self, index: int, mask: np.ndarray) -> None:
        """Set the mask of frame ``index``, bool [H, W].

        Raises:
            ValueError: the mask is not bool, or of another size.
            OSError: the temporary file cannot be written.
        """
        if mask.dtype != bool or mask.shape != self.shape[1:]:
            raise ValueError(
                f"expected a bool mask {list(self.shape[1:])}, got {mask.dtype} {list(mask.shape)}"
            )
        if mask.any():
            self._put(index, _encode(mask))
        else:
            self.areas[index], self._places[index] = 0, 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """The mask of frame ``index`` (negative counts from the end), bool [H, W], the caller's own.

        Raises:
            IndexError: there is no such frame.
        """
        return decode_masks([self._encoded(index)])[0]

    def __eq__(self, other: object) -> bool:
        """Whether the masks are the same."""
        if not isinstance(other, MaskTrack):
            return NotImplemented
        return self.shape == other.shape and all(
            self._encoded(index) == other._encoded(index) for index in range(len(self))
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, and masks may be put in

    def any(self) -> bool:
        """Whether any mask has a pixel."""
        return bool(self.areas.any())

    def decoded(self) -> np.ndarray:
        """All masks, bool [T, H, W]: as much memory as the video has pixels."""
        masks = np.zeros(self.shape, bool)
        for index in np.flatnonzero(self.areas):
            masks[index] = self[index]
        return masks

    def encoded(self, index: int) -> EncodedMask:
        """The mask of frame ``index`` as COCO run lengths, fit for JSON; empty masks too."""
        mask = self._encoded(index)
        return {"size": list(mask["size"]), "counts": mask["counts"].decode("ascii")}

    def as_json(self) -> list[EncodedMask]:
        """All masks as COCO run lengths, fit for JSON."""
        return [self.encoded(index) for index in range(len(self))]

    def _encoded(self, index: int) -> EncodedMask:
        """With counts in bytes, as pycocotools has them."""
        start, length = self._places[index]
        if not length:
            return self._empty
        self._runs.seek(start)
        return {"size": self._empty["size"], "counts": self._runs.read(length)}

    def _put(self, index: int, mask: EncodedMask) -> None:
        from pycocotools import mask as coco_mask

        self._runs.seek(self._end)
        self._runs.write(mask["counts"])
        self._places[index] = self._end, len(mask["counts"])
        self._end += len(mask["counts"])
        self.areas[index] = int(coco_mask.area(mask))


def as_tracks(masks: np.ndarray | Iterable[MaskTrack]) -> tuple[MaskTrack, ...]:
    """Masks bool [N, T, H, W] as one track for each object; tracks are let through.

    Raises:
        ValueError: they are neither.
    """
    if isinstance(masks, np.ndarray):
        if masks.dtype != bool or masks.ndim != 4:
            raise ValueError(f"expected bool masks [N, T, H, W], got {masks.dtype} {list(masks.shape)}")
        return tuple(MaskTrack.of(each) for each in masks)
    return tuple(masks)


def decode_masks(encoded: Sequence[EncodedMask]) -> np.ndarray:
    """COCO run-length encodings as masks bool [T, H, W]; the inverse of `MaskTrack.as_json`."""
    from pycocotools import mask as coco_mask

    return np.ascontiguousarray(coco_mask.decode(list(encoded)).transpose(2, 0, 1)).astype(bool, copy=False)


def _encode(mask: np.ndarray) -> EncodedMask:
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
