"""The embedded MLLM with a backbone's face: what is done to any VLM can be done to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from model.backbones.backbone import BackboneOutput, ChatTurn, Packed
from model.mllm.cells import FrameCells, grid_for
from model.mllm.mllm import MLLM
from model.mllm.packing import FrameSlot, collate
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPlace, Stream

# Tokens a frame takes where nobody says how many: as a picture of its own, and as one of a video's.
TOKENS_PER_FRAME = {"frame": 50, "video": 24}


class EmbeddedBackbone:
    """See `Backbone`. It knows one question at a time and no system turn.

    Args:
        mllm: in evaluation mode.
        weights_mark: of the glue it was loaded with.
    """

    family = "embedded"

    def __init__(self, mllm: MLLM, weights_mark: str | None = None):
        self.mllm, self.weights_mark = mllm, weights_mark

    @property
    def width(self) -> int:
        return self.mllm.seg_embedding.shape[0]

    @property
    def num_layers(self) -> int:
        return len(self.language_model.layers)

    @property
    def language_model(self) -> nn.Module:
        return self.mllm.decoder

    @property
    def device(self) -> torch.device:
        return self.mllm.device

    @property
    def dtype(self) -> torch.dtype:
        return self.mllm.language.get_input_embeddings().weight.dtype

    def pack(
        self,
        frames: np.ndarray,
        turns: Sequence[ChatTurn],
        *,
        stream: Stream,
        soft: SoftPlace | None = None,
        generate: bool = True,
        max_tokens_per_frame: int | None = None,
        seconds: Sequence[float] | None = None,
    ) -> Packed:
        """See `Backbone`."""
        questions = [_one_turn(turns, generate)]
        return self.pack_cells(
            self.mllm.tower(frames), questions, stream, soft, max_tokens_per_frame, seconds
        )

    def pack_cells(
        self,
        cells: Sequence[FrameCells],
        questions: Sequence[tuple[str, str | None]],
        stream: Stream,
        soft: SoftPlace | None = None,
        max_tokens_per_frame: int | None = None,
        seconds: Sequence[float] | None = None,
    ) -> Packed:
        """Frames that the tower has seen, and (question, answer) turns, each about the frames alone.

        Args:
            cells: of T frames of one size, in order of time.
        """
        if not cells:
            raise ValueError("a backbone needs at least one frame")
        rows, cols = grid_for(*cells[0].colour.shape[:2], max_tokens_per_frame or TOKENS_PER_FRAME[stream])
        slots = [FrameSlot(percent, rows, cols) for percent in _percents(len(cells), seconds)]
        packed = self.mllm.packer.pack(slots, questions, soft=soft, target=stream == "frame")
        cells = [one.to(self.device) for one in cells]
        tokens, _, _ = self.mllm.visual_tokens(cells, slots)
        places = packed.soft.nonzero()[:, 0].tolist()
        return Packed(
            inputs={"batch": collate([packed]).to(self.device), "visual_tokens": [tokens]},
            layout=packed.layout,
            soft=slice(places[0], places[-1] + 1) if places else None,
        )

    def forward(
        self,
        packed: Packed,
        *,
        soft_prompt: Tensor | None = None,
        return_attention: RolloutSettings | None = None,
    ) -> BackboneOutput:
        """See `Backbone`. The rollout is of the last token before the (last) answer."""
        read = self.mllm(**packed.inputs, soft_prompt=soft_prompt, return_attention=return_attention)
        hidden, rollout = (read, None) if return_attention is None else (read[0], read[1][-1])
        return BackboneOutput(hidden, self.logits(hidden[:, -1:]), rollout)

    def rollouts(
        self, packed: Packed, settings: RolloutSettings, soft_prompt: Tensor | None = None
    ) -> Tensor:
        """Rolled-out attention of every question's last token: float32 [N, L]."""
        return self.mllm(**packed.inputs, soft_prompt=soft_prompt, return_attention=settings)[1]

    @torch.inference_mode()
    def generate(self, packed: Packed, max_new_tokens: int, soft_prompt: Tensor | None = None) -> str:
        """See `Backbone`."""
        embeds = self.mllm.embedded(**packed.inputs, soft_prompt=soft_prompt)
        cache, said = DynamicCache(config=self.language_model.config), []
        while len(said) < max_new_tokens:
            state = self.language_model(
                inputs_embeds=embeds, past_key_values=cache, use_cache=True
            ).last_hidden_state[0, -1]
            token = int(self.logits(state).argmax())
            if token == self.mllm.packer.end_id:
                break
            said.append(token)
            embeds = self.mllm.embed(torch.tensor([[token]], device=self.device))
        return self.mllm.text(said)

    def logits(self, states: Tensor) -> Tensor:
        """See `Backbone`; the last of the vocabulary is [SEG]."""
        return self.mllm.logits(states)


def _one_turn(turns: Sequence[ChatTurn], generate: bool) -> tuple[str, str | None]:
    """The question and its answer, where there is one already."""
    roles = [turn.role for turn in turns]
    if roles != (["user"] if generate else ["user", "assistant"]):
        raise ValueError(
            f"the embedded model takes a user's turn{'' if generate else ' and an answer'}, got {roles}"
        )
    return turns[0].text, None if generate else turns[1].text


def _percents(num_frames: int, seconds: Sequence[float] | None) -> list[int]:
    """When each frame is seen, in percent of the time between the first and the last."""
    seconds = range(num_frames) if seconds is None else seconds
    span = max(seconds[-1] - seconds[0], 1e-6)
    return [round(100 * (second - seconds[0]) / span) for second in seconds]
