"""From the [SEG] head to a mask: how SAM is prompted, and which of its candidates is believed."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from model.mllm.mllm import MLLM, Answer, Reading
from model.prompt import BoxPrompt, EmbeddingPrompt, MaskPrompt
from model.sam.segmenter import FrameFeatures, SamSegmenter

SAM_STRIDE = 16
GRID = 64  # cells along each side of SAM's padded input
LOW_RES = 256  # pixels along each side of its mask logits


@dataclass(frozen=True)
class DrawnMasks:
    """masks: bool [N, H, W] at the video's size; heat_logits: float [N, h, w] on SAM's unpadded grid."""

    masks: np.ndarray
    heat_logits: torch.Tensor


def unpadded_features(features: FrameFeatures, frame_index: int = 0) -> torch.Tensor:
    """SAM's features [256, h, w] of one frame without the padding below or right of it."""
    rows, cols = (-(-size // SAM_STRIDE) for size in features.input_size)
    return features.embedding[frame_index, :, :rows, :cols].float()


def heat_to_mask_prompt(heat_logits: torch.Tensor) -> MaskPrompt:
    """Heat [N, h, w] over the unpadded grid as SAM's mask prompt [N, 1, 256, 256]; padding is outside."""
    rows, cols = heat_logits.shape[-2:]
    padded = functional.pad(heat_logits, (0, GRID - cols, 0, GRID - rows), value=-8.0)
    return MaskPrompt(
        functional.interpolate(padded[:, None], (LOW_RES, LOW_RES), mode="bilinear", align_corners=False)
    )


@dataclass(frozen=True)
class MaskDrawing:
    """Prompts SAM with what the [SEG] head found.

    First pass: prompt embedding and heat map, with the decoder tuned for them. Then ``refinements`` passes in
        which the
    mask's own box, and the mask itself, prompt SAM again.
    """

    sam: SamSegmenter
    refinements: int = 1

    def draw(self, mllm: MLLM, reading: Reading, answer: Answer, features: FrameFeatures) -> DrawnMasks:
        """Masks of the answer's [SEG] tokens on the target frame that ``features`` are of."""
        grounding = mllm.ground(reading, answer, unpadded_features(features))
        logits = self.sam.decode(
            features,
            [EmbeddingPrompt(grounding.embeddings), heat_to_mask_prompt(grounding.heat_logits)],
        ).mask_logits
        for _ in range(self.refinements):
            logits = self._refine(logits, features)
        masks = self.sam.to_frame(logits, features)[:, 0] > 0
        return DrawnMasks(masks.cpu().numpy(), grounding.heat_logits)

    def _refine(self, logits: torch.Tensor, features: FrameFeatures) -> torch.Tensor:
        """Prompt SAM with the box of each mask; a mask without pixels stays as it is."""
        boxes, some = mask_boxes(logits[:, 0] > 0)
        if not some.any():
            return logits
        scale = self.sam.sam.image_size / LOW_RES
        again = self.sam.decode(features, [BoxPrompt(boxes * scale), MaskPrompt(logits)]).mask_logits
        return torch.where(some[:, None, None, None], again, logits)


def mask_boxes(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes float [N, 4] (x0, y0, x1, y1; x1 and y1 one past the mask) of bool [N, H, W]; bool [N]: any pixel."""
    boxes = torch.zeros(len(masks), 4)
    some = masks.flatten(1).any(1)
    for index, mask in enumerate(masks):
        if some[index]:
            rows, cols = mask.any(1).nonzero(), mask.any(0).nonzero()
            boxes[index] = torch.stack([cols[0, 0], rows[0, 0], cols[-1, 0] + 1, rows[-1, 0] + 1]).float()
    return boxes, some
