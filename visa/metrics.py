"""The field's mask metrics: region similarity J, contour accuracy F, pixel accuracy A and robustness R.

Legend: T frames, H W pixels. Every mask is [T, H, W] or [H, W], and holds bool, 0/1 or 0/255; every result is
float64 [T], one value a frame ([1] for a single [H, W] mask). Values are fractions, not percent.

J and F are those of Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016; A and R those of VISA's evaluation (Yan et al., "VISA: Reasoning Video Object
Segmentation via Large Language Models", ECCV 2024), R after Li et al., "Towards Robust Referring Video Object
Segmentation with Cyclic Relational Consensus", ICCV 2023.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["contour_accuracy", "pixel_accuracy", "region_similarity", "robustness"]

_WORD = 64  # contours are compared 64 pixels at a time, one bit a pixel


def region_similarity(gt: ArrayLike, pred: ArrayLike, void: ArrayLike | None = None) -> NDArray[np.float64]:
    """Region similarity J: intersection over union of the two masks.

    Args:
        gt: True mask, [T, H, W] or [H, W]. It may also be a sum of overlapping instances (0, 1, 2, ...),
            which is clipped to 1.
        pred: Predicted mask, of the same shape.
        void: Pixels to leave out, of the same shape.

    Returns:
        float64 [T] in [0, 1]. 1 where neither mask has a pixel.

    Raises:
        ValueError: The shapes differ, or a value is none of those above.
    """
    true, predicted, ignored = _masks(gt, pred, void)
    if ignored is not None:
        true, predicted = true & ~ignored, predicted & ~ignored
    intersection = np.count_nonzero(true & predicted, axis=(1, 2))
    union = np.count_nonzero(true | predicted, axis=(1, 2))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def contour_accuracy(
    gt: ArrayLike, pred: ArrayLike, void: ArrayLike | None = None, tolerance: float = 0.008
) -> NDArray[np.float64]:
    """Contour accuracy F: harmonic mean of the precision and recall of the mask's boundary.

    A boundary pixel differs from its neighbour to the right, below or below right. It is matched if the other
    boundary has a pixel within `tolerance` (Euclidean). The frame's own border is no boundary, so a mask that
    fills the frame has none.

    Args:
        gt: True mask, [T, H, W] or [H, W]. It may also be a sum of overlapping instances (0, 1, 2, ...),
            which is clipped to 1.
        pred: Predicted mask, of the same shape.
        void: Pixels to leave out, of the same shape: they belong to neither mask.
        tolerance: Below 1, a fraction of the frame's diagonal, rounded up to whole pixels; from 1 on, pixels.

    Returns:
        float64 [T] in [0, 1]. 1 where neither mask has a boundary, 0 where only one has.

    Raises:
        ValueError: The shapes differ, a value is none of those above, or the tolerance is negative.
    """
    if not tolerance >= 0 or math.isinf(tolerance):
        raise ValueError(
            "tolerance must be 0 or more: a fraction of the diagonal below 1, pixels from 1 on; "
            f"got {tolerance}"
        )
    true, predicted, ignored = _masks(gt, pred, void)
    if ignored is not None:
        true, predicted = true & ~ignored, predicted & ~ignored
    height, width = true.shape[1:]
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.sqrt(height**2 + width**2))
    radius = min(radius, height + width)  # no two pixels are farther apart
    return np.array(
        [_contour_f(a, b, radius) for a, b in zip(true, predicted, strict=True)], dtype=np.float64
    )


def pixel_accuracy(gt: ArrayLike, pred: ArrayLike, legacy: bool = False) -> NDArray[np.float64]:
    """Pixel accuracy A: the fraction of pixels on which the two masks agree.

    Args:
        gt: True mask, [T, H, W] or [H, W].
        pred: Predicted mask, of the same shape.
        legacy: Compare raw uint8 values, as VISA's script does: a found pixel written as 255 is not 1, so it
            counts as wrong, and so does one where two summed instances overlap. For comparison with published
            columns only.

    Returns:
        float64 [T] in [0, 1].

    Raises:
        ValueError: The shapes differ, or a value is none of those above.
    """
    true, predicted = _raw(gt, pred) if legacy else _masks(gt, pred)[:2]
    return np.count_nonzero(true == predicted, axis=(1, 2)) / np.float64(true.shape[1] * true.shape[2])


def robustness(
    gt: ArrayLike, pred: ArrayLike, foreground: ArrayLike, legacy: bool = False
) -> NDArray[np.float64]:
    """Robustness R: 1 less the wrongly found pixels, measured in pixels of the frame's foreground.

    R = max(0, 1 - |pred and not gt| / (|foreground| + 1e-6)).

    Args:
        gt: True mask, [T, H, W] or [H, W]; all zero where the question's object is absent.
        pred: Predicted mask, of the same shape.
        foreground: Union of all annotated objects, of the same shape.
        legacy: Compute on raw uint8 values, as VISA's script does: predictions written as 255 count 255
            times, and where two summed instances overlap 1 - 2 wraps to 255. For comparison with published
            columns only.

    Returns:
        float64 [T] in [0, 1].

    Raises:
        ValueError: The shapes differ, or a value is none of those above.
    """
    if legacy:
        true, predicted, whole = _raw(gt, pred, foreground)
        wrong = ((np.uint8(1) - true) * predicted).sum(axis=(1, 2), dtype=np.float64)
        size = whole.sum(axis=(1, 2), dtype=np.float64)
    else:
        true, predicted, whole = _masks(gt, pred, foreground=foreground)
        wrong = np.count_nonzero(predicted & ~true, axis=(1, 2)).astype(np.float64)
        size = np.count_nonzero(whole, axis=(1, 2)).astype(np.float64)
    return np.maximum(1.0 - wrong / (size + 1e-6), 0.0)


def _masks(gt, pred, void=None, foreground=None):
    """Checks the arguments; returns gt, pred and void or foreground (None if neither) as bool [T, H, W]."""
    true = _bool("gt", gt, sums=True)
    predicted = _bool("pred", pred)
    name, extra = ("void", void) if void is not None else ("foreground", foreground)
    third = None if extra is None else _bool(name, extra, sums=name == "foreground")
    _same_shape({"gt": true, "pred": predicted, **({} if third is None else {name: third})})
    return true, predicted, third


def _raw(gt, pred, foreground=None):
    """The arguments as uint8 [T, H, W], each value as it stands; foreground only if given."""
    given = {"gt": gt, "pred": pred} | ({} if foreground is None else {"foreground": foreground})
    arrays = {name: _frames(name, value) for name, value in given.items()}
    for name, array in arrays.items():
        if array.dtype == bool or not array.size:
            continue
        if not (array.min() >= 0 and array.max() <= 255):
            raise ValueError(f"{name} must hold 0 to 255, got {array.min()} to {array.max()}")
        if (np.mod(array, 1) != 0).any():
            raise ValueError(f"{name} must hold whole numbers from 0 to 255, got fractions")
    _same_shape(arrays)
    return [array.astype(np.uint8) for array in arrays.values()]


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
        found = ", ".join(str(x) for x in np.unique(array)[:6])
        raise ValueError(
            f"{name} must hold bool, only 0 and 1, or only 0 and 255; got values such as {found}"
        )
    return set_pixels


def _same_shape(arrays: dict[str, np.ndarray]) -> None:
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"masks must have one shape, got {shapes}")


def _contour_f(true: NDArray[np.bool_], predicted: NDArray[np.bool_], radius: float) -> float:
    """F of one frame: bool [H, W] each; radius in pixels."""
    either = true | predicted
    rows = np.flatnonzero(either.any(axis=1))
    if not rows.size:
        return 1.0
    columns = np.flatnonzero(either.any(axis=0))
    # a pixel more on every side: an object's boundary runs along the pixels above and to the left of it, too
    window = np.s_[max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    boundaries = _boundaries(*_packed(np.stack([true[window], predicted[window]]), math.floor(radius)))
    sizes = np.bitwise_count(boundaries).sum(axis=(1, 2), dtype=np.int64)
    if not sizes.any():
        return 1.0
    if not sizes.all():
        return 0.0
    near = _dilated(boundaries, radius)
    # row 0: true boundary near the predicted one (recall); row 1: the other way about (precision)
    matched = np.bitwise_count(boundaries & near[::-1]).sum(axis=(1, 2), dtype=np.int64)
    recall, precision = (matched / sizes).tolist()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _packed(masks: NDArray[np.bool_], margin: int) -> tuple[NDArray[np.uint64], int]:
    """Packs bool [N, H, W] to uint64 [N, H, words], pixel x in bit x, each row followed by zero bits.

    There are more than `margin` of them, so a row can be shifted that far as one with its neighbours: what
    leaves it lands in a margin.
    """
    num_masks, height, width = masks.shape
    words = (width + margin + 1 + _WORD - 1) // _WORD
    packed = np.zeros((num_masks, height, words * _WORD // 8), dtype=np.uint8)
    bits = np.packbits(masks, axis=2, bitorder="little")
    packed[:, :, : bits.shape[2]] = bits
    return packed.view("<u8").astype(np.uint64, copy=False), width


def _boundaries(masks: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    """Pixels that differ from the one to the right, below, or below right; uint64 [N, H, words]."""
    columns = np.arange(masks.shape[2] * _WORD)
    inside, last_column = (
        np.packbits(chosen, bitorder="little").view("<u8").astype(np.uint64)
        for chosen in (columns < width, columns == width - 1)
    )
    # beyond the frame its last row and column go on, so the frame's border is no boundary
    below = np.concatenate([masks[:, 1:], masks[:, -1:]], axis=1)
    right = _shifted(masks, -1) | (masks & last_column)
    below_right = _shifted(below, -1) | (below & last_column)
    return ((masks ^ right) | (masks ^ below) | (masks ^ below_right)) & inside


def _dilated(masks: NDArray[np.uint64], radius: float) -> NDArray[np.uint64]:
    """Dilation by a disc, x^2 + y^2 <= radius^2, valid within the frame; the margins hold spill."""
    height = masks.shape[1]
    dilated = np.zeros_like(masks)
    run, half_width = masks, 0
    for dy in range(math.floor(radius), -1, -1):
        # the disc's rows widen towards its middle, so each row's run grows from the last one
        wanted = math.isqrt(math.floor(radius**2 - dy**2))
        while half_width < wanted:
            # a run shifted by no more than its half width leaves no gap
            step = min(wanted - half_width, max(half_width, 1), _WORD - 1)
            run = run | _shifted(run, step) | _shifted(run, -step)
            half_width += step
        if dy < height:
            dilated[:, dy:] |= run[:, : height - dy]
            dilated[:, : height - dy] |= run[:, dy:]
    return dilated


def _shifted(bits: NDArray[np.uint64], step: int) -> NDArray[np.uint64]:
    """Every pixel moved by `step` columns (x to x + step), from its row into the margin beside it."""
    here, carried = np.uint64(abs(step)), np.uint64(_WORD - abs(step))
    if step > 0:
        shifted = bits << here
        shifted.reshape(-1)[1:] |= bits.reshape(-1)[:-1] >> carried
    else:
        shifted = bits >> here
        shifted.reshape(-1)[:-1] |= bits.reshape(-1)[1:] << carried
    return shifted
