"""Frames as SAM 2 takes them, without the library's processors, which need torchvision.

transformers' `Sam2ImageProcessor` and `Sam2VideoVideoProcessor` (5.17 to 5.23) stretch a frame to S x S,
bilinear and antialiased, round to whole values and normalise by ImageNet's mean and deviation; so does this,
on any device. Where torchvision resizes in whole numbers (CPUs with AVX2 alone) a value may differ by one of
255.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.image_input import resized_images
from model.sam.images import PIXEL_MEAN, PIXEL_STD


def stretched(frames: np.ndarray | Tensor, side: int, device: torch.device) -> Tensor:
    """The network's input.

    Args:
        frames: uint8 [T, H, W, 3], RGB, any size.
        side: S, in pixels.
        device: where to compute.

    Returns:
        float32 [T, 3, S, S] on the device.

    Raises:
        ValueError: another shape or dtype, or an empty frame.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(frames)) if isinstance(frames, np.ndarray) else frames
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != torch.uint8 or 0 in pixels.shape[1:]:
        raise ValueError(f"frames must be uint8 [T, H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    images = resized_images(pixels.to(device), (side, side)).round()
    mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / deviation
