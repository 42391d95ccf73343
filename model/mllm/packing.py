"""Text and visual tokens become one sequence, here and nowhere else.

The frames come first, each behind its time as a percentage of the video, the target frame last; then the
turn. A soft prompt may stand before the frames or behind them. Several turns about the same frames may be
packed behind the one visual prefix: each sees the frames and itself but no other turn, so that a video is
read once for all of its questions (and, in training, one forward pass serves them all).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from model.mllm.layout import FrameSpan, TokenLayout, TurnSpan
from model.steering.soft_prompt import SoftPlace

IGNORE_INDEX = -100
SEG_TOKEN = "[SEG]"


@dataclass(frozen=True)
class FrameSlot:
    """Room for one frame: its time in percent of the video [0, 100] and its grid of visual tokens."""

    percent: int
    rows: int
    cols: int


@dataclass(frozen=True)
class PackedSequence:
    """One sequence of L tokens.

    ids: int64 [L]; visual positions hold 0 and are marked in ``visual``.
    visual: bool [L]. soft: bool [L], the soft prompt's positions, which hold 0 too.
    position_ids: int64 [L]; every turn counts on from the end of the prefix.
    segments: int64 [L]; 0 is the prefix, k the k-th turn.
    labels: int64 [L]; the token itself in answers (with their end token), IGNORE_INDEX elsewhere.
    """

    ids: torch.Tensor
    visual: torch.Tensor
    soft: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
    labels: torch.Tensor
    layout: TokenLayout


class Packer:
    """Lays out conversations for a ChatML model (SmolLM2, Qwen): ``<|im_start|>user … <|im_end|>``.

    Args:
        tokenizer: a transformers tokenizer that knows ``<|im_start|>`` and ``<|im_end|>``.
        seg_token_id: the id that stands for [SEG]; it may lie one past the tokenizer's vocabulary.
    """

    def __init__(self, tokenizer, seg_token_id: int):
        self.tokenizer = tokenizer
        self.seg_token_id = seg_token_id
        self.start_id, self.end_id = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])

    def words(self, text: str) -> list[int]:
        """Token ids of plain text; control tokens spelled out in it stay plain characters."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer in which every literal ``[SEG]`` becomes the [SEG] token."""
        ids: list[int] = []
        for index, piece in enumerate(answer.split(SEG_TOKEN)):
            if index:
                ids.append(self.seg_token_id)
            piece = piece.rstrip() if index < answer.count(SEG_TOKEN) else piece
            if piece:
                ids.extend(self.words(piece))
        return ids

    def pack(
        self,
        frames: Sequence[FrameSlot],
        turns: Sequence[tuple[str, str | None]],
        *,
        soft: SoftPlace | None = None,
        target: bool = True,
    ) -> PackedSequence:
        """Pack the frames (target frame last) and (question, answer) turns; an answer of None is left to
        generate.

        Args:
            soft: room for a soft prompt.
            target: False: the last frame is not called the target; it is one among others.

        Raises:
            ValueError: no frame or no turn.
        """
        if not frames or not turns:
            raise ValueError(
                f"packing needs at least one frame and one turn, got {len(frames)} and {len(turns)}"
            )
        ids: list[int] = [self.start_id, *self.words("user\n")]
        soft_span = range(0)
        if soft is not None and soft.position == "before_vision":
            soft_span = range(len(ids), len(ids) + soft.n)
            ids += [0] * soft.n
        visual = [False] * len(ids)
        spans = []
        for index, slot in enumerate(frames):
            is_target = target and index == len(frames) - 1
            label = f"target {slot.percent}%:" if is_target else f"{slot.percent}%:"
            marker = self.words(label)
            ids += marker
            visual += [False] * len(marker)
            spans.append(FrameSpan(len(ids), slot.rows, slot.cols))
            count = slot.rows * slot.cols
            ids += [0] * count
            visual += [True] * count
        if soft is not None and soft.position == "before_text":
            soft_span = range(len(ids), len(ids) + soft.n)
            ids += [0] * soft.n
            visual += [False] * soft.n
        prefix = len(ids)
        positions, segments = list(range(prefix)), [0] * prefix
        labels = [IGNORE_INDEX] * prefix
        turn_spans = []
        opening = self.words("\n")
        closing = [self.end_id, *self.words("\n"), self.start_id, *self.words("assistant\n")]
        for number, (question, answer) in enumerate(turns, start=1):
            asked = self.words(question)
            said = [] if answer is None else [*self.answer_ids(answer), self.end_id]
            begin = len(ids)
            block = [*opening, *asked, *closing, *said]
            question_start = begin + len(opening)
            answer_start = begin + len(block) - len(said)
            turn_spans.append(
                TurnSpan(
                    question=(question_start, question_start + len(asked)),
                    answer=(answer_start, answer_start + len(said)),
                    segs=tuple(
                        answer_start + k for k, token in enumerate(said) if token == self.seg_token_id
                    ),
                )
            )
            ids += block
            visual += [False] * len(block)
            positions += range(prefix, prefix + len(block))
            segments += [number] * len(block)
            labels += [IGNORE_INDEX] * (len(block) - len(said)) + said
        return PackedSequence(
            ids=torch.tensor(ids),
            visual=torch.tensor(visual),
            soft=torch.tensor([place in soft_span for place in range(len(ids))]),
            position_ids=torch.tensor(positions),
            segments=torch.tensor(segments),
            labels=torch.tensor(labels),
            layout=TokenLayout(len(ids), tuple(spans), tuple(turn_spans)),
        )


@dataclass(frozen=True)
class PackedBatch:
    """B sequences padded on the right to L tokens.

    ids, position_ids, labels: int64 [B, L]; visual, soft: bool [B, L];
    visible: bool [B, 1, L, L], True where the query position (third axis) may look at the key position.
    """

    ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    visual: torch.Tensor
    soft: torch.Tensor
    visible: torch.Tensor
    layouts: tuple[TokenLayout, ...]

    def to(self, device: torch.device) -> "PackedBatch":
        """The same on another device."""
        names = ("ids", "position_ids", "labels", "visual", "soft", "visible")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def collate(sequences: Sequence[PackedSequence]) -> PackedBatch:
    """Pad sequences to one batch; a padding position sees only itself and nobody sees it."""

    def padded(name: str, value: int) -> torch.Tensor:
        rows = [getattr(sequence, name) for sequence in sequences]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    segments = padded("segments", -1)
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = segments[:, :, None] == segments[:, None, :]
    prefix = (segments == 0)[:, None, :] & (segments >= 0)[:, :, None]
    padding_itself = torch.eye(length, dtype=torch.bool) & (segments == -1)[:, :, None]
    visible = (causal & (same | prefix) & (segments >= 0)[:, None, :]) | padding_itself
    return PackedBatch(
        ids=padded("ids", 0),
        position_ids=padded("position_ids", 0),
        labels=padded("labels", IGNORE_INDEX),
        visual=padded("visual", 0).bool(),
        soft=padded("soft", 0).bool(),
        visible=visible[:, None],
        layouts=tuple(sequence.layout for sequence in sequences),
    )
