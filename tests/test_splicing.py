"""Splicing: every position holds what the layout says, whatever stands for a placeholder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.mllm.splicing import IGNORE_INDEX, IMAGE_TOKEN, embed, splice

SEG, PAD, VOCABULARY = 9, 0, 12
words = st.integers(1, VOCABULARY - 1)
grid = st.tuples(st.integers(1, 3), st.integers(1, 3))
content = st.one_of(st.integers(0, 4), st.lists(grid, min_size=1, max_size=3))
# A sequence is a list of words (token, whether it is learnt) and of what stands for placeholders.
piece = st.one_of(st.tuples(words, st.booleans()), content.map(lambda visual: ("image", visual)))
sequences = st.lists(st.lists(piece, min_size=1, max_size=12), min_size=1, max_size=3)


def rows_of(drawn: list) -> tuple[list[Tensor], list[Tensor], list[list]]:
    """Ids, labels and visual counts of drawn sequences."""
    ids, labels, counts = [], [], []
    for row in drawn:
        tokens = [IMAGE_TOKEN if first == "image" else first for first, _ in row]
        ids.append(torch.tensor(tokens))
        learnt = [
            t if t != IMAGE_TOKEN and p[1] is True else IGNORE_INDEX for t, p in zip(tokens, row, strict=True)
        ]
        labels.append(torch.tensor(learnt))
        counts.append([visual for first, visual in row if first == "image"])
    return ids, labels, counts


def size(visual: int | list[tuple[int, int]]) -> int:
    return visual if isinstance(visual, int) else sum(rows * cols for rows, cols in visual)


def expanded(ids: Tensor, labels: Tensor, counts: list) -> list[tuple[int | str, int]]:
    """What every position must hold, and its label, counted in the plainest way."""
    positions, left = [], list(counts)
    for token, label in zip(ids.tolist(), labels.tolist(), strict=True):
        if token == IMAGE_TOKEN:
            positions += [("visual", IGNORE_INDEX)] * size(left.pop(0))
        else:
            positions.append((token, label))
    return positions


@settings(max_examples=150, deadline=None)
@given(sequences)
def test_every_position_holds_what_the_layout_says(drawn):
    ids, labels, counts = rows_of(drawn)
    batch = splice(ids, counts, labels=labels, seg_token_id=SEG)
    for row, layout in enumerate(batch.layouts):
        wanted = expanded(ids[row], labels[row], counts[row])
        length = len(wanted)
        assert layout.length == length
        assert batch.visual[row].tolist() == [t == "visual" for t, _ in wanted] + [False] * (
            batch.ids.shape[1] - length
        )
        assert batch.ids[row, :length].tolist() == [0 if t == "visual" else t for t, _ in wanted]
        assert batch.labels[row, :length].tolist() == [label for _, label in wanted]
        assert (batch.labels[row, length:] == IGNORE_INDEX).all()
        assert batch.attention_mask[row].tolist() == (~batch.empty[row]).tolist()
        assert batch.empty[row].sum() == batch.ids.shape[1] - length

        shapes = [
            (1, v) if isinstance(v, int) else g
            for v in counts[row]
            for g in ([v] if isinstance(v, int) else v)
        ]
        assert [(f.rows, f.cols) for f in layout.frames] == shapes
        covered = [position for frame in layout.frames for position in range(frame.start, frame.stop)]
        assert covered == batch.visual[row].nonzero()[:, 0].tolist()

        learnt = [p for turn in layout.turns for p in range(*turn.answer)]
        assert learnt == (batch.labels[row] != IGNORE_INDEX).nonzero()[:, 0].tolist()
        for turn in layout.turns:
            assert [p for p in range(*turn.answer) if wanted[p][0] == SEG] == list(turn.segs)
            assert turn.question[1] == turn.answer[0]
            assert all(wanted[p][0] != "visual" for p in range(*turn.question))


@settings(max_examples=60, deadline=None)
@given(sequences)
def test_padding_changes_nothing_but_the_mask(drawn):
    ids, labels, counts = rows_of(drawn)
    padded = torch.nn.utils.rnn.pad_sequence(ids, True, PAD)
    padded_labels = torch.nn.utils.rnn.pad_sequence(labels, True, IGNORE_INDEX)
    bare = splice(ids, counts, labels=labels, seg_token_id=SEG)
    for keep in (True, False):
        batch = splice(padded, counts, labels=padded_labels, pad_id=PAD, seg_token_id=SEG, keep_padding=keep)
        assert [layout.turns for layout in batch.layouts] == [layout.turns for layout in bare.layouts]
        assert [layout.frames for layout in batch.layouts] == [layout.frames for layout in bare.layouts]
        for row, layout in enumerate(bare.layouts):
            assert batch.attention_mask[row].sum() == layout.length
            for name in ("ids", "visual", "labels", "attention_mask"):
                ours, theirs = getattr(batch, name), getattr(bare, name)
                assert torch.equal(ours[row, : layout.length], theirs[row, : layout.length])
    assert batch.ids.shape == bare.ids.shape  # without padding


@settings(max_examples=60, deadline=None)
@given(sequences)
def test_embedding_puts_each_token_in_its_place(drawn):
    ids, labels, counts = rows_of(drawn)
    batch = splice(ids, counts, labels=labels)
    table = nn.Embedding(VOCABULARY, 2)
    visual = [torch.randn(sum(map(size, row)), 2, requires_grad=True) for row in counts]
    embeds = embed(batch, table, visual)
    for row, tokens in enumerate(visual):
        left = list(tokens)
        for position, (token, _) in enumerate(expanded(ids[row], labels[row], counts[row])):
            wanted = left.pop(0) if token == "visual" else table.weight[token]
            assert torch.equal(embeds[row, position], wanted)
        assert not embeds[row, batch.layouts[row].length :].any()
    embeds.sum().backward()
    assert all(tokens.grad is None or (tokens.grad == 1).all() for tokens in visual)
    used = torch.cat([row[row != IMAGE_TOKEN] for row in ids]).bincount(minlength=VOCABULARY)
    assert torch.equal(table.weight.grad[:, 0].long(), used)


def test_two_answers_and_two_segs_in_one_sequence():
    ids = torch.tensor([1, IMAGE_TOKEN, 2, 3, SEG, 4, SEG, 5, 6, 7, SEG, 8])
    learnt = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1]).bool()
    batch = splice(
        [ids], [[[(2, 2)]]], labels=[ids.where(learnt, torch.tensor(IGNORE_INDEX))], seg_token_id=SEG
    )
    first, second = batch.layouts[0].turns
    assert (first.question, first.answer, first.segs) == ((5, 6), (6, 11), (7, 9))
    assert (second.question, second.answer, second.segs) == ((11, 12), (12, 15), (13,))
    assert batch.seg_positions("predicting") == ((6, 8, 12),)
    assert batch.seg_positions("at_token") == ((7, 9, 13),)


def test_without_labels_the_text_behind_the_frames_is_the_question():
    ids = torch.tensor([1, IMAGE_TOKEN, 2, IMAGE_TOKEN, 3, 4, SEG, 5])
    batch = splice([ids], [[2, 2]], seg_token_id=SEG)
    assert batch.labels is None
    (turn,) = batch.layouts[0].turns
    assert (turn.question, turn.answer, turn.segs) == ((6, 10), (10, 10), (8,))
    assert batch.to("cpu").seg_positions("predicting") == ((7,),)


def test_wrong_input_is_named():
    ids = torch.tensor([[1, IMAGE_TOKEN, 2]])
    with pytest.raises(ValueError, match="1 placeholders for 2 visual inputs"):
        splice(ids, [[3, 3]])
    with pytest.raises(ValueError, match="a row of ids"):
        splice(ids, [])
    with pytest.raises(ValueError, match="labels must have"):
        splice(ids, [[3]], labels=ids[:, :2])
    with pytest.raises(ValueError, match="attention mask"):
        splice(ids, [[3]], attention_mask=torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="got -7"):
        splice(torch.tensor([[1, -7]]), [[]])
    batch = splice(ids, [[3]])
    with pytest.raises(ValueError, match=r"room for \[3\] visual tokens, got \[2\]"):
        embed(batch, nn.Embedding(4, 2), [torch.zeros(2, 2)])
    with pytest.raises(ValueError, match="seg_state"):
        batch.seg_positions("behind")
