"""Answers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.mllm.packing import SEG_TOKEN
from visa.answer_words import NO_WORDS, plain_words, verdict


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("It is the goat. [SEG]", "It is the goat."),
        ("Sure, [SEG].", "Sure."),
        ("Sure, it is [SEG] .", "Sure, it is."),
        ("The dog [SEG] and the cat [SEG].", "The dog and the cat."),
        ("[SEG]", NO_WORDS),
        ("", NO_WORDS),
        ("There is none.", "There is none."),
        ("two: a, b", "two: a, b"),
        ("two\n lines", "two lines"),
    ],
)
def test_the_sign_is_not_read_out(answer, words):
    assert plain_words(answer) == words


@given(st.lists(st.one_of(st.just(SEG_TOKEN), st.text(max_size=8))).map("".join))
def test_no_answer_shows_it_and_no_answer_is_empty(answer):
    words = plain_words(answer)
    assert words == words.strip() != ""
    # One that only comes about when another is taken out was never the model's sign.
    assert SEG_TOKEN not in words or SEG_TOKEN in answer.replace(SEG_TOKEN, "")


@given(st.text(st.characters(codec="ascii", exclude_characters="[]")))
def test_other_words_are_left_alone(answer):
    assert plain_words(answer).split() == (answer.split() or NO_WORDS.split())


def test_what_was_not_found_is_said():
    assert verdict("There is none.", False) == "not found: There is none."
    assert verdict("It is here. [SEG]", True) == "It is here."
