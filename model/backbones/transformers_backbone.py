"""What all backbones of transformers have in common: writing the sequence, running the model, answering.

A family adds how its frames become pixel inputs and visual tokens (`TransformersBackbone.show`), and its
wording. Adding one more family is one file and one test: ``model/backbones/families/<model_type>.py``, named
after the configuration's ``model_type``, with a subclass called ``Adapter``; and its row in
``tests/tiny_backbones.py``, on which the tests of all families then run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from model.backbones.backbone import BackboneOutput, ChatTurn, Packed
from model.backbones.overwriting import overwritten
from model.backbones.pixels import PixelSettings, checked_frames
from model.backbones.writing import Wording, Writer
from model.mllm.layout import FrameSpan, TokenLayout, TurnSpan
from model.mllm.packing import SEG_TOKEN
from model.steering.attention_rows import recorded_attention
from model.steering.rollout import RolloutSettings, rollout_row
from model.steering.soft_prompt import SoftPlace, Stream

FRAMES_PER_SECOND = 2.0  # where nobody says when the frames are seen


@dataclass(frozen=True)
class VisualTokens:
    """A run of ``count`` equal placeholder tokens that the model fills with visual features.

    spans: what of it are cells, positions counted from the start of the run. Thumbnails, row ends and the
    rest of the run belong to no span.
    """

    token: int
    count: int
    spans: tuple[FrameSpan, ...]


@dataclass(frozen=True)
class Shown:
    """Frames as one family shows them.

    inputs: what the transformers model takes beside the tokens. parts: wording and visual tokens in order.
    """

    inputs: Mapping[str, Any]
    parts: tuple[str | VisualTokens, ...]


class TransformersBackbone(nn.Module):
    """See `model.backbones.backbone.Backbone`.

    Args:
        model: a ``...ForConditionalGeneration`` of transformers.
        tokenizer: its fast tokenizer; with [SEG] where the model was trained to say it.
        settings: fields of the model's ``preprocessor_config.json``, as far as they are known.
    """

    wording: ClassVar[Wording] = Wording()
    pixels: ClassVar[PixelSettings] = PixelSettings()
    weights_mark: ClassVar[None] = None

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.settings = dict(settings or {})
        self.pixel_settings = self.pixels.told(self.settings)
        vocabulary = tokenizer.get_vocab()
        if missing := [word for word in self.control_words() if word not in vocabulary]:
            raise ValueError(
                f"the tokenizer is not that of a {self.family}: it has no {', '.join(missing)}; take the one "
                "that came with the model"
            )

    # Each family's own

    def show(
        self, frames: np.ndarray, stream: Stream, max_tokens: int | None, seconds: Sequence[float]
    ) -> Shown:
        """Frames uint8 [T, H, W, 3] to pixel inputs and visual tokens; see `Backbone.pack`."""
        raise NotImplementedError

    def control_words(self) -> tuple[str, ...]:
        """Control tokens that the wording needs."""
        return (self.wording.end,)

    def token_inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """Inputs that follow from the ids int64 [1, L]."""
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def position_of(self, packed: Packed, index: int) -> int:
        """The position that the language model gives a token of text, by its number in the sequence."""
        return index

    # The same for all

    @property
    def family(self) -> str:
        """The configuration's model_type."""
        return self.model.config.model_type

    @property
    def core(self) -> nn.Module:
        """The model without its language model's output layer."""
        return self.model.model

    @property
    def language_model(self) -> nn.Module:
        """The language model's decoder stack."""
        return self.core.language_model

    @property
    def width(self) -> int:
        """D, of the language model's states."""
        return self.model.config.get_text_config().hidden_size

    @property
    def num_layers(self) -> int:
        """Of the language model."""
        return self.model.config.get_text_config().num_hidden_layers

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the words' embeddings, and so of the states."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def seg_token_id(self) -> int | None:
        """The id of [SEG]; None: the tokenizer has none."""
        added = {token.content: index for index, token in self.tokenizer.added_tokens_decoder.items()}
        return added.get(SEG_TOKEN)

    @property
    def stop_ids(self) -> set[int]:
        """Tokens that end an answer."""
        told = self.model.generation_config.eos_token_id if self.model.can_generate() else None
        own = self.tokenizer.convert_tokens_to_ids(self.wording.end)
        return {own, *(told if isinstance(told, (list, tuple)) else [told])} - {None}

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
        """See `Backbone.pack`."""
        frames = checked_frames(frames)
        if stream not in ("frame", "video"):
            raise ValueError(f"stream must be 'frame' or 'video', not {stream!r}")
        if seconds is None:
            seconds = [index / FRAMES_PER_SECOND for index in range(len(frames))]
        if len(seconds) != len(frames):
            raise ValueError(f"{len(frames)} frames need as many times, got {len(seconds)}")
        _check_order(turns, generate)
        turns = self._with_system(turns)
        shown = self.show(frames, stream, max_tokens_per_frame, seconds)
        writer = Writer(self.tokenizer)
        writer.wording(self.wording.opening)
        spans: list[FrameSpan] = []
        answers: dict[int, tuple[int, ...]] = {}
        soft_start = None
        for number, turn in enumerate(turns):
            if turn.role == "assistant":
                writer.wording(self.wording.answer + self.wording.space)
                answers[number] = writer.answer(turn.text, ("said", number))
                writer.tokens(self.tokenizer.convert_tokens_to_ids(self.wording.end))
                if number < len(turns) - 1:
                    writer.wording(self.wording.closing.removeprefix(self.wording.end))
                continue
            writer.wording(self.wording.begin(turn.role))
            if turn.role == "user" and not spans:
                if soft is not None and soft.position == "before_vision":
                    soft_start = writer.tokens(self._placeholder, soft.n)[0]
                for part in shown.parts:
                    spans += _write(part, writer)
                writer.wording(self.wording.before_words)
                if soft is not None and soft.position == "before_text":
                    soft_start = writer.tokens(self._placeholder, soft.n)[0]
            else:
                writer.wording(self.wording.without_frames)
            writer.words(turn.text, ("said", number))
            writer.wording(self.wording.closing)
        if generate:
            writer.wording(self.wording.answer)
        writer.finish()
        ids = torch.tensor([writer.ids], device=self.device)
        layout = TokenLayout(len(writer.ids), tuple(spans), _turn_spans(turns, writer, answers))
        shown_inputs = {name: self._as_input(name, value) for name, value in shown.inputs.items()}
        return Packed(
            {**self.token_inputs(ids), **shown_inputs},
            layout,
            None if soft_start is None else slice(soft_start, soft_start + soft.n),
        )

    def forward(
        self,
        packed: Packed,
        *,
        soft_prompt: Tensor | None = None,
        return_attention: RolloutSettings | None = None,
    ) -> BackboneOutput:
        """See `Backbone.forward`."""
        with self._steered(packed, soft_prompt):
            if return_attention is None:
                hidden, rollout = self.core(**packed.inputs, use_cache=False).last_hidden_state, None
            else:
                layers = return_attention.layers(self.num_layers)
                with recorded_attention(self.language_model, layers) as record:
                    hidden = self.core(**packed.inputs, use_cache=False).last_hidden_state
                rollout = rollout_row(record, packed.length - 1, packed.visual_positions(), return_attention)
        return BackboneOutput(hidden, self.logits(hidden[:, -1:]), rollout)

    @torch.inference_mode()
    def generate(self, packed: Packed, max_new_tokens: int, soft_prompt: Tensor | None = None) -> str:
        """See `Backbone.generate`."""
        stop = sorted(self.stop_ids)
        pad = self.tokenizer.pad_token_id
        # The checkpoint's own settings may sample and punish repetition.
        greedy = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=stop[0] if pad is None else pad,
        )
        with self._steered(packed, soft_prompt):
            ids = self.model.generate(**packed.inputs, generation_config=greedy)[0, packed.length :]
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def logits(self, states: Tensor) -> Tensor:
        """See `Backbone.logits`."""
        return self.model.get_output_embeddings()(states)

    @property
    def _placeholder(self) -> int:
        """A token of ordinary text; what it means is overwritten."""
        return self.tokenizer(".", add_special_tokens=False).input_ids[0]

    def _with_system(self, turns: Sequence[ChatTurn]) -> list[ChatTurn]:
        if self.wording.system is None or (turns and turns[0].role == "system"):
            return list(turns)
        return [ChatTurn("system", self.wording.system), *turns]

    def _as_input(self, name: str, value: Any) -> Any:
        """On the device; pixels in the model's dtype, and times as they are: bfloat16 has eight bits."""
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.dtype if name.startswith("pixel_values") else None)

    @contextmanager
    def _steered(self, packed: Packed, soft_prompt: Tensor | None) -> Iterator[None]:
        """Have the language model read the soft prompt in place of its placeholders, in the first pass."""
        if (packed.soft is None) != (soft_prompt is None):
            raise ValueError(
                "a soft prompt needs a sequence packed with room for it, and that room a soft prompt"
            )
        if soft_prompt is None:
            yield
            return
        room = (packed.soft.stop - packed.soft.start, self.width)
        if tuple(soft_prompt.shape) != room:
            raise ValueError(f"the soft prompt must be {list(room)}, got {list(soft_prompt.shape)}")
        positions = torch.arange(packed.soft.start, packed.soft.stop)
        with overwritten(self.language_model, packed.length, positions, soft_prompt):
            yield


def grid_of_cells(token: int, rows: int, cols: int, shows: tuple[int, ...]) -> VisualTokens:
    """A run that is nothing but one grid of cells."""
    return VisualTokens(token, rows * cols, (FrameSpan(0, rows, cols, shows=shows),))


def check_budget(family: str, count: int, max_tokens: int | None) -> None:
    """Refuse to show a frame in fewer tokens than a family always takes.

    Raises:
        ValueError: ``count`` is more than ``max_tokens``.
    """
    if max_tokens is not None and count > max_tokens:
        raise ValueError(
            f"{family} shows a frame in {count} visual tokens, more than the {max_tokens} allowed"
        )


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """A configuration's size, one number or two, as (height, width)."""
    return (size, size) if isinstance(size, int) else tuple(size)


def _write(part: str | VisualTokens, writer: Writer) -> list[FrameSpan]:
    """Write one part of what is shown; the spans that came with it."""
    if isinstance(part, str):
        writer.wording(part)
        return []
    start, _ = writer.tokens(part.token, part.count)
    return [replace(span, start=start + span.start) for span in part.spans]


def _turn_spans(
    turns: Sequence[ChatTurn], writer: Writer, answers: Mapping[int, tuple[int, ...]]
) -> tuple[TurnSpan, ...]:
    spans = []
    for number, turn in enumerate(turns):
        if turn.role != "user":
            continue
        answer, segs = (len(writer.ids),) * 2, answers.get(number + 1, ())
        if number + 1 in answers:
            start, stop = writer.places["said", number + 1]
            answer = (start, stop + 1)  # with the token that ends it
        spans.append(TurnSpan(writer.places["said", number], answer, segs))
    return tuple(spans)


def _check_order(turns: Sequence[ChatTurn], generate: bool) -> None:
    roles = [turn.role for turn in turns]
    told = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user", "assistant"] * (len(told) // 2 + 1)
    if not told or told != expected[: len(told)]:
        raise ValueError(
            "turns must be an optional system, then user and assistant in turns, got "
            f"{', '.join(roles) or 'none'}"
        )
    if generate != (told[-1] == "user"):
        raise ValueError(
            "an answer is generated behind a user's turn; a conversation that ends with the assistant's is "
            "packed with generate=False"
        )
