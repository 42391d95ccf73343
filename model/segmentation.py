"""What a segmenter makes of frames and of prompts, whichever SAM it is; and masks as prompts.

Shapes: T frames, N objects, M masks of one object, C channels, H W pixels of the video, S side of the
network's input in pixels (1024 for the published SAMs).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.prompt import MaskPrompt

# Logits of a mask that is known: SAM 2's own for mask inputs (probability .00005 outside).
KNOWN_LOGIT = 10.0


@dataclass(frozen=True)
class FrameFeatures:
    """What an image encoder made of some frames of one video.

    Attributes:
        embedding: float [T, 256, S/16, S/16] over the network's input (64x64 for S = 1024); with
            `SamSegmenter(pad_input=False)`, [T, 256, h/16, w/16] over the frame alone, rounded up.
        levels: the encoder's inner maps. TinyViT's, over the frame alone, rounded up: [T, 64, h/4, w/4],
            [T, 128, h/8, w/8], [T, 160, h/16, w/16]; () for SAM's ViT encoders. SAM 2's, as its mask
            decoder takes them: [T, 32, S/4, S/4], [T, 64, S/8, S/8].
        input_size: (height, width) in pixels of the resized frame in the network's input: before padding for
            SAM, which keeps the frame's shape; (S, S) for SAM 2, which does not.
        original_size: (height, width) of the video, pixels.
    """

    embedding: Tensor
    levels: tuple[Tensor, ...]
    input_size: tuple[int, int]
    original_size: tuple[int, int]

    def __len__(self) -> int:
        return self.embedding.shape[0]

    def to_input(self, coordinates: Tensor) -> Tensor:
        """Coordinates [..., 2] (x, y) or [..., 4] (x0, y0, x1, y1) of the video to the network's input."""
        if coordinates.shape[-1] not in (2, 4):
            raise ValueError(f"coordinates must end in 2 or 4 values, got shape {list(coordinates.shape)}")
        scale = torch.tensor(
            [self.input_size[1] / self.original_size[1], self.input_size[0] / self.original_size[0]],
            dtype=torch.float32,
            device=coordinates.device,
        )
        return coordinates.float() * scale.repeat(coordinates.shape[-1] // 2)


@dataclass(frozen=True)
class MaskPrediction:
    """A mask decoder's answer.

    Attributes:
        mask_logits: float32 [N, M, S/4, S/4] over the network's input (256x256 for S = 1024); M = 3
            with `multimask`, else 1.
        iou: float32 [N, M], the decoder's own estimate of each mask's IoU.
        presence: float32 [N], SAM 2's logit that the object is in the frame at all; None for SAM.
    """

    mask_logits: Tensor
    iou: Tensor
    presence: Tensor | None = None


def mask_prompt(masks: Tensor, features: FrameFeatures, side: int) -> MaskPrompt:
    """Masks of the video as the prompt of its segmenter, ``KNOWN_LOGIT`` inside and its negative outside.

    Args:
        masks: bool [N, H, W] at the video's size.
        features: of the frame.
        side: S.

    Raises:
        ValueError: other masks than that.
    """
    if masks.dtype != torch.bool or masks.ndim != 3 or tuple(masks.shape[1:]) != features.original_size:
        height, width = features.original_size
        raise ValueError(
            f"masks must be bool [N, {height}, {width}] like the video, got {masks.dtype} {list(masks.shape)}"
        )
    height, width = features.input_size
    inside = masks[:, None].to(features.embedding.device, torch.float32)
    if len(inside):
        inside = _smooth(inside, (height, width))
        inside = functional.pad(inside, (0, side - width, 0, side - height))
        inside = _smooth(inside, (side // 4, side // 4))
    else:
        inside = inside.new_zeros(0, 1, side // 4, side // 4)
    return MaskPrompt((2 * inside - 1) * KNOWN_LOGIT)


def _smooth(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(masks, size, mode="bilinear", align_corners=False, antialias=True)
