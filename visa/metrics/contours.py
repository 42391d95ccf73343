"""Contour accuracy F.

The definition asks, for every boundary pixel, whether the other boundary comes within a radius. Here eight
rows of the frame share a byte (`bit_planes`), the boundary is widened by the disc in few steps (`disc`), and
only the part of the frame that holds something is looked at.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR
2016.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visa.metrics.bit_planes import BitPlanes
from visa.metrics.disc import MAX_STEPPED_RADIUS, within
from visa.metrics.mask_input import binary_frames


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
    height, width = np.asarray(gt).shape[-2:] if np.ndim(gt) >= 2 else (1, 1)  # else it is refused below
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.sqrt(height**2 + width**2))
    radius = min(radius, height + width)  # no two pixels are farther apart
    values = [_contour_f(true, predicted, radius) for true, predicted in binary_frames(gt, pred, void)]
    return np.array(values, dtype=np.float64)


def _contour_f(true: NDArray[np.bool_], predicted: NDArray[np.bool_], radius: float) -> float:
    """F of one frame: bool [H, W] each; radius in pixels."""
    rows = _rows_with_pixels(true, predicted)
    if rows is None:
        return 1.0
    margin = math.floor(radius) if radius <= MAX_STEPPED_RADIUS else 0
    boundaries = [planes.boundary() for planes in BitPlanes.pack_alike([true[rows], predicted[rows]], margin)]
    num_true, num_predicted = (boundary.count() for boundary in boundaries)
    if not num_true and not num_predicted:
        return 1.0
    if not num_true or not num_predicted:
        return 0.0
    near_true, near_predicted = (within(boundary, radius) for boundary in boundaries)
    recall = boundaries[0].count(near_predicted) / num_true
    precision = boundaries[1].count(near_true) / num_predicted
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _rows_with_pixels(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> slice | None:
    """The rows that hold both masks, and one more on either side: boundaries run along the row above."""
    rows = np.flatnonzero(
        np.maximum.reduce(first.view(np.uint8), axis=1) | np.maximum.reduce(second.view(np.uint8), axis=1)
    )
    return slice(max(rows[0] - 1, 0), rows[-1] + 2) if rows.size else None
