"""Two attention maps become one: smoothed, each on its own scale, laid over each other.

SteerSeg shows that both granularities are refined and joined; how, its sources do not say. The steps are
those of its closest relative, DecAF (arXiv 2510.19592), without the contrast with the background.

Shapes: K keyframes, t steps of the video stream, h w cells of the frame stream, h' w' of the video stream.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from visa.steerseg.maps import AttentionMaps

_log = logging.getLogger(__name__)

# What differs by less, relative to its size, is one value: rounding must not be stretched to a map.
FLAT = 1e-6


@dataclass(frozen=True)
class FusionSettings:
    """How maps are refined and joined. All are guesses where a preset says so.

    frame_weight: share [0, 1] of the frame stream; the video stream has the rest.
    frame_blur, video_blur: side of the Gaussian's window in cells, odd; 1 leaves the maps as they are.
    sigma: of the Gaussian, in cells.
    stretch: bring the joint map to [0, 1] once more, so that its highest cell is 1.

    Raises:
        ValueError: a value out of its range.
    """

    frame_weight: float
    frame_blur: int
    video_blur: int
    sigma: float
    stretch: bool

    def __post_init__(self) -> None:
        if not 0 <= self.frame_weight <= 1:
            raise ValueError(f"fusion.frame_weight must be in [0, 1], not {self.frame_weight}")
        for name, window in (("frame_blur", self.frame_blur), ("video_blur", self.video_blur)):
            if window < 1 or window % 2 == 0:
                raise ValueError(f"fusion.{name} must be odd and at least 1, not {window}")
        if self.sigma <= 0:
            raise ValueError(f"fusion.sigma must be above 0, not {self.sigma}")


def refine(maps: AttentionMaps, settings: FusionSettings) -> AttentionMaps:
    """Both streams blurred and brought to [0, 1]: each frame of the frame stream, the video as a whole.

    A map that is flat or not finite tells nothing: it becomes 0 everywhere, and the log says so.
    """
    frame = min_max(blur(finite(maps.frame), settings.frame_blur, settings.sigma), each_frame=True)
    video = min_max(blur(finite(maps.video), settings.video_blur, settings.sigma), each_frame=False)
    for name, stream, given in (("frame", frame, maps.frame), ("video", video, maps.video)):
        if given.numel() and not stream.any():
            _log.warning("the %s stream's attention is flat or not finite: it is left out", name)
    return replace(maps, frame=frame, video=video)


def fuse(refined: AttentionMaps, settings: FusionSettings) -> Tensor:
    """The joint map of every keyframe.

    Args:
        refined: of `refine`.

    Returns:
        float32 [K, h, w] in [0, 1], on the grid of the frame stream; 0 everywhere where both are flat.
    """
    num_keyframes, *grid = refined.frame.shape
    video = resize(spread(refined.video, refined.shows, num_keyframes), tuple(grid))
    joint = settings.frame_weight * refined.frame + (1 - settings.frame_weight) * video
    return min_max(joint, each_frame=False) if settings.stretch else joint


def finite(maps: Tensor) -> Tensor:
    """The same maps, with 0 wherever a whole map [n, h, w] holds a value that is not finite."""
    sound = maps.isfinite().flatten(1).all(1)
    return torch.where(sound[:, None, None], maps, torch.zeros_like(maps))


def blur(maps: Tensor, window: int, sigma: float) -> Tensor:
    """Gaussian blur of maps float [n, h, w]; beyond the edge the outermost cells repeat."""
    if window == 1 or not maps.numel():
        return maps
    reach = window // 2
    steps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = (-(steps**2) / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    padded = functional.pad(maps[:, None], (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, kernel[None, None, :, None])
    return functional.conv2d(rows, kernel[None, None, None, :])[:, 0]


def min_max(maps: Tensor, *, each_frame: bool) -> Tensor:
    """Maps float [n, h, w] on [0, 1]: the lowest cell is 0 and the highest 1; what is flat is 0.

    Args:
        each_frame: every map by its own extremes; otherwise all by those of all.
    """
    if not maps.numel():
        return maps
    over = (1, 2) if each_frame else (0, 1, 2)
    low, high = maps.amin(over, keepdim=True), maps.amax(over, keepdim=True)
    spread_of = high - low
    flat = spread_of <= FLAT * torch.maximum(high.abs(), low.abs())
    return torch.where(flat, torch.zeros_like(maps), (maps - low) / torch.where(flat, 1, spread_of))


def spread(video: Tensor, shows: Sequence[Sequence[int]], num_keyframes: int) -> Tensor:
    """Maps of steps float [t, h', w'] as maps of keyframes [K, h', w'], each that of the step it is in."""
    step_of = {keyframe: step for step, keyframes in enumerate(shows) for keyframe in keyframes}
    return video[[step_of[keyframe] for keyframe in range(num_keyframes)]]


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, maps float [n, h', w'] to [n, *size]; both grids cover the whole frame."""
    return functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
