"""Frames as SAM's image encoders take them; no network is needed, so that worker processes can prepare them.

Kirillov et al. 2023 as the `segment-anything` package does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def input_size(original_size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of a frame once its longer side is `side` pixels, at least one pixel each."""
    height, width = original_size
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resized(frames: np.ndarray, side: int) -> np.ndarray:
    """Frames with the longer side at `side` pixels, bilinear and antialiased.

    Args:
        frames: uint8 [T, H, W, 3], RGB.

    Returns:
        uint8 [T, h, w, 3].

    Raises:
        ValueError: another shape or dtype, or an empty frame.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:]:
        raise ValueError(f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    height, width = input_size(frames.shape[1:3], side)
    smaller = np.empty((len(frames), height, width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        smaller[index] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return smaller


class SamImages:
    """Resizes, normalises and pads frames on the right and below.

    Args:
        side: S, the side of SAM's input in pixels.
    """

    def __init__(self, side: int = 1024):
        self.side = side
        self._mean = torch.tensor(PIXEL_MEAN).view(3, 1, 1)
        self._std = torch.tensor(PIXEL_STD).view(3, 1, 1)

    def __call__(self, frames: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        """Inputs of SAM's image encoder, float32 [T, 3, S, S] on the CPU.

        Args:
            frames: uint8 [T, H, W, 3], RGB.

        Raises:
            ValueError: another shape or dtype, or an empty frame.
        """
        small = resized(np.asarray(frames), self.side)
        images = (torch.from_numpy(small).permute(0, 3, 1, 2) - self._mean) / self._std
        height, width = images.shape[-2:]
        return functional.pad(images, (0, self.side - width, 0, self.side - height))
