"""Metrics of a whole track through a long video, in most of which the object is not to be seen.

Source: Liang et al., "Long-RVOS: A Comprehensive Benchmark for Long-term Referring Video Object
Segmentation", 2025 (arXiv 2505.12702).

Legend: T frames, H W pixels. Masks are [T, H, W] and hold bool, 0/1 or 0/255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visa.metrics.mask_input import binary_masks
from visa.metrics.regions import region_similarity


def temporal_iou(gt: ArrayLike, pred: ArrayLike) -> float:
    """tIoU: the frames in which both masks have a pixel, of those in which either has; 1 if none has.

    Raises:
        ValueError: The shapes differ, or a value is none of those allowed.
    """
    return temporal_and_volume_iou(*_frames_of(gt, pred))[0]


def volume_iou(gt: ArrayLike, pred: ArrayLike) -> float:
    """vIoU: the sum of the frames' IoUs over the number of frames with a pixel in either mask; 1 if none.

    Raises:
        ValueError: The shapes differ, or a value is none of those allowed.
    """
    return temporal_and_volume_iou(*_frames_of(gt, pred))[1]


def temporal_and_volume_iou(
    in_true: NDArray[np.bool_], in_predicted: NDArray[np.bool_], ious: NDArray[np.float64]
) -> tuple[float, float]:
    """tIoU and vIoU of a video that was looked at frame by frame.

    Args:
        in_true: Whether the true mask has a pixel, bool [T].
        in_predicted: The same of the predicted one.
        ious: Each frame's region similarity, float [T]; of no matter where one has no pixel.
    """
    both, either = in_true & in_predicted, np.count_nonzero(in_true | in_predicted)
    if not either:
        return 1.0, 1.0
    return float(np.count_nonzero(both) / either), float(ious[both].sum() / either)


def _frames_of(gt: ArrayLike, pred: ArrayLike):
    true, predicted, _ = binary_masks(gt, pred)
    in_true, in_predicted = (masks.any(axis=(1, 2)) for masks in (true, predicted))
    return in_true, in_predicted, region_similarity(true, predicted)
