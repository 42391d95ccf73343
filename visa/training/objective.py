"""Losses as pure functions of tensors, outside the networks.

The published part (LISA, VISA, VideoLISA): text cross-entropy, and BCE and Dice on masks, averaged over masks
as sum / (count + 1e-8). The part that makes a small model read: with mask losses alone it learns to segment
whatever stands out and never looks at the words, so it must also choose, among the objects of the scene, the
one that is meant.
"""

import torch
from torch.nn import functional

# Most words do not fit: the few that nearly do must not drown among them.
MISTAKEN_WEIGHT = 4.0


def text_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of float logits [n, V] against int64 labels [n]; 0 without labels."""
    if not len(labels):
        return logits.sum() * 0
    return functional.cross_entropy(logits, labels)


def mask_bce(mask_logits: torch.Tensor, masks: torch.Tensor, positive_weight: float = 1.0) -> torch.Tensor:
    """Binary cross-entropy, mean over pixels, then over the N masks.

    Args:
        mask_logits: float [N, h, w]. masks: float [N, h, w] in [0, 1].
        positive_weight: weight of a pixel inside relative to one outside.
    """
    loss = functional.binary_cross_entropy_with_logits(mask_logits, masks, reduction="none")
    loss = (loss * (1 + (positive_weight - 1) * masks)).flatten(1).mean(1)
    return loss.sum() / (len(masks) + 1e-8)


def mask_dice(
    mask_logits: torch.Tensor, masks: torch.Tensor, scale: float = 1000.0, eps: float = 1e-6
) -> torch.Tensor:
    """Dice loss of N masks with the reference's scaling: 1 − (2Σpt/scale + eps) / (Σp/scale + Σt/scale +
    eps).

    Args:
        mask_logits: float [N, h, w]. masks: float [N, h, w] in [0, 1].
    """
    probs, masks = mask_logits.sigmoid().flatten(1), masks.flatten(1)
    overlap = 2 * (probs / scale * masks).sum(1)
    total = (probs / scale).sum(1) + (masks / scale).sum(1)
    return (1 - (overlap + eps) / (total + eps)).sum() / (len(masks) + 1e-8)


def object_choice(heat_logits: torch.Tensor, object_masks: torch.Tensor, meant: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of choosing the meant objects by their mean heat.

    Args:
        heat_logits: float [N, h, w], one heat map per question.
        object_masks: float [K, h, w] in [0, 1], all K objects of the frame.
        meant: bool [N, K], the objects each question means; questions that mean all or none of them teach
            nothing here.
    """
    area = object_masks.flatten(1).sum(1)
    seen = area > 0
    mean_heat = torch.einsum("nhw,khw->nk", heat_logits, object_masks) / area.clamp(min=1e-6)
    mean_heat = mean_heat.masked_fill(~seen, -torch.inf)
    meant = meant & seen
    teaches = meant.any(1) & (~meant & seen).any(1)
    if not teaches.any():
        return heat_logits.sum() * 0
    log_probs = mean_heat[teaches].log_softmax(1)
    return -log_probs.masked_fill(~meant[teaches], -torch.inf).logsumexp(1).mean()


def cell_choice(heat_logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the softmax of the heat over all cells and the mask's share of each cell.

    Args:
        heat_logits: float [N, h, w]. masks: float [N, h, w] in [0, 1], none of them empty.
    """
    share = masks.flatten(1) / masks.flatten(1).sum(1, keepdim=True).clamp(min=1e-6)
    return -(share * heat_logits.flatten(1).log_softmax(1)).sum(1).mean()


def meaning_loss(
    meaning_logits: torch.Tensor, fits: torch.Tensor, known: torch.Tensor, contrast: float = 0.5
) -> torch.Tensor:
    """Which of M words answer each of N questions: binary, with what fits and what does not each averaged by
    itself (what fits is rare), and as a choice of what fits among all.

    Args:
        meaning_logits: float [N, M].
        fits: bool [N, M]; known: bool [N, M], where it is known whether it fits.
        contrast: weight of the choice.
    """
    good, bad = (fits & known).float(), (~fits & known).float()
    missed = (functional.softplus(-meaning_logits) * good).sum(1) / good.sum(1).clamp(min=1)
    mistaken = (functional.softplus(meaning_logits) * bad).sum(1) / bad.sum(1).clamp(min=1)
    some = good.any(1)
    everything = meaning_logits.masked_fill(~known, -1e4).logsumexp(1)
    right = meaning_logits.masked_fill(good == 0, -1e4).logsumexp(1)
    chosen = torch.where(some, everything - right, torch.zeros_like(right))
    return (missed + MISTAKEN_WEIGHT * mistaken + contrast * chosen).mean()
