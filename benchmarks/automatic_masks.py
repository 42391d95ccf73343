"""SAM without a prompt: masks for a grid of points, the doubtful and the double ones dropped.

A light form of the automatic mask generator of Kirillov et al., "Segment Anything", ICCV 2023, section 5 and
appendix B: one crop, no box stage, duplicates found by the masks' own IoU. It works on the decoder's
quarter-size maps and needs no torchvision.

Legend: M candidate masks, H W pixels of the video, h w of the decoder's map without padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.prompt import PointPrompt
from model.sam import FrameFeatures, SamSegmenter

MAP_STRIDE = 4  # the decoder's maps are a quarter of SAM's input


@dataclass(frozen=True)
class Candidates:
    """The masks that were kept, the surest first.

    Attributes:
        mask_logits: float32 [M, 256, 256], over the padded input.
        iou: float32 [M], the decoder's own estimate.
        masks: bool [M, h, w], without padding.
    """

    mask_logits: Tensor
    iou: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.iou)


@torch.inference_mode()
def automatic_masks(
    sam: SamSegmenter,
    features: FrameFeatures,
    *,
    num_columns: int = 12,
    points_a_batch: int = 12,
    least_iou: float = 0.88,
    least_stability: float = 0.95,
    stability_offset: float = 1.0,
    duplicate_iou: float = 0.7,
) -> Candidates:
    """Candidate masks of a frame.

    Args:
        sam: Which SAM.
        features: Of one frame.
        num_columns: Points side by side; as many rows as keep them equally far apart.
        points_a_batch: Points decoded at once.
        least_iou: Masks that the decoder itself rates below this are dropped.
        least_stability: So are those whose area changes more than this between thresholds
            `stability_offset` below and above 0 (IoU of the two).
        stability_offset: In logits.
        duplicate_iou: Of two masks that overlap more than this, the less sure one is dropped.

    Returns:
        The masks kept; where none passes, the surest of all.
    """
    points = grid(features.original_size, num_columns)
    points = features.to_input(points)[:, None].to(sam.sam.device)
    logits, ious = [], []
    for batch in points.split(points_a_batch):
        labels = torch.ones(batch.shape[:2], device=batch.device)
        prediction = sam.decode(features, PointPrompt(batch, labels), multimask=True)
        keep = prediction.iou >= least_iou
        keep &= stability(unpadded(prediction.mask_logits, features), stability_offset) >= least_stability
        if not keep.any():
            keep.view(-1)[prediction.iou.argmax()] = True
        logits.append(prediction.mask_logits[keep])
        ious.append(prediction.iou[keep])
    logits, ious = torch.cat(logits), torch.cat(ious)
    masks = unpadded(logits, features) > 0
    kept = suppress_duplicates(masks, ious, duplicate_iou)
    return Candidates(logits[kept], ious[kept], masks[kept])


def grid(size: tuple[int, int], num_columns: int) -> Tensor:
    """Points (x, y) in pixels: the middles of equal, nearly square cells of an (H, W) frame; float [K, 2]."""
    height, width = size
    num_rows = max(1, round(num_columns * height / width))
    xs = (torch.arange(num_columns) + 0.5) * width / num_columns
    ys = (torch.arange(num_rows) + 0.5) * height / num_rows
    return torch.cartesian_prod(ys, xs).flip(1)


def unpadded(mask_logits: Tensor, features: FrameFeatures) -> Tensor:
    """The part of maps [..., 256, 256] that holds the frame: [..., h, w]."""
    height, width = (-(-side // MAP_STRIDE) for side in features.input_size)
    return mask_logits[..., :height, :width]


def stability(mask_logits: Tensor, offset: float) -> Tensor:
    """IoU of each mask drawn a little too small and a little too large: [..., h, w] to [...]."""
    small = (mask_logits > offset).flatten(-2).sum(-1)
    large = (mask_logits > -offset).flatten(-2).sum(-1)
    return small / large.clamp(min=1)


def suppress_duplicates(masks: Tensor, scores: Tensor, duplicate_iou: float) -> Tensor:
    """Indices of the masks [M, h, w] to keep, highest score first; none overlaps a better one by more."""
    order = scores.argsort(descending=True)
    flat = masks[order].flatten(1).float()
    areas = flat.sum(1)
    intersections = flat @ flat.T
    ious = intersections / (areas[:, None] + areas[None] - intersections).clamp(min=1)
    kept: list[int] = []
    for index in range(len(order)):
        if not kept or ious[index, kept].max() <= duplicate_iou:
            kept.append(index)
    return order[kept]
