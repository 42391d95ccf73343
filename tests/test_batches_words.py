"""The words of training samples: questions, answers and labels as both systems are taught them."""

from __future__ import annotations

import numpy as np
import pytest

from dataset.errors import DatasetError
from model.mllm.packing import IGNORE_INDEX
from tests.tiny_batches import IMAGE, SEG, LetterTokenizer, frame, mixed, turn
from visa import question_wording
from visa.conversations import LLAVA_V1, PHI3_INSTRUCT
from visa.training.batches.words import TrainingWords

TOKENIZER = LetterTokenizer()
FORMATS = {"visa": LLAVA_V1, "videolisa": PHI3_INSTRUCT}
WORDINGS = {"visa": question_wording.VISA, "videolisa": question_wording.VIDEOLISA}
SYSTEMS = pytest.mark.parametrize("system", ["visa", "videolisa"])


def write(system: str, sample, seed: int = 0, **options):
    return TrainingWords(system, TOKENIZER, **options).write(sample, np.random.default_rng(seed))


def texts(conversations) -> list[str]:
    return [TOKENIZER.text(conversation.input_ids) for conversation in conversations]


def counted(conversation) -> str:
    return TOKENIZER.text(conversation.labels[conversation.labels != IGNORE_INDEX])


def possible(system: str, forms, text: str, num_references: int, words: str = "") -> set[str]:
    """Every conversation that the wordings allow."""
    conversations = set()
    for form in forms:
        question = form.format(text)
        if system == "visa":
            question = question_wording.with_reference_frames(question, num_references)
        for answer in WORDINGS[system].answers:
            conversations.add(FORMATS[system].write([(question, f"{answer} {words}".strip())]).text)
    return conversations


def video(*turns, count: int = 3):
    frames = [frame(20 * number) for number in range(count)]
    return mixed(turns, frames, [frames[1]], places=(1,))


@SYSTEMS
def test_a_question_about_a_video(system: str) -> None:
    sample = video(turn("the Dog that runs"), turn("the cat"))
    (first, second) = write(system, sample)
    expected = "the dog that runs" if system == "videolisa" else "the Dog that runs"
    assert texts([first])[0] in possible(system, WORDINGS[system].short, expected, 3)
    assert texts([second])[0] in possible(system, WORDINGS[system].short, "the cat", 3)
    for conversation in (first, second):
        assert (conversation.input_ids == SEG).sum() == 1
        assert counted(conversation).lstrip().removesuffix(FORMATS[system].end) in WORDINGS[system].answers
        pictures = TOKENIZER.text(conversation.input_ids).count(IMAGE)
        assert pictures == (4 if system == "visa" else 1)


@SYSTEMS
def test_wordings_are_drawn_and_all_occur(system: str) -> None:
    sample = video(turn("the dog"))
    drawn = {texts(write(system, sample, seed))[0] for seed in range(200)}
    assert drawn == possible(system, WORDINGS[system].short, "the dog", 3)
    assert texts(write(system, sample, 7)) == texts(write(system, sample, 7))


def test_questions_about_videos_are_sentences_to_visa_alone() -> None:
    sample = video(turn("Who wins?"))
    assert texts(write("visa", sample))[0] in possible("visa", WORDINGS["visa"].long, "Who wins?", 3)
    short = possible("videolisa", WORDINGS["videolisa"].short, "who wins?", 3)
    assert texts(write("videolisa", sample))[0] in short


@SYSTEMS
@pytest.mark.parametrize("is_sentence", [True, False])
def test_pictures_say_whether_the_text_is_a_sentence(system: str, is_sentence: bool) -> None:
    picture = frame(9)
    sample = mixed([turn("A thing to sit on", is_sentence=is_sentence)], [picture], [picture], places=(0,))
    forms = WORDINGS[system].long if is_sentence else WORDINGS[system].short
    assert texts(write(system, sample))[0] in possible(system, forms, "A thing to sit on", 1)


@SYSTEMS
def test_reasons_come_behind_the_mask(system: str) -> None:
    picture = frame(9)
    asked = turn("Who Serves?", "mask and words", "The host\npours.", True, "reasoning")
    (conversation,) = write(system, mixed([asked], [picture], [picture], places=(0,)))
    text = "who serves?" if system == "visa" else "Who Serves?"
    forms = WORDINGS[system].explanatory
    assert texts([conversation])[0] in possible(system, forms, text, 1, "The host\npours.")


@SYSTEMS
def test_reasons_alone_need_one_picture_and_no_mask(system: str) -> None:
    asked = turn("Who serves?", "words", "The host.", True, "reasoning")
    (conversation,) = write(system, mixed([asked], [frame(9)]))
    shown = "(0)<image>" if system == "visa" else "<image>"
    expected = FORMATS[system].write([(f"{shown}\nWho serves?", "The host.")]).text
    assert texts([conversation]) == [expected]
    assert counted(conversation).strip() == "The host." + FORMATS[system].end


def test_talk_is_one_conversation() -> None:
    talk = [turn("What is it?", "words", "A cup.", kind="talk"), turn("Full?", "words", "Yes.", kind="talk")]
    pictures = [frame(1), frame(2)]
    (conversation,) = write("visa", mixed(talk, pictures, source="chat_univi_mimic"))
    turns = [("(0)<image>, (1)<image>\nWhat is it?", "A cup."), ("Full?", "Yes.")]
    assert texts([conversation]) == [LLAVA_V1.write(turns).text]
    assert counted(conversation).split("</s>") == [" A cup.", " Yes.", ""]


@pytest.mark.parametrize(
    ("source", "shown"), [("llava_instruct", "(0)<image>"), ("chat_univi_sqa", "<image>")]
)
def test_one_picture_of_chat_univi_has_no_number(source: str, shown: str) -> None:
    talk = turn("Why?", "words", "So.", kind="talk")
    (conversation,) = write("visa", mixed([talk], [frame(1)], source=source))
    assert texts([conversation]) == [LLAVA_V1.write([(f"{shown}\nWhy?", "So.")]).text]


@SYSTEMS
@pytest.mark.parametrize("hostile", ["[SEG]", "<image>", "</s>", "<|end|>", "<video>", "[S[SEG]EG]"])
def test_words_of_data_sets_are_no_control_tokens(system: str, hostile: str) -> None:
    talk = turn(f"What is {hostile} x < 2?", "words", f"It is {hostile} [1].", kind="talk")
    asked = turn(f"the {hostile} dog", "mask and words", f"as {hostile} said", True)
    picture = frame(1)
    for sample in (mixed([talk], [picture]), mixed([asked], [picture], [picture], places=(0,))):
        (conversation,) = write(system, sample)
        plain = mixed(
            [
                turn(
                    item.text.replace(hostile, "it"),
                    item.reply,
                    item.words.replace(hostile, "it"),
                    item.is_sentence,
                    item.kind,
                )
                for item in sample.turns
            ],
            [picture],
            sample.targets,
        )
        (expected,) = write(system, plain)
        for token in (SEG, -200, 2, TOKENIZER.ids["<|end|>"]):
            assert (conversation.input_ids == token).sum() == (expected.input_ids == token).sum()
    # Other brackets stay as they are, or mathematics would be taught wrongly.
    (conversation,) = write(system, mixed([talk], [picture]))
    assert "x < 2?" in texts([conversation])[0]
    assert "[1]." in texts([conversation])[0]


def test_long_talk_is_cut_and_a_lost_seg_is_told() -> None:
    talk = [turn("Why?", "words", "word " * 30, kind="talk"), turn("So?", "words", "end " * 30, kind="talk")]
    limit = 250
    (conversation,) = write("visa", mixed(talk, [frame(1)]), max_tokens=limit)
    assert len(conversation.input_ids) == len(conversation.labels) == limit
    assert counted(conversation).startswith(" word word")
    with pytest.raises(DatasetError, match=r"mevis: clip 'a/clip': .* tokens, of which 250 can be read"):
        write("visa", video(turn("the dog " * 20)), max_tokens=limit)
    with pytest.raises(DatasetError, match="can be read"):
        write("visa", mixed([turn("Why? " * 60, "words", "So.", kind="talk")], [frame(1)]), max_tokens=limit)


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_an_empty_question_is_told(text: str) -> None:
    with pytest.raises(DatasetError, match="clip 'a/clip'.*question"):
        write("visa", video(turn(text)))


def test_published_limits() -> None:
    assert TrainingWords("visa", TOKENIZER).max_tokens == 2048
    assert TrainingWords("videolisa", TOKENIZER).max_tokens == 1793
