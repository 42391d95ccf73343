"""Peaks of attention become places to ask SAM about.

Shapes: K keyframes, h w cells, N peaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class PointSettings:
    """Which cells are points. All are guesses where a preset says so.

    threshold: attention [0, 1] from which on a cell may be one.
    radius: cells around a point, diagonally too, in which no weaker one is taken; 0 takes every cell.
    per_frame: at most so many in a keyframe, the strongest.

    Raises:
        ValueError: a value out of its range.
    """

    threshold: float
    radius: int
    per_frame: int

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"points.threshold must be in [0, 1], not {self.threshold}")
        if self.radius < 0 or self.per_frame < 1:
            raise ValueError(
                f"points.radius must be at least 0 and points.per_frame at least 1, "
                f"not {self.radius} and {self.per_frame}"
            )


@dataclass(frozen=True)
class Peak:
    """A cell of a keyframe's map that stands out.

    keyframe: 0 <= keyframe < K. row, col: of the cell. value: attention there, [0, 1].
    """

    keyframe: int
    row: int
    col: int
    value: float

    def place(self, grid: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
        """(x, y) of the cell's centre in pixels of a frame of ``size`` (height, width), cut into ``grid``."""
        return (self.col + 0.5) / grid[1] * size[1], (self.row + 0.5) / grid[0] * size[0]


def find_peaks(attention: Tensor, settings: PointSettings) -> list[Peak]:
    """The peaks of every keyframe, the strongest first.

    Where no cell reaches the threshold, the single highest of all keyframes; none where nothing stands out
    anywhere, which is when the map is flat or not finite.

    Args:
        attention: float [K, h, w] in [0, 1].
    """
    usable = attention.isfinite().all() and attention.numel()
    if not usable or attention.max() <= attention.min():
        return []
    peaks = [peak for k, one in enumerate(attention) for peak in _peaks_of(k, one, settings)]
    return sorted(peaks, key=lambda peak: -peak.value) or [_highest(attention)]


def _peaks_of(keyframe: int, attention: Tensor, settings: PointSettings) -> Sequence[Peak]:
    """Those of one keyframe float [h, w], the strongest first. Of a plateau the first cells are taken."""
    window = 2 * settings.radius + 1
    around = functional.max_pool2d(attention[None], window, stride=1, padding=settings.radius)[0]
    cells = ((attention >= settings.threshold) & (attention >= around)).nonzero().tolist()
    cells.sort(key=lambda cell: -float(attention[cell[0], cell[1]]))
    peaks: list[Peak] = []
    for row, col in cells:
        if len(peaks) == settings.per_frame:
            break
        if all(max(abs(row - p.row), abs(col - p.col)) > settings.radius for p in peaks):
            peaks.append(Peak(keyframe, row, col, float(attention[row, col])))
    return peaks


def _highest(attention: Tensor) -> Peak:
    keyframe, row, col = (int(i) for i in torch.unravel_index(attention.argmax(), attention.shape))
    return Peak(keyframe, row, col, float(attention[keyframe, row, col]))
