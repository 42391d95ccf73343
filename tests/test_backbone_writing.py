"""How conversations become tokens: turns, answers, [SEG], and words that look like control tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_backbones import CONTROL, FAMILIES, tiny_model, tiny_tokenizer

from model.backbones.backbone import ChatTurn
from model.backbones.families import backbone_for

FRAMES = np.zeros((2, 60, 60, 3), np.uint8)
CACHE = {}
every = pytest.mark.parametrize("family", FAMILIES)


def talking(family):
    """A backbone whose tokenizer has [SEG]."""
    if family not in CACHE:
        tokenizer = tiny_tokenizer(family, "[SEG]")
        CACHE[family] = backbone_for(tiny_model(family, tokenizer), tokenizer)
    return CACHE[family]


def said(backbone, packed, span):
    return backbone.tokenizer.decode(packed.inputs["input_ids"][0, span[0] : span[1]])


@every
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_words_of_a_person_never_become_control_tokens(family, data):
    backbone = talking(family)
    control = [*CONTROL[FAMILIES[family][0]], "[SEG]"]
    pieces = st.one_of(
        st.sampled_from(control), st.text(max_size=4), st.sampled_from(["<", "|", ">>", " the"])
    )
    text = "".join(data.draw(st.lists(pieces, max_size=6)))
    packed = backbone.pack(FRAMES, [ChatTurn("user", text)], stream="frame")
    plain = backbone.pack(FRAMES, [ChatTurn("user", "x")], stream="frame")
    begin, end = packed.layout.turns[0].question
    ids = packed.inputs["input_ids"][0].tolist()
    known = backbone.tokenizer.added_tokens_decoder
    assert not known.keys() & set(ids[begin:end])
    assert [i for i in ids if i in known] == [i for i in plain.inputs["input_ids"][0].tolist() if i in known]
    assert said(backbone, packed, (begin, end)).strip() == text.strip()


@every
def test_answers_and_their_seg_tokens_are_found(family):
    backbone = talking(family)
    turns = [
        ChatTurn("user", "which [SEG] is it?"),
        ChatTurn("assistant", "It is [SEG], not [SEG]."),
        ChatTurn("user", "and now?"),
        ChatTurn("assistant", "[SEG]"),
    ]
    packed = backbone.pack(FRAMES, turns, stream="frame", generate=False)
    first, second = packed.layout.turns
    ids = packed.inputs["input_ids"][0].tolist()
    segs = [position for position, token in enumerate(ids) if token == backbone.seg_token_id]
    assert [*first.segs, *second.segs] == segs
    assert len(first.segs) == 2
    end = backbone.wording.end
    assert said(backbone, packed, first.question).strip() == "which [SEG] is it?"
    assert said(backbone, packed, first.answer).replace(" ", "") == f"Itis[SEG],not[SEG].{end}"
    assert said(backbone, packed, second.answer).strip() == f"[SEG]{end}"
    assert second.answer[1] == packed.length
    assert packed.layout.seg_states(0, "predicting") == tuple(position - 1 for position in first.segs)


@every
def test_an_answer_to_come_begins_where_a_given_one_does(family):
    backbone = talking(family)
    question = [ChatTurn("user", "where?")]
    given_answer = [*question, ChatTurn("assistant", "It is [SEG].")]
    asked = backbone.pack(FRAMES, question, stream="frame")
    told = backbone.pack(FRAMES, given_answer, stream="frame", generate=False)
    ids, longer = (each.inputs["input_ids"][0].tolist() for each in (asked, told))
    assert longer[: len(ids)] == ids
    assert asked.layout.turns[0].answer == (asked.length, asked.length)
    assert told.layout.turns[0].answer[0] in (asked.length, asked.length + 1)  # SmolVLM says a space first


@every
def test_without_seg_in_the_tokenizer_it_is_plain_words(family):
    tokenizer = tiny_tokenizer(family)
    backbone = backbone_for(tiny_model(family, tokenizer), tokenizer)
    turns = [ChatTurn("user", "where?"), ChatTurn("assistant", "It is [SEG].")]
    packed = backbone.pack(FRAMES, turns, stream="frame", generate=False)
    assert packed.layout.turns[0].segs == ()
    assert said(backbone, packed, packed.layout.turns[0].answer) in (
        f"It is [SEG].{backbone.wording.end}",
        f" It is [SEG].{backbone.wording.end}",
    )
    assert backbone.seg_token_id is None


def test_a_system_turn_takes_the_place_of_the_models_own():
    backbone = talking("qwen2_5_vl")
    own = backbone.pack(FRAMES, [ChatTurn("user", "where?")], stream="frame")
    other = backbone.pack(
        FRAMES, [ChatTurn("system", "Be brief."), ChatTurn("user", "where?")], stream="frame"
    )
    assert said(backbone, own, (0, own.layout.frames[0].start)) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
    )
    assert said(backbone, other, (0, other.layout.frames[0].start)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
    )
    assert len(other.layout.turns) == 1


def test_an_empty_question_has_an_empty_place():
    backbone = talking("qwen2_vl")
    packed = backbone.pack(FRAMES, [ChatTurn("user", "")], stream="frame")
    begin, end = packed.layout.turns[0].question
    assert begin == end
    assert backbone.tokenizer.decode(packed.inputs["input_ids"][0, end]) == "<|im_end|>"


def test_control_words_are_taken_apart_however_many_there_are():
    backbone = talking("qwen2_vl")
    typed = "<|im_end|>" * 2000
    packed = backbone.pack(FRAMES, [ChatTurn("user", typed)], stream="frame")
    begin, end = packed.layout.turns[0].question
    assert said(backbone, packed, (begin, end)) == typed
    control = backbone.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert control not in packed.inputs["input_ids"][0, begin:end]
