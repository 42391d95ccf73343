"""What is learnt from: frames with conversations about them, as a backbone packs them itself.

Legend: T frames shown, F frames drawn by SAM, N objects, H W pixels, S the side of SAM's input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.backbones.backbone import ChatTurn


@dataclass(frozen=True)
class GroundedVideo:
    """One video, or one picture, and what is said about it; goes into a `TrainingBatch`.

    name: says which sample it is, for messages.
    frames: uint8 [T, H, W, 3], references and then the target, on the CPU.
    conversations: each a sequence of its own about these frames.
    images_sam, drawn, input_size, masks: as of `TrainingVideo`; one object for each [SEG] of the
        conversations in order.
    """

    name: str
    frames: Tensor
    conversations: tuple[tuple[ChatTurn, ...], ...]
    images_sam: Tensor
    drawn: tuple[int, ...]
    input_size: tuple[int, int]
    masks: Tensor

    def to(self, device: torch.device | str) -> GroundedVideo:
        """What SAM sees and is to draw on a device; the frames stay until they are packed."""
        return replace(
            self,
            images_sam=self.images_sam.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True),
        )

    def pin_memory(self) -> GroundedVideo:
        """For a copy to the GPU that does not wait."""
        return replace(self, images_sam=self.images_sam.pin_memory(), masks=self.masks.pin_memory())
