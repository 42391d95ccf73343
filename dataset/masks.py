"""Masks as data sets keep them: COCO run lengths, polygons, and PNG files whose values are labels.

Legend: H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.errors import DatasetError
from dataset.json_files import dictionary, shortened

BROKEN = "broken mask"
WRONG_SIZE = "mask size"
# Far enough out for any annotator's slip; beyond it a polygon's outline would fill the memory.
MAX_COORDINATE = 1e5


def decode_segmentation(segmentation: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """One object's mask, in whichever of COCO's forms.

    Args:
        segmentation: A run-length mask, a list of them, a list of polygons, or None (nothing there).
        size: The (H, W) it must have.
        where: The file and key, for the message.

    Returns:
        bool [H, W], the union of the parts.

    Raises:
        DatasetError: It is none of these, or broken.
    """
    if segmentation is None:
        return np.zeros(size, dtype=bool)
    if isinstance(segmentation, list) and segmentation and isinstance(segmentation[0], list):
        return polygon_mask(segmentation, size, where)
    return decode_rle(segmentation, size, where)


def decode_rle(rle: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """One COCO run-length mask.

    Args:
        rle: {"size": [H, W], "counts": compressed text or bytes, or a list of runs down the columns}, or a
            list of such (several parts).
        size: The (H, W) it must have.
        where: The file and key, for the message.

    Returns:
        bool [H, W].

    Raises:
        DatasetError: Not such a mask, of another size, or its runs do not fill it exactly.
    """
    if isinstance(rle, list):
        parts = [decode_rle(part, size, where) for part in rle]
        return np.any(parts, axis=0) if parts else np.zeros(size, dtype=bool)
    record = dictionary(rle, where)
    counts = record.get("counts")
    if not isinstance(record.get("size"), list | tuple) or list(record["size"]) != list(size):
        got = shortened(record.get("size"))
        raise DatasetError(f"{where}: expected a mask of {list(size)}, got size {got}", WRONG_SIZE)
    if isinstance(counts, list):
        return _decode_runs(counts, size, where)
    if not isinstance(counts, str | bytes):
        raise DatasetError(f"{where}: expected counts, a compressed text, got {shortened(counts)}", BROKEN)
    from pycocotools import mask as coco_mask

    counts = counts.encode(errors="surrogatepass") if isinstance(counts, str) else counts
    # pycocotools leaves what the runs do not reach uninitialised, so that must not get there
    if _num_pixels(counts) != size[0] * size[1]:
        raise _not_filled(size, where)
    return coco_mask.decode({"size": list(size), "counts": counts}).astype(bool)


def polygon_mask(polygons: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """The area inside polygons, as COCO draws them.

    Args:
        polygons: Lists x0, y0, x1, y1, ... in pixels, each of three points or more; [] is an empty mask.
        size: (H, W).
        where: The file and key, for the message.

    Returns:
        bool [H, W], the union.

    Raises:
        DatasetError: Not such lists.
    """
    if not isinstance(polygons, list):
        raise DatasetError(f"{where}: expected a list of polygons, got {shortened(polygons)}", BROKEN)
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(
            isinstance(value, int | float) and abs(value) <= MAX_COORDINATE for value in polygon
        )
        if not numbers or len(polygon) < 6 or len(polygon) % 2:
            raise DatasetError(
                f"{where}: expected a polygon x0, y0, x1, y1, ... of three points or more in the picture, "
                f"got {shortened(polygon)}",
                BROKEN,
            )
    if not polygons:
        return np.zeros(size, dtype=bool)
    from pycocotools import mask as coco_mask

    parts = coco_mask.frPyObjects([[float(value) for value in polygon] for polygon in polygons], *size)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)


def read_label_map(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8 | np.uint16]:
    """A picture whose values are labels: a palette's indices, or grey values.

    Args:
        path: A PNG, usually. One saved in colour is taken if its three channels agree.
        size: The (H, W) it must have; None for any.

    Returns:
        [H, W], uint8 0..255, or uint16 where the file has 16 bits.

    Raises:
        DatasetError: No such file, no such picture, or of another size.
    """
    from PIL import Image

    if not path.is_file():
        raise DatasetError(f"expected a mask {path}, found none", "missing file")
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: not a whole picture ({error})", BROKEN) from error
    if mode in ("RGB", "RGBA") and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]
    elif mode.startswith("I") and values.size and values.min() >= 0 and values.max() <= 0xFFFF:
        values = values.astype(np.uint16)
    elif mode not in ("P", "L", "1"):
        raise DatasetError(f"{path}: expected a mask of one channel (palette or grey), got {mode}", BROKEN)
    if size is not None and values.shape != tuple(size):
        raise DatasetError(
            f"{path}: expected a mask of {list(size)}, got size {list(values.shape)}", WRONG_SIZE
        )
    return values.astype(np.uint8) if values.dtype == bool else values


def _decode_runs(runs: list[Any], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise _not_filled(size, where)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[1], size[0]).T


def _not_filled(size: tuple[int, int], where: str) -> DatasetError:
    return DatasetError(f"{where}: the mask's runs do not add up to {size[0]} x {size[1]} pixels", BROKEN)


def _num_pixels(counts: bytes) -> int:
    """The sum of a compressed RLE's runs; -1 where it is no RLE.

    Each number is written in groups of 5 bits, lowest first, as characters from "0" on; 32 says that another
    group follows, the last group's 16 that it is negative. From the fourth run on, a number is the difference
    to the run two before it.
    """
    groups = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if not groups.size or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        return -1
    ends = np.flatnonzero((groups & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    position = np.arange(groups.size) - np.repeat(starts, ends - starts + 1)
    if position.max() > 8:
        return -1
    numbers = np.add.reduceat((groups & 31) << (5 * position), starts)
    negative = (groups[ends] & 16) != 0
    numbers -= np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    # run 3 follows run 1, run 4 follows run 2, and so on; run 0 stands alone
    runs = np.concatenate([numbers[:1], np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])])
    return int(runs.sum()) if runs.min() >= 0 else -1
