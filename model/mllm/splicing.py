"""Visual tokens take the places of ``<image>`` placeholders: packing for the published systems.

LLaVA, Chat-UniVi, VISA and VideoLISA write a conversation with placeholders and put a frame's tokens where
its placeholder stands. That happens here and nowhere else; what every position then holds is in the
`TokenLayout`, so nobody counts "111 more tokens for each image". `model.mllm.packing` does the same for the
embedded model, whose turns share one visual prefix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from model.mllm.layout import FrameSpan, TokenLayout, TurnSpan
from model.mllm.packing import IGNORE_INDEX

IMAGE_TOKEN = -200  # the id of a placeholder

# What one placeholder stands for: a number of tokens, or the grids (rows, cols) of one or more frames.
Grid = tuple[int, int]
Visual = int | Sequence[Grid]


@dataclass(frozen=True)
class SplicedBatch:
    """B sequences, padded on the right to L positions.

    ids: int64 [B, L]; 0 at visual and at empty positions.
    visual: bool [B, L], True where a visual token stands.
    empty: bool [B, L], True behind the end of a shorter row; the embedding there is zero.
    attention_mask: bool [B, L], False at padding, both at empty positions and at pad tokens that came along
        in the given ids (those are embedded like words, as the references do).
    labels: int64 [B, L] or None; IGNORE_INDEX at visual and empty positions.
    layouts: B of them. One turn for every answer, that is for every run of counted labels; without labels one
        turn, whose answer is yet to be written. A turn's question is all the text between the frames (or the
        answer) before it and its answer; its ``segs`` are the [SEG] tokens of the answer, without labels
        those of the whole text.
    """

    ids: Tensor
    visual: Tensor
    empty: Tensor
    attention_mask: Tensor
    labels: Tensor | None
    layouts: tuple[TokenLayout, ...]

    def to(self, device: torch.device | str) -> "SplicedBatch":
        """The same on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in tensors.items() if isinstance(v, Tensor)})

    def seg_positions(self, seg_state: str) -> tuple[tuple[int, ...], ...]:
        """For each row the positions whose states feed the [SEG] head; see `TokenLayout.seg_states`."""
        return tuple(
            tuple(p for turn in range(len(layout.turns)) for p in layout.seg_states(turn, seg_state))
            for layout in self.layouts
        )


def splice(
    input_ids: Tensor | Sequence[Tensor],
    visual_counts: Sequence[Sequence[Visual]],
    *,
    labels: Tensor | Sequence[Tensor] | None = None,
    attention_mask: Tensor | None = None,
    pad_id: int | None = None,
    seg_token_id: int | None = None,
    keep_padding: bool = True,
) -> SplicedBatch:
    """Make room for the visual tokens of every placeholder.

    Args:
        input_ids: int64 [B, l] padded on the right, or B tensors [l_b] of any lengths; placeholders are
            IMAGE_TOKEN.
        visual_counts: for each sequence and each of its placeholders what it stands for: a number of tokens
            n (one frame of 1 row and n columns), or the (rows, cols) of its frames. A text-only sequence has
            none.
        labels: as ``input_ids``, IGNORE_INDEX where a token is not learnt.
        attention_mask: bool [B, l], False at padding; for tensors of different lengths leave it away.
        pad_id: where no mask is given, tokens of this id are padding.
        seg_token_id: the id of [SEG]; None: no [SEG] is looked for.
        keep_padding: pad tokens in the ids stay where they are, masked (Chat-UniVi, VISA). False takes them
            out first, so that rows are filled up with empty positions alone (LLaVA, VideoLISA).

    Returns:
        The batch, on the device of the ids. A row grows by its visual tokens less its placeholders.

    Raises:
        ValueError: rows, labels or masks that do not fit each other, another number of placeholders than
            ``visual_counts`` says, or an unknown negative id.
    """
    masks = _masks(input_ids, attention_mask, pad_id)
    labels_of = [None] * len(input_ids) if labels is None else list(labels)
    if not len(input_ids) == len(visual_counts) == len(labels_of):
        raise ValueError(
            f"splicing needs a row of ids, visual counts and labels for each sequence, got {len(input_ids)}, "
            f"{len(visual_counts)} and {len(labels_of)} rows"
        )
    rows = []
    for ids, row_labels, mask, counts in zip(input_ids, labels_of, masks, visual_counts, strict=True):
        if row_labels is not None and row_labels.shape != ids.shape:
            raise ValueError(
                f"labels must have the ids' shape {list(ids.shape)}, got {list(row_labels.shape)}"
            )
        if not keep_padding:
            ids, row_labels, mask = (None if x is None else x[mask] for x in (ids, row_labels, mask))
        rows.append(_splice_row(ids, row_labels, mask, counts, seg_token_id))

    def padded(index: int, value: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence([row[index] for row in rows], True, value)

    mask = padded(2, 0)
    lengths = torch.tensor([len(row[0]) for row in rows], device=mask.device)
    return SplicedBatch(
        ids=padded(0, 0),
        visual=padded(1, 0),
        empty=torch.arange(mask.shape[1], device=mask.device) >= lengths[:, None],
        attention_mask=mask,
        labels=None if labels is None else padded(3, IGNORE_INDEX),
        layouts=tuple(row[4] for row in rows),
    )


def embed(
    batch: SplicedBatch, embed_tokens: Callable[[Tensor], Tensor], visual_tokens: Sequence[Tensor]
) -> Tensor:
    """Word embeddings of a batch with the visual tokens put in; gradients reach both.

    Args:
        embed_tokens: int64 [B, L] to float [B, L, D].
        visual_tokens: for each row float [n, D] in the order of its visual positions; [0, D] for a text-only
            row. Conversations about the same frames are given the same tensor.

    Returns:
        float [B, L, D], in the dtype of the word embeddings.

    Raises:
        ValueError: another number of visual tokens than the row has room for.
    """
    given, room = [len(tokens) for tokens in visual_tokens], batch.visual.sum(1).tolist()
    if given != room:
        raise ValueError(f"the rows have room for {room} visual tokens, got {given}")
    words = embed_tokens(batch.ids).masked_fill(batch.empty[..., None], 0)
    if not sum(given):
        return words
    tokens = torch.cat(list(visual_tokens)).to(words)
    return words.masked_scatter(batch.visual[..., None], tokens)


def _masks(
    input_ids: Tensor | Sequence[Tensor], attention_mask: Tensor | None, pad_id: int | None
) -> list[Tensor]:
    """For each row bool [l], True where a token counts."""
    if attention_mask is None:
        return [
            ids != pad_id if pad_id is not None else torch.ones_like(ids, dtype=torch.bool)
            for ids in input_ids
        ]
    masks = [mask.bool() for mask in attention_mask]
    if [mask.shape for mask in masks] != [ids.shape for ids in input_ids]:
        raise ValueError("the attention mask must have the shape of the ids")
    return masks


def _splice_row(
    ids: Tensor, labels: Tensor | None, mask: Tensor, counts: Sequence[Visual], seg_token_id: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, TokenLayout]:
    """One row without padding: ids, visual, mask, labels (each [L_b]) and where everything stands."""
    grids = [((1, count),) if isinstance(count, int) else tuple(count) for count in counts]
    places = (ids == IMAGE_TOKEN).nonzero()[:, 0].tolist()
    if len(places) != len(grids):
        raise ValueError(f"the sequence has {len(places)} placeholders for {len(grids)} visual inputs")
    if bool(((ids < 0) & (ids != IMAGE_TOKEN)).any()):
        raise ValueError(f"ids must be tokens or {IMAGE_TOKEN} for an image, got {int(ids.min())}")
    sizes = torch.ones_like(ids)
    frames = []
    grown = 0
    for place, shapes in zip(places, grids, strict=True):
        start = place + grown
        for height, width in shapes:
            frames.append(FrameSpan(start, height, width))
            start += height * width
        sizes[place] = start - place - grown
        grown += int(sizes[place]) - 1
    source = torch.repeat_interleave(sizes)
    visual = ids[source] == IMAGE_TOKEN
    long_ids, long_mask = ids[source].masked_fill(visual, 0), mask[source]
    long_labels = None if labels is None else labels[source].masked_fill(visual, IGNORE_INDEX)
    turns = _turns(long_ids, long_mask & ~visual, long_labels, seg_token_id)
    return long_ids, visual, long_mask, long_labels, TokenLayout(len(long_ids), tuple(frames), turns)


def _turns(
    ids: Tensor, written: Tensor, labels: Tensor | None, seg_token_id: int | None
) -> tuple[TurnSpan, ...]:
    """The answers of a row, each with the text before it (behind its frames) as its question."""
    text = written.nonzero()[:, 0].tolist()
    end = text[-1] + 1 if text else 0
    segs = [] if seg_token_id is None else (written & (ids == seg_token_id)).nonzero()[:, 0].tolist()
    if labels is None:
        return (TurnSpan(_last_run(text, end), (end, end), tuple(segs)),)
    counted = (written & (labels != IGNORE_INDEX)).nonzero()[:, 0].tolist()
    turns, begin = [], 0
    for start in [p for k, p in enumerate(counted) if k == 0 or counted[k - 1] != p - 1]:
        stop = _first_gap(counted, start)
        question = _last_run([p for p in text if begin <= p < start], start)
        turns.append(TurnSpan(question, (start, stop), tuple(p for p in segs if start <= p < stop)))
        begin = stop
    return tuple(turns)


def _first_gap(positions: list[int], start: int) -> int:
    """The first position from ``start`` on that is not among the ascending ones given."""
    for position in positions:
        start += position == start
    return start


def _last_run(positions: list[int], end: int) -> tuple[int, int]:
    """Of ascending positions, the run without gaps that reaches ``end``; empty if none does."""
    start = end
    for position in reversed(positions):
        if position != start - 1:
            break
        start = position
    return start, end
