"""What a backbone is: frames and a conversation in, hidden states, attention maps and words out.

A backbone is a vision-language model that somebody else trained. Attention maps, soft prompts, the [SEG] head
and reinforcement learning all go through this one face; what differs between models, and where their visual
tokens stand, is known to one file per family (`model.backbones.families` finds it) and, for everybody else,
written in the `TokenLayout`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from model.mllm.layout import TokenLayout
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPlace, Stream

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class ChatTurn:
    """One turn of a conversation.

    role: who speaks. text: plain words. What looks like a control token in them stays plain characters, with
    one exception: [SEG] in an assistant's turn is the [SEG] token of a model that has one.
    """

    role: Role
    text: str


@dataclass(frozen=True)
class Packed:
    """One conversation about frames, as a sequence of L tokens.

    inputs: what the transformers model takes (``input_ids`` int64 [1, L], ``attention_mask``, pixels, grids),
        on the backbone's device. Soft prompts have placeholder tokens in it, which count as text.
    layout: where everything stands. ``layout.frames`` are the spans of visual tokens, in order of time, each
        with the frames it ``shows``; ``layout.turns`` are the questions with their answers.
    soft: positions of the soft prompt's placeholders; None: there are none.
    """

    inputs: Mapping[str, Any]
    layout: TokenLayout
    soft: slice | None = None

    @property
    def length(self) -> int:
        """Number of tokens L."""
        return self.layout.length

    def visual_positions(self) -> Tensor:
        """Positions of all cells of all spans, int64 [n]."""
        return torch.cat([span.positions() for span in self.layout.frames])


@dataclass(frozen=True)
class BackboneOutput:
    """What a forward pass gives.

    hidden: float [1, L, D], after the final norm. logits: float [1, 1, V], of the token after the last.
    rollout: float32 [L], what the last token drew from each token, where it was asked for; see
        `model.steering.rollout.rollout_row`.
    """

    hidden: Tensor
    logits: Tensor
    rollout: Tensor | None = field(default=None)


class Backbone(Protocol):
    """A vision-language model.

    family: of which kind it is, such as "qwen2_5_vl". width: D, of the language model's states.
    num_layers: of the language model. language_model: its decoder stack (``layers[i].self_attn``).
    weights_mark: tells its weights from another training's of the same family; None: its weights are somebody
        else's and stay as they were published.
    """

    family: str
    width: int
    num_layers: int
    weights_mark: str | None

    @property
    def language_model(self) -> nn.Module: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

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
        """Put frames before the words of the first user turn.

        Args:
            frames: uint8 [T, H, W, 3], in order of time; T may be odd, H and W any.
            turns: an optional system turn, then user and assistant in turns, the user first.
            stream: "frame" shows each frame as a picture of its own, "video" all of them as one video.
            soft: room for a soft prompt.
            generate: the last turn is the user's, and an answer is to follow; False: the last turn is the
                assistant's, and its end token ends the sequence.
            max_tokens_per_frame: the most visual tokens that one frame, or one temporal patch, may take.
                None leaves it to the model.
            seconds: when each frame is seen; None is two frames a second. Models that are told no times do
                not look at it.

        Raises:
            ValueError: no frame, turns in another order, or a model that shows no frame in so few tokens.
        """
        ...

    def forward(
        self,
        packed: Packed,
        *,
        soft_prompt: Tensor | None = None,
        return_attention: RolloutSettings | None = None,
    ) -> BackboneOutput:
        """One pass over a whole packed sequence; gradients reach weights and soft prompt.

        Args:
            soft_prompt: float [n, D], in place of the placeholders. Needed exactly where there are some.
            return_attention: roll out the attention of the last token so.

        Raises:
            ValueError: a soft prompt without its place, a place without it, or one of another size.
        """
        ...

    def generate(self, packed: Packed, max_new_tokens: int, soft_prompt: Tensor | None = None) -> str:
        """The answer, written greedily; without the token that ends it."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits [..., V] of hidden states [..., D]."""
        ...
