"""A micro-batch through a [SEG] system on a backbone, conversation by conversation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from model.backbones.backbone import ChatTurn, Packed
from model.backbones.grounded import GroundedBackbone
from visa.reasoning.backbone import Showing
from visa.training.engine.batch import TrainingBatch
from visa.training.engine.step import StepResult, TrainingStep
from visa.training.grounded.videos import GroundedVideo
from visa.training.published_objective import LossWeights, published_loss


class GroundedStep(TrainingStep):
    """See `TrainingStep`; the loss is the published one, SAM sees and draws as there.

    Args:
        model: with SAM inside.
        weights: of the loss's parts.
        showing: how frames are shown.
    """

    model: GroundedBackbone

    def __init__(self, model: GroundedBackbone, weights: LossWeights, showing: Showing):
        super().__init__(model, weights)
        self.showing = showing

    def counts(self, batch: TrainingBatch) -> Mapping[str, float]:
        """See `Step`."""
        packed = [self._packed(video, turns) for video in batch.videos for turns in video.conversations]
        words = sum(turn.answer[1] - turn.answer[0] for one in packed for turn in one.layout.turns)
        masks = sum(video.masks.shape[0] * video.masks.shape[1] for video in batch.videos)
        return {"text": words, "bce": masks, "dice": masks}

    def forward(self, batch: TrainingBatch) -> StepResult:
        """Teacher-forced.

        Raises:
            ValueError: another number of masks than of [SEG] in a video's conversations.
        """
        states, tokens, mask_logits, positions = [], [], [], 0
        for video, features in zip(batch.videos, self._encode(batch.videos), strict=True):
            embeddings = []
            for turns in video.conversations:
                packed = self._packed(video, turns)
                hidden = self.model(packed)
                embeddings.append(self.model.seg_embeddings(hidden, packed))
                answers = _answer_positions(packed).to(hidden.device)
                states.append(hidden[answers - 1])
                tokens.append(packed.inputs["input_ids"][0, answers])
                positions += packed.length
            mask_logits.append(self._draw(video, torch.cat(embeddings), features))
        loss = published_loss(
            self.model.logits(torch.cat(states)),
            torch.cat(tokens),
            mask_logits,
            [video.masks.flatten(0, 1) for video in batch.videos],
            self.weights,
        )
        return StepResult(loss, tuple(logits.detach() for logits in mask_logits), positions)

    def _packed(self, video: GroundedVideo, turns: tuple[ChatTurn, ...]) -> Packed:
        return self.model.backbone.pack(
            video.frames.numpy(),
            turns,
            stream=self.showing.stream,
            generate=False,
            max_tokens_per_frame=self.showing.max_tokens,
        )


def _answer_positions(packed: Packed) -> Tensor:
    """Positions of all words of the answers, their end tokens too: int64 [n]."""
    return torch.cat([torch.arange(*turn.answer) for turn in packed.layout.turns])
