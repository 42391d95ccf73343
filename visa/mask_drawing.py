"""From the [SEG] head to a mask: how SAM is prompted, and which of its candidates is believed.

A decoder tuned for it draws a mask from the prompt embedding and the heat map. That mask is never far off
but often rough; SAM's answers to points and boxes are crisp but may be of a part, or of something else. So
SAM as published is asked at the heat's peaks and for the boxes of heat and mask, and the candidate wins that
agrees best with the heat and is most of one piece, as things mostly are.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional

from model.mllm.mllm import MLLM, Answer, Reading
from model.prompt import BoxPrompt, EmbeddingPrompt, MaskPrompt, PointPrompt
from model.sam.segmenter import FrameFeatures, SamSegmenter

SAM_STRIDE = 16
GRID = 64  # cells along each side of SAM's padded input
LOW_RES = 256  # pixels along each side of its mask logits
PIXELS_PER_LOW_RES = 4
RELATIVE_TEMPERATURE = 2.0  # a place this many logits cooler than the hottest counts e times less
PEAK_WINDOW = 17  # low-resolution pixels; a peak is the highest point of the window around it


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

    Args:
        sam: as published.
        tuned: the same with a decoder tuned for embedding and heat.
        num_peaks: points of the heat map that SAM is asked about; 0 believes the tuned decoder alone.
        quality_weight: what SAM's own estimate of a mask's quality counts beside agreement with the heat.
        own_bonus: what the tuned decoder's own mask is ahead by.
        piece_weight: what the share of a mask in its largest piece counts beside agreement with the heat.
    """

    sam: SamSegmenter
    tuned: SamSegmenter
    num_peaks: int = 6
    quality_weight: float = 0.6
    own_bonus: float = 0.0
    piece_weight: float = 0.0

    def draw(self, mllm: MLLM, reading: Reading, answer: Answer, features: FrameFeatures) -> DrawnMasks:
        """Masks of the answer's [SEG] tokens on the target frame that ``features`` are of."""
        grounding = mllm.ground(reading, answer, unpadded_features(features))
        prompts = heat_to_mask_prompt(grounding.heat_logits)
        own = self.tuned.decode(features, [EmbeddingPrompt(grounding.embeddings), prompts]).mask_logits
        chosen = [
            self._best_candidate(own[n : n + 1], heat, features) if self.num_peaks else own[n : n + 1]
            for n, heat in enumerate(prompts.mask_logits)
        ]
        masks = self.sam.to_frame(torch.cat(chosen), features)[:, 0] > 0
        return DrawnMasks(masks.cpu().numpy(), grounding.heat_logits)

    def _best_candidate(self, own: torch.Tensor, heat: torch.Tensor, features: FrameFeatures) -> torch.Tensor:
        """The candidate [1, 1, 256, 256] that agrees best with the heat [1, 256, 256]."""
        candidates, quality = [own[0]], [torch.full((1,), self.own_bonus, device=own.device)]
        boxes, some = mask_boxes(torch.cat([own[0] > 0, heat > 0]))
        prompts = [PointPrompt(*self._peaks(heat[0], features))]
        if some.any():
            prompts.append(BoxPrompt(boxes[some] * PIXELS_PER_LOW_RES))
        for prompt in prompts:
            for multimask in (False, True):
                drawn = self.sam.decode(features, prompt, multimask=multimask)
                candidates.append(drawn.mask_logits.flatten(0, 1))
                quality.append(drawn.iou.flatten() * self.quality_weight)
        logits = torch.cat(candidates)
        height, width = self._visible(features)
        seen = slice(None), slice(height), slice(width)
        score = agreement(logits[seen] > 0, heat[seen][0]) + torch.cat(quality).to(logits.device)
        if self.piece_weight:
            score = score + self.piece_weight * largest_pieces(logits[seen] > 0)
        return logits[score.argmax()][None, None]

    @staticmethod
    def _visible(features: FrameFeatures) -> tuple[int, int]:
        """Height and width of the frame on SAM's low-resolution masks, without the padding."""
        return tuple(max(1, size // PIXELS_PER_LOW_RES) for size in features.input_size)

    def _peaks(self, heat: torch.Tensor, features: FrameFeatures) -> tuple[torch.Tensor, torch.Tensor]:
        """The heat map's highest local maxima as points [K, 1, 2] (x, y) of SAM's input and labels [K, 1]."""
        height, width = self._visible(features)
        inside = heat[None, None, :height, :width]
        smooth = functional.avg_pool2d(inside, 5, stride=1, padding=2, count_include_pad=False)
        # Of a flat top one point is enough; without this slope all of it would be peaks.
        smooth = smooth - torch.arange(height * width, device=heat.device).view_as(smooth) * 1e-6
        highest = functional.max_pool2d(smooth, PEAK_WINDOW, stride=1, padding=PEAK_WINDOW // 2)
        values = smooth.masked_fill(smooth < highest, -torch.inf).flatten()
        top = values.topk(min(self.num_peaks, len(values)))
        kept = top.indices[top.values > -torch.inf]
        points = torch.stack([kept % width, kept // width], dim=-1).float() + 0.5
        return (points * PIXELS_PER_LOW_RES)[:, None], torch.ones(len(kept), 1, device=heat.device)


def agreement(masks: torch.Tensor, heat_logits: torch.Tensor) -> torch.Tensor:
    """How well masks and heat agree over the frame, in [-1, 1].

    The mean of two Pearson correlations: with the heat's logits, and with how hot each place is relative to
    the hottest, which tells the thing meant from the next likely one. Neither depends on how hot it is as a
    whole: that changes with the question far more than the shape of the heat does.

    Args:
        masks: bool [C, h, w]. heat_logits: float [h, w].

    Returns:
        float [C]; 0 for a mask that is empty or fills the frame.
    """
    shares = masks.flatten(1).float()
    mean = shares.mean(1, keepdim=True)
    spread = (mean * (1 - mean)).sqrt().clamp(min=1e-3)
    total = torch.zeros(len(masks), device=masks.device)
    relative = ((heat_logits - heat_logits.max()) / RELATIVE_TEMPERATURE).exp()
    for heat in (heat_logits.flatten(), relative.flatten()):
        standardised = (heat - heat.mean()) / heat.std(correction=0).clamp(min=1e-6)
        total = total + ((shares - mean) / spread * standardised).mean(1)
    return total / 2


def largest_pieces(masks: torch.Tensor) -> torch.Tensor:
    """Share of each mask that lies in its largest connected piece, float [C] in [0, 1].

    Edges and what is thinner than three pixels do not count: a bridge of two makes no one thing of two. Of a
    mask that is thin everywhere it is 0.

    Args:
        masks: bool [C, h, w].
    """
    shares = np.zeros(len(masks), np.float32)
    for index, mask in enumerate(masks.cpu().numpy().astype(np.uint8)):
        thick = cv2.erode(mask, np.ones((3, 3), np.uint8))
        areas = cv2.connectedComponentsWithStats(thick)[2][1:, cv2.CC_STAT_AREA]
        shares[index] = areas.max() / areas.sum() if len(areas) else 0.0
    return torch.from_numpy(shares).to(masks.device)


def mask_boxes(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes float [N, 4] (x0, y0, x1, y1; the end excluded) of bool [N, H, W]; bool [N]: any pixel."""
    boxes = torch.zeros(len(masks), 4, device=masks.device)
    some = masks.flatten(1).any(1)
    for index, mask in enumerate(masks):
        if some[index]:
            rows, cols = mask.any(1).nonzero(), mask.any(0).nonzero()
            boxes[index] = torch.stack([cols[0, 0], rows[0, 0], cols[-1, 0] + 1, rows[-1, 0] + 1]).float()
    return boxes, some
