"""Region similarity J, pixel accuracy A and robustness R.

J after Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR
2016; A and R as in VISA's evaluation (Yan et al., "VISA: Reasoning Video Object Segmentation via Large
Language Models", ECCV 2024), R after Li et al., "Towards Robust Referring Video Object Segmentation with
Cyclic Relational Consensus", ICCV 2023.

Legend: T frames, H W pixels. Every mask is [T, H, W] or [H, W], and holds bool, 0/1 or 0/255; every result is
float64 [T], one value a frame ([1] for a single [H, W] mask).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visa.metrics.mask_input import binary_masks, raw_masks


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
    true, predicted, ignored = binary_masks(gt, pred, void=void)
    if ignored is not None:
        true, predicted = true & ~ignored, predicted & ~ignored
    intersection = np.count_nonzero(true & predicted, axis=(1, 2))
    union = np.count_nonzero(true | predicted, axis=(1, 2))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


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
    true, predicted = raw_masks(gt, pred) if legacy else binary_masks(gt, pred)[:2]
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
        true, predicted, whole = raw_masks(gt, pred, foreground)
        wrong = ((np.uint8(1) - true) * predicted).sum(axis=(1, 2), dtype=np.float64)
        size = whole.sum(axis=(1, 2), dtype=np.float64)
    else:
        true, predicted, whole = binary_masks(gt, pred, foreground=foreground)
        wrong = np.count_nonzero(predicted & ~true, axis=(1, 2)).astype(np.float64)
        size = np.count_nonzero(whole, axis=(1, 2)).astype(np.float64)
    return np.maximum(1.0 - wrong / (size + 1e-6), 0.0)
