"""Questions: nothing a person types can act as a control token, and bad questions get one clear line."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visa.errors import InputError
from visa.questions import MAX_QUESTION_CHARACTERS, clean_question

CONTROL_TOKENS = [
    "[SEG]",
    "<image>",
    "<video>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<unk>",
    "<TRK>",
    "[INST]",
    "<<SYS>>",
    "<|vision_start|>",
    "＜image＞",
    "［SEG］",
    "[S[SEG]EG]",
    "[\u200bSEG]",
    "<\x00image>",
]


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_control_tokens_lose_their_power_and_keep_their_words(token: str) -> None:
    cleaned = clean_question(f"where is {token} the dog{token}?")
    assert not re.search(r"[<>\[\]]", unicodedata.normalize("NFKC", cleaned))
    assert re.sub(r"\W", "", unicodedata.normalize("NFKC", token)) in re.sub(r"\W", "", cleaned)
    assert "the dog" in cleaned


def test_ordinary_questions_stay_as_they_are() -> None:
    for question in (
        "which one could fly?",
        "la plus grande voiture à gauche",
        "哪只狗在跑？",
        "the 2nd dog's tail",
    ):
        assert clean_question(question) == question


def test_white_space_and_invisible_characters_go() -> None:
    assert clean_question("  the\tdog\r\n\u2028 on\u00a0the \u202eleft\x1b[31m ") == "the dog on the left(31m"
    assert clean_question("e\u0301te\ud800") == "éte"
    assert clean_question("the 👩\u200d🚀") == "the 👩\u200d🚀"


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\x00\x07", "\u200b\ufeff", "\u200d \u200c"])
def test_an_empty_question_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="the question is empty") as caught:
        clean_question(text)
    assert "\n" not in str(caught.value)


def test_a_question_of_10000_characters_is_refused() -> None:
    with pytest.raises(InputError, match="10000 characters; shorten it to at most 2000") as caught:
        clean_question("a" * 10_000)
    assert len(str(caught.value)) < 200
    assert len(clean_question("a" * MAX_QUESTION_CHARACTERS)) == MAX_QUESTION_CHARACTERS


@given(st.text() | st.text("<>[]|/ S\u0338\u0301\u200b\u202e＜］﹇seg\n"))
def test_cleaning_is_idempotent_and_leaves_no_bracket(text: str) -> None:
    try:
        cleaned = clean_question(text)
    except InputError:
        return
    assert clean_question(cleaned) == cleaned
    assert not set("<>[]") & set(unicodedata.normalize("NFKC", cleaned))
    assert cleaned.isprintable() or {"\u200c", "\u200d"} & set(cleaned)
    assert cleaned == cleaned.strip()
