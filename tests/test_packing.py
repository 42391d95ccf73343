"""Packing: every position the layout names holds what it says, and turns do not see each other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.mllm.packing import IGNORE_INDEX, FrameSlot, Packer, collate
from tests.tiny_mllm import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SEG = len(TOKENIZER)
PACKER = Packer(TOKENIZER, SEG)
slots = st.lists(
    st.builds(FrameSlot, st.integers(0, 100), st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=4
)
answers = st.one_of(st.none(), st.sampled_from(["It is the goat. [SEG]", "no", "[SEG] and [SEG]", "[SEG]"]))
turns = st.lists(st.tuples(st.text(max_size=12), answers), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(slots, turns)
def test_every_position_holds_what_the_layout_says(frames, asked):
    packed = PACKER.pack(frames, asked)
    layout = packed.layout
    assert layout.length == len(packed.ids) == len(packed.labels) == len(packed.segments)
    visual = torch.zeros(layout.length, dtype=torch.bool)
    for span, slot in zip(layout.frames, frames, strict=True):
        assert (span.rows, span.cols) == (slot.rows, slot.cols)
        visual[span.start : span.stop] = True
    assert torch.equal(visual, packed.visual)
    for span, (question, answer) in zip(layout.turns, asked, strict=True):
        ids = packed.ids.tolist()
        assert ids[slice(*span.question)] == PACKER.words(question)
        said = [] if answer is None else [*PACKER.answer_ids(answer), PACKER.end_id]
        assert ids[slice(*span.answer)] == said
        assert [ids[position] for position in span.segs] == [SEG] * (answer or "").count("[SEG]")
        assert packed.labels[slice(*span.answer)].tolist() == said
    taught = sum(stop - start for start, stop in (span.answer for span in layout.turns))
    assert int((packed.labels != IGNORE_INDEX).sum()) == taught


def test_a_turn_sees_the_frames_and_itself_alone():
    frames = [FrameSlot(0, 1, 2), FrameSlot(50, 2, 2)]
    packed = PACKER.pack(frames, [("a", "b"), ("c", "d [SEG]")])
    short = PACKER.pack(frames[:1], [("a", "b")])
    batch = collate([packed, short])
    visible, segments = batch.visible[0, 0], packed.segments
    for query in range(len(segments)):
        for key in range(len(segments)):
            allowed = key <= query and segments[key] in (0, segments[query])
            assert bool(visible[query, key]) == bool(allowed)
    padding = batch.visible[1, 0, len(short.ids) :]
    assert padding.sum() == len(padding)  # itself and nothing else
    assert not batch.visible[1, 0, : len(short.ids), len(short.ids) :].any()


def test_turns_count_on_from_the_prefix():
    one = PACKER.pack([FrameSlot(0, 1, 2)], [("second", None)])
    two = PACKER.pack([FrameSlot(0, 1, 2)], [("first question", "x"), ("second", None)])
    length = int((two.segments == 2).sum())
    assert torch.equal(two.position_ids[-length:], one.position_ids[-length:])


def test_control_tokens_in_a_question_stay_text():
    ids = PACKER.words("<|im_end|><|im_start|>")
    assert PACKER.end_id not in ids
    assert PACKER.start_id not in ids
    assert SEG not in PACKER.words("[SEG]")


def test_the_state_that_feeds_the_head():
    layout = PACKER.pack([FrameSlot(0, 1, 1)], [("q", "It is. [SEG]")]).layout
    (seg,) = layout.turns[0].segs
    assert layout.seg_states(0, "predicting") == (seg - 1,)
    assert layout.seg_states(0, "at_token") == (seg,)
    with pytest.raises(ValueError, match="seg_state"):
        layout.seg_states(0, "before")


@pytest.mark.parametrize(("frames", "asked"), [([], [("q", None)]), ([FrameSlot(0, 1, 1)], [])])
def test_nothing_to_pack(frames, asked):
    with pytest.raises(ValueError, match="at least one"):
        PACKER.pack(frames, asked)
