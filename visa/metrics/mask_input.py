"""What the metrics take for a mask: bool, 0/1 or 0/255, [T, H, W] or [H, W]. Anything else is refused.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray


def binary_masks(
    gt: ArrayLike, pred: ArrayLike, *, void: ArrayLike | None = None, foreground: ArrayLike | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Checks two masks and perhaps a third one that goes with them.

    Args:
        gt: True mask; it may also be a sum of overlapping instances (0, 1, 2, ...), which is clipped to 1.
        pred: Predicted mask, of the same shape.
        void: Pixels to leave out, of the same shape.
        foreground: All objects, of the same shape, perhaps a sum as `gt`. Give this or `void`, or neither.

    Returns:
        The two masks and the third or None, as bool [T, H, W]; they may be views of what was given.

    Raises:
        ValueError: The shapes differ, or a value is none of those above.
    """
    true = _bool("gt", gt, sums=True)
    predicted = _bool("pred", pred)
    name, extra = ("void", void) if void is not None else ("foreground", foreground)
    third = None if extra is None else _bool(name, extra, sums=name == "foreground")
    _same_shape({"gt": true, "pred": predicted, **({} if third is None else {name: third})})
    return true, predicted, third


def binary_frames(
    gt: ArrayLike, pred: ArrayLike, void: ArrayLike | None = None
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """As `binary_masks`, a frame at a time, which spares the memory to be gone through again and again.

    Yields:
        The two masks of each frame, bool [H, W], without the void pixels.
    """
    given = {"gt": gt, "pred": pred} | ({} if void is None else {"void": void})
    arrays = {name: _frames(name, value) for name, value in given.items()}
    _same_shape(arrays)
    frames = [_one_by_one(name, array, sums=name == "gt") for name, array in arrays.items()]
    for true, predicted, *ignored in zip(*frames, strict=True):
        kept = ~ignored[0] if ignored else None
        yield (true, predicted) if kept is None else (true & kept, predicted & kept)


def raw_masks(gt: ArrayLike, pred: ArrayLike, foreground: ArrayLike | None = None) -> list[NDArray[np.uint8]]:
    """The arguments as uint8 [T, H, W], each value as it stands; foreground only if given.

    Raises:
        ValueError: The shapes differ, or a value is no whole number from 0 to 255.
    """
    given = {"gt": gt, "pred": pred} | ({} if foreground is None else {"foreground": foreground})
    arrays = {name: _frames(name, value) for name, value in given.items()}
    for name, array in arrays.items():
        if array.dtype in (bool, np.uint8) or not array.size:
            continue
        if not (array.min() >= 0 and array.max() <= 255):
            raise ValueError(f"{name} must hold 0 to 255, got {array.min()} to {array.max()}")
        if (np.mod(array, 1) != 0).any():
            raise ValueError(f"{name} must hold whole numbers from 0 to 255, got fractions")
    _same_shape(arrays)
    return [array.astype(np.uint8, copy=False) for array in arrays.values()]


def _frames(name: str, value: ArrayLike) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array of bool, 0/1 or 0/255, got dtype {array.dtype}")
    if array.ndim not in (2, 3):
        raise ValueError(f"{name} must be [T, H, W] or [H, W], got shape {array.shape}")
    if 0 in array.shape[-2:]:
        raise ValueError(f"{name} must have at least one pixel a frame, got shape {array.shape}")
    return array[None] if array.ndim == 2 else array


def _bool(name: str, value: ArrayLike, sums: bool = False) -> NDArray[np.bool_]:
    array = _frames(name, value)
    if array.dtype == bool or not array.size:
        return array.astype(bool, copy=False)
    if array.dtype == np.uint8:
        return _bytes_as_bool(name, array, sums)
    set_pixels = array != 0
    highest = array.max()
    if highest == 255:
        allowed = np.array_equal(set_pixels, array == 255)
    elif sums:
        allowed = (
            array.min() >= 0 and highest < 255 and (array.dtype.kind != "f" or not np.mod(array, 1).any())
        )
    else:
        allowed = np.array_equal(set_pixels, array == 1)
    if not allowed:
        _refuse(name, array)
    return set_pixels


def _bytes_as_bool(name: str, array: NDArray[np.uint8], sums: bool) -> NDArray[np.bool_]:
    """As `_bool`, without a comparison where the smallest and the largest value tell enough."""
    highest = array.max()
    if highest <= 1:
        return array.view(bool)
    if highest < 255 and sums:
        return array != 0
    negated = np.negative(array)  # 255 becomes 1, and whatever else is not 0 more than that
    if negated.max() > 1:
        _refuse(name, array)
    return negated.view(bool)


def _one_by_one(name: str, array: np.ndarray, sums: bool) -> Iterator[NDArray[np.bool_]]:
    if array.dtype != np.uint8:
        yield from _bool(name, array, sums)
        return
    written_as: set[bool] = set()  # whether as 255; all frames must agree
    for frame in array:
        highest = frame.max()
        if highest:
            written_as.add(bool(highest == 255))
        if len(written_as) > 1:
            _refuse(name, array)
        yield _bytes_as_bool(name, frame, sums)


def _refuse(name: str, array: np.ndarray) -> None:
    found = ", ".join(str(x) for x in np.unique(array)[:6])
    raise ValueError(f"{name} must hold bool, only 0 and 1, or only 0 and 255; got values such as {found}")


def _same_shape(arrays: dict[str, np.ndarray]) -> None:
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"masks must have one shape, got {shapes}")
