"""Metrics over a set of images, of any sizes: gIoU and cIoU, and whether nothing was found where nothing is.

Source: Lai et al., "LISA: Reasoning Segmentation via Large Language Model", CVPR 2024 (gIoU, cIoU); Liu et
al., "GRES: Generalized Referring Expression Segmentation", CVPR 2023 (N-acc, T-acc).

Legend: N images, H W pixels. Every mask is [H, W] (or [T, H, W], as one) and holds bool, 0/1 or 0/255.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from visa.metrics.mask_input import binary_masks


def overlap(gt: ArrayLike, pred: ArrayLike, ignored: ArrayLike | None = None) -> tuple[int, int]:
    """Pixels of the intersection and of the union of two masks.

    Args:
        gt: True mask, [H, W]; it may be a sum of instances.
        pred: Predicted mask, of the same shape.
        ignored: Pixels to leave out, of the same shape.

    Raises:
        ValueError: The shapes differ, or a value is none of those allowed.
    """
    true, predicted, left_out = binary_masks(gt, pred, void=ignored)
    if left_out is not None:
        true, predicted = true & ~left_out, predicted & ~left_out
    return int(np.count_nonzero(true & predicted)), int(np.count_nonzero(true | predicted))


def mean_iou(
    gts: Iterable[ArrayLike], preds: Iterable[ArrayLike], ignored: Iterable[ArrayLike | None] | None = None
) -> float:
    """gIoU: the mean of every image's IoU, 1 where neither mask has a pixel.

    Args:
        gts: N true masks.
        preds: N predicted masks.
        ignored: N masks of pixels to leave out, or None.

    Raises:
        ValueError: There is no image, not as many predictions as images, or a mask that cannot be used.
    """
    counts = _overlaps(gts, preds, ignored)
    return float(np.mean([shared / union if union else 1.0 for shared, union in counts]))


def cumulative_iou(
    gts: Iterable[ArrayLike], preds: Iterable[ArrayLike], ignored: Iterable[ArrayLike | None] | None = None
) -> float:
    """cIoU: the sum of all intersections over the sum of all unions; 1 if no mask has a pixel.

    Args and Raises as for `mean_iou`.
    """
    counts = _overlaps(gts, preds, ignored)
    shared, union = (sum(column) for column in zip(*counts, strict=True))
    return shared / union if union else 1.0


def no_target_accuracy(gts: Iterable[ArrayLike], preds: Iterable[ArrayLike]) -> float:
    """N-acc: of the images in which there is nothing to find, the share in which nothing was found.

    Returns:
        In [0, 1]; NaN if there is something to find in every image.
    """
    return _share_of_empty(preds, [not np.any(gt) for gt in gts], empty=True)


def target_accuracy(gts: Iterable[ArrayLike], preds: Iterable[ArrayLike]) -> float:
    """T-acc: of the images in which there is something to find, the share in which something was found.

    Returns:
        In [0, 1]; NaN if there is nothing to find in any image.
    """
    return _share_of_empty(preds, [bool(np.any(gt)) for gt in gts], empty=False)


def _overlaps(gts, preds, ignored) -> list[tuple[int, int]]:
    gts, preds = list(gts), list(preds)
    ignored = [None] * len(gts) if ignored is None else list(ignored)
    if not gts or not len(gts) == len(preds) == len(ignored):
        raise ValueError(
            f"expected as many predictions as images, one at least; "
            f"got {len(gts)} images, {len(preds)} predictions and {len(ignored)} masks to ignore"
        )
    return [overlap(*masks) for masks in zip(gts, preds, ignored, strict=True)]


def _share_of_empty(preds: Iterable[ArrayLike], counted: Sequence[bool], *, empty: bool) -> float:
    preds = list(preds)
    if len(preds) != len(counted):
        raise ValueError(
            f"expected as many predictions as images, got {len(preds)} and {len(counted)} images"
        )
    right = [bool(np.any(pred)) != empty for pred, counts in zip(preds, counted, strict=True) if counts]
    return float(np.mean(right)) if right else float("nan")
