"""Prompts of the published systems: wording, turns, tokens, labels; hostile, empty and long questions."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from model.mllm.packing import IGNORE_INDEX
from model.mllm.splicing import IMAGE_TOKEN, splice
from visa.conversations import LLAVA_V1, PHI3_INSTRUCT, Conversation, collate, encode, token_ids
from visa.errors import InputError
from visa.question_wording import VIDEOLISA, VISA, videolisa_question, visa_question, with_reference_frames

CONTROL = [
    "<s>",
    "</s>",
    "<unk>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|endoftext|>",
    "[SEG]",
]
HOSTILE = [
    *CONTROL,
    "<image>",
    "<video>",
    "{}",
    "{sent}",
    "USER:",
    " ASSISTANT:",
    "[S[SEG]EG]",
    "<ima<image>ge>",
]
SYSTEMS = {
    "visa": (LLAVA_V1, VISA, lambda text: with_reference_frames(visa_question(text), 3), 4),
    "videolisa": (PHI3_INSTRUCT, VIDEOLISA, videolisa_question, 1),
}
MANY = settings(max_examples=100, deadline=None)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte by byte, with all control tokens of both systems."""
    alphabet = [*CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, []))
    inner.normalizer = normalizers.Replace("\r", "\n")
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    # Those of Phi-3 swallow the white space behind them.
    inner.add_special_tokens(
        [AddedToken(token, rstrip="|" in token, normalized=False) for token in CONTROL[:-1]]
    )
    inner.add_tokens([AddedToken("[SEG]", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def id_of(tokenizer, token: str) -> int:
    return tokenizer.convert_tokens_to_ids(token)


# Tokens and labels


@pytest.mark.parametrize("system", SYSTEMS)
@MANY
@given(
    pieces=st.lists(st.text(max_size=8) | st.sampled_from(HOSTILE), min_size=1, max_size=6).map("".join),
    answers=st.lists(st.sampled_from(VIDEOLISA.answers), min_size=1, max_size=3),
)
def test_no_question_makes_a_control_token(tokenizer, system, pieces, answers):
    chat, _, ask, num_images = SYSTEMS[system]
    question = ask(pieces + " what")
    encoded = encode(chat.write([(question, answer) for answer in answers]), tokenizer)
    ids = encoded.input_ids.tolist()
    assert ids.count(IMAGE_TOKEN) == num_images * len(answers)
    plain = encode(chat.write([(ask("what"), answer) for answer in answers]), tokenizer).input_ids.tolist()
    for token in CONTROL:
        assert ids.count(id_of(tokenizer, token)) == plain.count(id_of(tokenizer, token)), token
    assert ids.count(id_of(tokenizer, "[SEG]")) == len(answers)
    kept = encoded.labels[encoded.labels != IGNORE_INDEX]
    said = "".join(answer + chat.end for answer in answers)
    assert tokenizer.decode(kept).replace(" ", "") == said.replace(" ", "")
    assert torch.equal(encoded.input_ids[encoded.labels != IGNORE_INDEX], kept)


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_open_answer_is_the_beginning_of_any_other(tokenizer, system):
    chat, words, ask, _ = SYSTEMS[system]
    turns = [(ask("the goat"), words.forced_answer), (ask("who wins?"), None)]
    opened = encode(chat.write(turns), tokenizer)
    closed = encode(chat.write([turns[0], (turns[1][0], words.answers[3])]), tokenizer)
    length = len(opened.input_ids)
    assert torch.equal(closed.input_ids[:length], opened.input_ids)
    assert torch.equal(closed.labels[:length], opened.labels)
    assert (closed.labels[length:] != IGNORE_INDEX).all()
    assert len(chat.write(turns).answers) == 1


def test_a_tokenizer_without_bos_gives_none():
    class Letters:
        bos_token_id = 1

        def __call__(self, text):
            return SimpleNamespace(input_ids=[ord(letter) for letter in text])

    assert token_ids("<image>a<image><image>b", Letters()) == [-200, 97, -200, -200, 98]


def test_a_tokenizer_that_reaches_across_an_answer_is_refused():
    class Whole:
        bos_token_id = 1

        def __call__(self, text):
            return SimpleNamespace(input_ids=[1, len(text)])

    with pytest.raises(ValueError, match="expected the tokenizer that came with the checkpoint"):
        encode(LLAVA_V1.write([("q", "It is [SEG].")]), Whole())


@pytest.mark.parametrize("turns", [[], [("q", None), ("q", "a")]])
def test_bad_turns(turns):
    with pytest.raises(ValueError, match="only its last answer may be left open"):
        LLAVA_V1.write(turns)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_batch_can_be_spliced(tokenizer, system):
    chat, words, ask, num_images = SYSTEMS[system]
    videos = [
        [
            encode(chat.write([(ask(text), answer)]), tokenizer)
            for text, answer in zip(asked, words.answers, strict=False)
        ]
        for asked in (["the goat"], ["who wins?", "the red car", "a much longer question than the others"])
    ]
    batch = collate(videos, pad_id=id_of(tokenizer, "<unk>"))
    assert batch.offsets == (0, 1, 4)
    assert batch.input_ids.shape == batch.labels.shape == batch.attention_mask.shape
    lengths = [len(encoded.input_ids) for video in videos for encoded in video]
    assert batch.attention_mask.sum(1).tolist() == lengths
    assert (batch.input_ids[~batch.attention_mask] == id_of(tokenizer, "<unk>")).all()
    assert (batch.labels[~batch.attention_mask] == IGNORE_INDEX).all()
    seg = id_of(tokenizer, "[SEG]")
    spliced = splice(
        batch.input_ids,
        [[5] * num_images] * 4,
        labels=batch.labels,
        attention_mask=batch.attention_mask,
        seg_token_id=seg,
    )
    for layout, row, length in zip(spliced.layouts, spliced.ids, lengths, strict=True):
        ((position,),) = (turn.segs for turn in layout.turns)
        assert row[position] == seg
        assert spliced.attention_mask.shape[1] >= length + 4 * num_images


def test_long_rows_are_cut(tokenizer):
    encoded = encode(Conversation("x" * 50, ()), tokenizer)
    assert collate([[encoded]], 0, max_length=20).input_ids.shape == (1, 20)
    assert collate([[encoded]], 0).input_ids.shape == (1, len(encoded.input_ids))


@pytest.mark.parametrize("videos", [[], [[]]])
def test_an_empty_batch(videos):
    with pytest.raises(ValueError, match="at least one conversation"):
        collate(videos, 0)


# Wording


@pytest.mark.parametrize("ask", [visa_question, videolisa_question])
@pytest.mark.parametrize(
    ("text", "complaint"), [("", "empty"), (" \n\t", "empty"), ("a" * 10_000, "10000 characters")]
)
def test_empty_and_long_questions_end_in_one_line(ask, text, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        ask(text)
    assert "\n" not in str(caught.value)


def test_case_and_space_in_and_out_of_training():
    assert " the dog {} in the Reference" in visa_question("The  DOG {}")
    rng = np.random.default_rng(0)
    assert all("The DOG" in VISA.training_question("The  DOG", rng) for _ in range(9))


@pytest.mark.parametrize("words", [VISA, VIDEOLISA])
def test_training_draws_every_sentence_of_the_right_list(words):
    def drawn(**options):
        text = options.pop("text", "the goat")
        rng = np.random.default_rng(0)
        return {words.training_question(text, rng, **options) for _ in range(60)}

    def filled(forms, text="the goat"):
        return {form.format(text) for form in forms}

    assert drawn() == filled(words.short)
    assert drawn(text="who?") == filled(words.long, "who?")
    assert drawn(is_sentence=True) == filled(words.long)
    assert drawn(text="who?", is_sentence=False) == filled(words.short, "who?")
    assert drawn(explain=True) == filled(words.explanatory)
    assert words.forced_answer in words.answers
    assert all(len(re.findall(r"\[SEG\]", answer)) == 1 for answer in words.answers)


@pytest.mark.parametrize(
    ("benchmark", "text", "is_sentence", "question"),
    [
        ("video", "The Dog", None, "Please segment the the dog in this image."),
        ("video", "Who wins?", None, "Who wins? Please output segmentation mask."),
        ("reason_vos", "The Dog", False, "Please segment the the dog in this scene."),
        ("reason_vos", "The one that wins", True, "The one that wins. Please output the segmentation masks."),
        ("image", "the dog", False, " What is the dog in this video? Please output segmentation mask."),
        ("image", "Who wins", True, " Who wins Please output segmentation mask."),
    ],
)
def test_videolisas_benchmarks(benchmark, text, is_sentence, question):
    assert videolisa_question(text, benchmark, is_sentence) == "<image>\n" + question


def test_unknown_benchmark():
    with pytest.raises(ValueError, match="one of video, reason_vos, image, not 'mevis'"):
        videolisa_question("the dog", "mevis")


def test_visa_reads_a_reference_frame_at_least():
    with pytest.raises(ValueError, match="at least"):
        with_reference_frames(visa_question("the dog"), 0)
