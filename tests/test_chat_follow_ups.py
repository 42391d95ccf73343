"""Follow-up questions made whole, and what is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visa.follow_ups import MAX_PHRASE_WORDS, Mention, complete, mention_in
from visa.questions import MAX_QUESTION_CHARACTERS

CAR = Mention("the red car", "car")


@pytest.mark.parametrize(
    ("question", "answer", "phrase", "noun"),
    [
        ("the red car on the left", "", "the red car on the left", "car"),
        ("Find the big running dog.", "", "the big running dog", "dog"),
        ("where is the man holding a ball?", "", "the man holding a ball", "man"),
        ("the ball chased by the dog", "", "the ball chased by the dog", "ball"),
        ("the two people dancing", "", "the two people dancing", "people"),
        ("Can you show me a dog in this video, please?", "", "the dog", "dog"),
        ("and the truck?", "", "the truck", "truck"),
        ("red bus", "", "the red bus", "bus"),
        ("Is there any cat?", "", "the cat", "cat"),
        ("which animal could fly?", "", "the animal that could fly", "animal"),
        ("which one could fly?", "It is the bird. [SEG]", "the bird", "bird"),
        ("which one could fly?", "It is [SEG].", "the one that could fly", "one"),
        ("who is running?", "Sure, [SEG].", "the person that is running", "person"),
        ("what is behind the dog?", "It is the box. [SEG]", "the box", "box"),
        ("what is behind the dog?", "", "the thing behind the dog", "thing"),
        ("something to sit on would be nice", "Here is the chair. [SEG]", "the chair", "chair"),
    ],
)
def test_what_was_asked_for_has_a_name(question: str, answer: str, phrase: str, noun: str) -> None:
    assert mention_in(question, answer) == Mention(phrase, noun)


@pytest.mark.parametrize(
    "question", ["why is everybody so loud", "?", "12 34", "something to sit on would do"]
)
def test_what_has_no_plain_name_has_none(question: str) -> None:
    assert mention_in(question) is None


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("it", "the red car"),
        ("show it again", "the red car"),
        ("that one, please", "the red car"),
        ("what about that one?", "the red car"),
        ("And them?", "the red car"),
        ("and the one behind it?", "the car behind the red car"),
        ("the one to the left of it", "the car to the left of the red car"),
        ("and the one on the right?", "the car on the right"),
        ("the white one?", "the white car"),
        ("the red ones", "the red cars"),
        ("the other one", "the other car"),
        ("the others", "the other cars"),
        ("is there another?", "is there another car?"),
        ("and the one that could fly?", "the car that could fly"),
        ("the person holding it", "the person holding the red car"),
        ("who is next to her?", "who is next to the red car?"),
        ("is it moving?", "is the red car moving?"),
        ("its left wheel", "the left wheel of the red car"),
        ("what is on its roof?", "what is on the roof of the red car?"),
        ("the dog next to that one", "the dog next to the red car"),
        ("what about the truck?", "the truck"),
    ],
)
def test_what_points_back_is_put_into_words(typed: str, whole: str) -> None:
    follow_up = complete(typed, CAR)
    assert follow_up is not None
    assert follow_up.question == whole


@pytest.mark.parametrize(
    "typed",
    [
        "the truck",
        "and the truck?",
        "which one could fly?",
        "the one that could fly",
        "one of the cars",
        "number one",
        "the box with a cat in it",
        "the man and the dog beside him",
        "the dog wagging its tail",
        "who lost their hat?",
        "the woman and her dog",
        "Now that the dog is gone, what is left?",
        "la voiture derrière",
        "and",
        "?",
    ],
)
def test_what_stands_on_its_own_is_left_alone(typed: str) -> None:
    assert complete(typed, CAR) is None


def test_nothing_earlier_to_point_to() -> None:
    assert complete("and the one behind it?", None) is None


def test_one_of_several_and_several_of_one() -> None:
    for many, one in (
        ("dogs", "dog"),
        ("people", "person"),
        ("buses", "bus"),
        ("ponies", "pony"),
        ("boxes", "box"),
    ):
        assert (
            complete("the one on the left", Mention(f"the {many}", many)).question == f"the {one} on the left"
        )
        assert (
            complete("the ones on the left", Mention(f"the {one}", one)).question == f"the {many} on the left"
        )


@pytest.mark.parametrize(
    ("typed", "is_another", "side"),
    [
        ("the other one", True, None),
        ("another", True, None),
        ("the one behind it", True, None),
        ("the one to the left of it", True, "left"),
        ("who is right of them?", True, "right"),
        ("what is above it?", True, "above"),
        ("the thing beneath it", True, "below"),
        ("it", False, None),
        ("is it moving?", False, None),
        ("the one on the left", False, None),
        ("the red one", False, None),
        ("what is the colour of it", False, None),
    ],
)
def test_whether_another_is_asked_for_and_where(typed: str, is_another: bool, side: str | None) -> None:
    follow_up = complete(typed, CAR)
    assert (follow_up.is_another, follow_up.side) == (is_another, side)


def test_a_chain_does_not_grow_for_ever() -> None:
    mention = CAR
    for _ in range(20):
        question = complete("and the one behind it?", mention).question
        mention = mention_in(question)
        assert mention.noun == "car"
        assert len(question.split()) <= MAX_PHRASE_WORDS + 3


@given(st.text(max_size=80), st.text(max_size=40))
def test_no_question_breaks_it(question: str, answer: str) -> None:
    mention_in(question, answer)
    complete(question, CAR)
    complete(question, None)


@pytest.mark.parametrize(
    "piece", ["the ", "and ", "again ", "in it ", "the one ", "a-b ", "please? ", "x", "w ing "]
)
def test_a_long_question_takes_no_time(piece: str) -> None:
    text = (piece * MAX_QUESTION_CHARACTERS)[:MAX_QUESTION_CHARACTERS]
    begin = time.perf_counter()
    complete(text, CAR)
    mention_in(text, f"It is {text}")
    assert time.perf_counter() - begin < 1.0
