"""How well an attention map shows where a thing is: figures without a threshold to tune.

Needs numpy alone, so that curves can be drawn anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np

# What differs by less, relative to its size, is one value: rounding must not be stretched to a map.
FLAT = 1e-6


@dataclass(frozen=True)
class MapQuality:
    """How a map agrees with a mask; all in [0, 1], higher is better.

    iou: of the map, brought to [0, 1], and the mask as soft sets: sum of minima by sum of maxima.
    auc: how probably a point in the mask is hotter than one outside; 0.5 is chance.
    peak: how much of the hottest cell the mask covers, relative to the cell it covers most.
    """

    iou: float
    auc: float
    peak: float


def map_quality(attention: np.ndarray, mask: np.ndarray) -> MapQuality:
    """Quality of one map.

    Args:
        attention: float, any shape (one frame's cells, or a clip's), on any scale.
        mask: float of the same shape, share [0, 1] of each cell that the thing covers; not empty and not all.

    Raises:
        ValueError: other shapes, a map that is not finite, or a mask that covers nothing or everything.
    """
    attention, mask = np.asarray(attention, np.float64).ravel(), np.asarray(mask, np.float64).ravel()
    if attention.shape != mask.shape or not attention.size:
        raise ValueError(f"a map and its mask are of one size, not {attention.size} and {mask.size} cells")
    if not np.isfinite(attention).all():
        raise ValueError("a map must be finite")
    if not 0 < mask.mean() < 1 or mask.min() < 0 or mask.max() > 1:
        raise ValueError("a mask covers shares [0, 1] of the cells, something and not everything")
    low, high = attention.min(), attention.max()
    flat = high - low <= FLAT * max(abs(high), abs(low))
    stretched = np.zeros_like(attention) if flat else (attention - low) / (high - low)
    iou = np.minimum(stretched, mask).sum() / np.maximum(stretched, mask).sum()
    peak = mask.mean() if flat else mask[stretched.argmax()]
    return MapQuality(float(iou), 0.5 if flat else _auc(stretched, mask), float(peak / mask.max()))


def _auc(heat: np.ndarray, mask: np.ndarray) -> float:
    """Area under the ROC curve where a cell counts inside by its share of the mask, outside by the rest."""
    values, place = np.unique(heat, return_inverse=True)
    inside = np.bincount(place, mask, len(values))
    outside = np.bincount(place, 1 - mask, len(values))
    colder = np.cumsum(outside) - outside
    return float((inside * (colder + outside / 2)).sum() / (inside.sum() * outside.sum()))


def mean_quality(qualities: Iterable[MapQuality]) -> MapQuality:
    """The mean of each figure; not numbers where there are none."""
    rows = np.array([astuple(quality) for quality in qualities])
    return MapQuality(*(rows.mean(axis=0).tolist() if len(rows) else [float("nan")] * 3))
