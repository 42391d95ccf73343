"""Getting frames and masks to the size XMem works at, and its answers back.

Shapes: B batch, N objects, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
STRIDE = 16


def normalise(frames: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] RGB -> float32 [..., 3, H, W], ImageNet-normalised."""
    mean = torch.tensor(IMAGE_MEAN, device=frames.device)
    std = torch.tensor(IMAGE_STD, device=frames.device)
    return ((frames.float() / 255 - mean) / std).movedim(-1, -3)


def working_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) at which a video is tracked: shorter side ``short_side``, longer side rounded down.

    ``short_side=None``, and a video that has that size already, stay as they are.
    """
    if short_side is None or short_side == min(height, width):
        return height, width
    long_side = int(short_side * max(height, width) / min(height, width))
    return (short_side, long_side) if height <= width else (long_side, short_side)


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centres, no antialias: what VISA's pinned torchvision does. float [B, C, H, W]."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest neighbour, float or bool [N, H, W] -> float32 [N, *size]."""
    masks = masks.float()
    if tuple(masks.shape[-2:]) == size:
        return masks
    return functional.interpolate(masks[None], size=size, mode="nearest")[0]


def padding_for(height: int, width: int, multiple: int = STRIDE) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) zeros that make both sides multiples; half, rounded down, top and left."""
    missing_rows, missing_columns = -height % multiple, -width % multiple
    left, top = missing_columns // 2, missing_rows // 2
    return left, missing_columns - left, top, missing_rows - top


def unpad(maps: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Cut ``padding_for``'s zeros off [..., H, W]."""
    left, right, top, bottom = padding
    return maps[..., top : maps.shape[-2] - bottom, left : maps.shape[-1] - right]
