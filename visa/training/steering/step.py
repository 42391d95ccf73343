"""A micro-batch through a frozen backbone with a soft prompt: what the training engine drives.

Shapes: N questions, T frames, L tokens, t maps of h w cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.backbones.backbone import Packed
from model.backbones.embedded import EmbeddedBackbone
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPrompt
from visa.steerseg.attention import Looking
from visa.training.engine.task import ParameterGroup
from visa.training.steering.items import SteeringBatch, SteeringItem, shares_of
from visa.training.steering.objective import steering_losses
from visa.training.steering.room import refusals_told


@dataclass(frozen=True)
class SeenMaps:
    """maps, shares: float [n] each, of every map that counts. num_positions: tokens that were read."""

    maps: tuple[Tensor, ...]
    shares: tuple[Tensor, ...]
    num_positions: int


@dataclass(frozen=True)
class SteeringResult:
    """See `visa.training.engine.task.StepResult`. seen: the maps behind it."""

    parts: Mapping[str, Tensor]
    num_positions: int
    seen: SeenMaps


class SteeredModel(nn.Module):
    """The prompt, which learns, and the language model, which does not."""

    def __init__(self, prompt: SoftPrompt, language: nn.Module):
        super().__init__()
        self.prompt, self.language = prompt, language


class SteeringStep(nn.Module):
    """See `visa.training.engine.task.Step`.

    Args:
        backbone: frozen here, whatever it was. prompt: of this backbone, on its device.
        rollout: of its attention. max_tokens: the most visual tokens of one frame; None: the backbone's own.
    """

    def __init__(
        self, backbone: Any, prompt: SoftPrompt, rollout: RolloutSettings, max_tokens: int | None = None
    ):
        super().__init__()
        whole = backbone.mllm if isinstance(backbone, EmbeddedBackbone) else backbone
        whole.eval().requires_grad_(False)
        self.model = SteeredModel(prompt, backbone.language_model)
        # Outside the module tree: the backbone is not the engine's to move or to put into training mode.
        self.looking = Looking(backbone, rollout, {prompt.stream: prompt}, {prompt.stream: max_tokens})

    @property
    def backbone(self) -> Any:
        return self.looking.backbone

    def train(self, mode: bool = True) -> SteeringStep:
        """A frozen model computes what it computes in use: dropout stays off, checkpointing stays on."""
        self.training = mode
        return self

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """See `Step`: the prompt's vectors."""
        return [ParameterGroup({"prompt.vectors": self.model.prompt.vectors})]

    def begin(self, share: float) -> None:
        """See `Step`."""

    def counts(self, batch: SteeringBatch) -> Mapping[str, float]:
        """See `Step`: questions."""
        questions = sum(len(item.questions) for item in batch.items)
        return {"bce": questions, "dice": questions}

    def forward(self, batch: SteeringBatch) -> SteeringResult:
        """Maps of every question of every item, and their losses."""
        seen = self.look(batch)
        losses = [
            torch.stack(steering_losses(heat[None], share[None]))
            for heat, share in zip(seen.maps, seen.shares, strict=True)
        ]
        if losses:
            bce, dice = torch.stack(losses).mean(0)
        else:  # nothing can be learnt from it, and nothing is: the gradient is zero
            bce = dice = self.model.prompt().sum() * 0
        return SteeringResult({"bce": bce, "dice": dice}, seen.num_positions, seen)

    def look(self, batch: SteeringBatch) -> SeenMaps:
        """Maps of every question of every item."""
        positions, maps, shares = 0, [], []
        for item in batch.items:
            for packed, rows, masks in self._passes(item):
                positions += packed.length
                heat, covered = counted_maps(packed, rows, masks, self.model.prompt.stream)
                maps += heat
                shares += covered
        return SeenMaps(tuple(maps), tuple(shares), positions)

    def _passes(self, item: SteeringItem) -> Iterator[tuple[Packed, Tensor, Tensor]]:
        """Each pass through the backbone: what was packed, rollouts float32 [N, L], masks [N, T, H, W].

        Frames of the frame stream are read each alone, as in use; those without the thing are not read.
        The embedded model answers all questions in one pass, others one at a time.

        Raises:
            InputError: frames and question are more than the backbone takes.
        """
        prompt, stream, rollout = self.model.prompt, self.model.prompt.stream, self.looking.rollout
        max_tokens = self.looking.max_tokens[stream]
        size, seconds = (1, None) if stream == "frame" else (len(item.frames), item.seconds)
        for start in range(0, len(item.frames), size):
            frames, masks = item.frames[start : start + size], item.masks[:, start : start + size]
            if isinstance(frames, tuple):
                asked = [(question, None) for question in item.questions]
                with refusals_told(stream, max_tokens):
                    packed = self.backbone.pack_cells(
                        frames, asked, stream, prompt.place, max_tokens, seconds
                    )
                yield packed, self.backbone.rollouts(packed, rollout, prompt()), masks
                continue
            for question, mask in zip(item.questions, masks[:, None], strict=True):
                if not mask.any():
                    continue
                with refusals_told(stream, max_tokens):
                    packed = self.looking.pack(frames, question, stream, seconds)
                output = self.backbone.forward(packed, soft_prompt=prompt(), return_attention=rollout)
                yield packed, output.rollout[None], mask


def counted_maps(packed: Packed, rows: Tensor, masks: Tensor, stream: str) -> tuple[Tensor, Tensor]:
    """Maps with what the masks cover of them, those left out that show nothing of what is asked for.

    A map of nothing but background has no right answer: stretched to [0, 1], it would have a peak.

    Returns:
        Two float [M, n]: of a frame stream a map for each frame, of a video stream one for the clip.
    """
    positions = torch.stack([span.positions() for span in packed.layout.frames]).to(rows.device)
    heat = rows[:, positions]
    shares = shares_of(masks, packed.layout).flatten(2).to(heat)
    whole = 0 if stream == "frame" else 1
    heat, shares = (x.flatten(0, 1) if whole == 0 else x.flatten(1) for x in (heat, shares))
    there = shares.amax(1) > 0
    return heat[there], shares[there]
