"""Metrics of a whole track through a long video, in most of which the object is not to be seen.

Source: Liang et al., "Long-RVOS: A Comprehensive Benchmark for Long-term Referring Video Object
Segmentation", 2025 (arXiv 2505.12702).

Legend: T frames, H W pixels. Masks are [T, H, W] and hold bool, 0/1 or 0/255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visa.metrics.mask_input import binary_masks


def temporal_iou(gt: ArrayLike, pred: ArrayLike) -> float:
    """tIoU: the frames in which both masks have a pixel, of those in which either has; 1 if none has.

    Raises:
        ValueError: The shapes differ, or a value is none of those allowed.
    """
    true, predicted, _ = binary_masks(gt, pred)
    in_true, in_predicted = (masks.any(axis=(1, 2)) for masks in (true, predicted))
    return _of_frames_with_either(in_true, in_predicted, (in_true & in_predicted).sum())


def volume_iou(gt: ArrayLike, pred: ArrayLike) -> float:
    """vIoU: the sum of the frames' IoUs over the number of frames with a pixel in either mask; 1 if none.

    Raises:
        ValueError: The shapes differ, or a value is none of those allowed.
    """
    true, predicted, _ = binary_masks(gt, pred)
    in_true, in_predicted = (masks.any(axis=(1, 2)) for masks in (true, predicted))
    shared = np.count_nonzero(true & predicted, axis=(1, 2))
    union = np.count_nonzero(true | predicted, axis=(1, 2))
    return _of_frames_with_either(in_true, in_predicted, (shared / np.maximum(union, 1)).sum())


def _of_frames_with_either(first: NDArray[np.bool_], second: NDArray[np.bool_], value: float) -> float:
    either = np.count_nonzero(first | second)
    return float(value / either) if either else 1.0
