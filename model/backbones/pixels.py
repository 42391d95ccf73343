"""Frames as vision towers take them: resized with PIL, then scaled and normalised.

The arithmetic of transformers' own image processors on PIL, for single pictures and for videos alike: its
video processors need torchvision, which interpolates otherwise and is not needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PixelSettings:
    """How pixels are made ready.

    mean, std: of the three channels, of values in [0, 1]. resample: PIL's filter.
    """

    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resample: int = Image.Resampling.BICUBIC

    def told(self, settings: Mapping[str, Any]) -> PixelSettings:
        """The same with what a model's ``preprocessor_config.json`` says."""
        return PixelSettings(
            tuple(settings.get("image_mean") or self.mean),
            tuple(settings.get("image_std") or self.std),
            int(settings.get("resample") or self.resample),
        )


def checked_frames(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 [T, H, W, 3], T >= 1.

    Raises:
        ValueError: another shape or dtype, or no pixel.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    return frames


def resized(frames: np.ndarray, height: int, width: int, resample: int) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] of another size: uint8 [T, height, width, 3]."""
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), resample)) for f in frames])


def normalised(frames: np.ndarray, settings: PixelSettings) -> Tensor:
    """Frames uint8 [T, H, W, 3] as a tower takes them: float32 [T, 3, H, W]."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(settings.mean)[:, None, None], torch.tensor(settings.std)[:, None, None]
    return (images - mean) / std
