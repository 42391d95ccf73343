"""The loss of LISA, VISA and VideoLISA: text cross-entropy, and BCE and Dice of the masks.

Lai et al. 2023 (arXiv 2308.00692), equations 3 to 5; the weights are the released ones of all three systems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.mllm.packing import IGNORE_INDEX
from visa.training.objective import mask_bce, mask_dice, text_loss


@dataclass(frozen=True)
class LossWeights:
    """What each part counts."""

    text: float = 1.0
    bce: float = 2.0
    dice: float = 0.5


@dataclass(frozen=True)
class PublishedLoss:
    """Scalars; the parts are weighted, so that ``total`` = ``text`` + ``bce`` + ``dice``."""

    text: Tensor
    bce: Tensor
    dice: Tensor

    @property
    def masks(self) -> Tensor:
        return self.bce + self.dice

    @property
    def total(self) -> Tensor:
        return self.text + self.masks


def predicting_states(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The states that predict a counted token, and these tokens, so that no other logits need be made.

    Args:
        hidden: float [B, L, D]. labels: int64 [B, L], IGNORE_INDEX where a token does not count.

    Returns:
        float [n, D] and int64 [n], row by row.
    """
    counts = labels[:, 1:] != IGNORE_INDEX
    return hidden[:, :-1][counts], labels[:, 1:][counts]


def published_loss(
    token_logits: Tensor,
    tokens: Tensor,
    mask_logits: Sequence[Tensor],
    masks: Sequence[Tensor],
    weights: LossWeights = LossWeights(),
) -> PublishedLoss:
    """The loss of a batch of videos.

    Args:
        token_logits: float [n, V], for all counted tokens of the batch. tokens: int64 [n].
        mask_logits: for each video float [N, H, W] at its own size; N may be 0.
        masks: for each video float or bool [N, H, W] in [0, 1].
        weights: of the parts.

    Raises:
        ValueError: other masks than were predicted.
    """
    shapes = [list(logits.shape) for logits in mask_logits]
    if shapes != [list(truth.shape) for truth in masks]:
        raise ValueError(f"the masks must have the shapes of the predictions {shapes}")
    bce, dice = (
        token_logits.new_zeros((), dtype=torch.float32),
        token_logits.new_zeros((), dtype=torch.float32),
    )
    count = sum(len(truth) for truth in masks)
    for logits, truth in zip(mask_logits, masks, strict=True):
        # Means of a video's masks, weighted by their number: every mask counts the same in the batch.
        share = len(truth) / (count + 1e-8)
        bce = bce + share * mask_bce(logits.float(), truth.float())
        dice = dice + share * mask_dice(logits.float(), truth.float())
    text = text_loss(token_logits.float(), tokens)
    return PublishedLoss(weights.text * text, weights.bce * bce, weights.dice * dice)
