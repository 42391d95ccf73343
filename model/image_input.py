"""Frames as the vision tower's networks take them, before each one's own normalisation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def resized_images(frames: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Frames to images, resized (bilinear, antialiased).

    Args:
        frames: uint8 or float [0, 255], [T, H, W, 3], RGB.
        size: (height, width); None keeps the size.

    Returns:
        float32 [T, 3, H, W], 0..255.

    Raises:
        ValueError: frames of another shape.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be [T, H, W, 3], got {list(frames.shape)}")
    images = frames.permute(0, 3, 1, 2).float()
    if size is not None and size != tuple(images.shape[-2:]):
        images = functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    return images
