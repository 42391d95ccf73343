"""Tokenizers of published checkpoints: the reference's ids, and [SEG] where the training put it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import sentencepiece
import tiny_published as tiny

from visa.checkpoints.tokenizer import load_tokenizer
from visa.errors import InputError

WORDS = (
    "the a bird car which one is red What in Reference Video Target Image Please find it USER ASSISTANT It"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ``tokenizer.model`` with LLaMA's settings, alone in its folder as Chat-UniVi has it."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    random.seed(0)
    lines = (" ".join(random.choices(WORDS.split(), k=9)) + random.choice(".?,:()0129") for _ in range(800))
    (folder / "text").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=380,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        minloglevel=2,
    )
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "What is the bird",
        " \nTarget Image: ",
        ", (1)",
        " \nWhat is a  red  car in the Reference Video? ASSISTANT: It is",
        "héllo 漢字\n\n\tx",
        "",
        " ",
    ],
)
@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_ids_are_those_of_sentencepiece(model: Path, text: str, system: str) -> None:
    """As slow tokenizers gave them, also for pieces that begin with a space, which come behind images."""
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    tokenizer, _ = load_tokenizer(system, model, 381, trained=True)
    assert tokenizer(text).input_ids == [1, *reference.encode(text)]


def test_spaces_around_seg(model: Path) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    for saved in (False, True):
        if saved:
            (model / "added_tokens.json").write_text(json.dumps({"[SEG]": 380}))
        visa, seg = load_tokenizer("visa", model, 381, trained=True)
        assert seg == 380
        expected = [1, *reference.encode("It is"), seg, *reference.encode("."), 2]
        assert visa("It is [SEG].</s>").input_ids == expected
        videolisa, _ = load_tokenizer("videolisa", model, 381, trained=True)
        expected = [1, *reference.encode("It is "), seg, *reference.encode(".")]
        assert videolisa("It is [SEG].").input_ids == expected
    (model / "added_tokens.json").unlink()


@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_seg_is_added_behind_the_base_models_words(
    tmp_path: Path, system: str, capsys: pytest.CaptureFixture
) -> None:
    tiny.write_tokenizer(tmp_path, system, seg=False)
    tokenizer, seg = load_tokenizer(system, tmp_path, tiny.VOCABULARY, trained=True)
    assert (seg, len(tokenizer)) == (tiny.SEG, tiny.VOCABULARY)
    assert capsys.readouterr().err.count("has no [SEG]; added as word 511") == 1
    assert tokenizer("a[SEG]b").input_ids.count(seg) == 1
    assert tokenizer.padding_side == "right"
    assert tokenizer.pad_token_id == 0
    tiny.write_tokenizer(tmp_path, system)
    assert load_tokenizer(system, tmp_path, tiny.VOCABULARY, trained=True)[1] == tiny.SEG
    assert "no [SEG]" not in capsys.readouterr().err


def test_tokenizers_that_do_not_fit(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path, "visa", seg=False)
    with pytest.raises(
        InputError, match=r"has no \[SEG\], and the model's embedding \(511 rows\) has none for it"
    ):
        load_tokenizer("visa", tmp_path, 511, trained=True)
    assert load_tokenizer("visa", tmp_path, 511, trained=False)[1] == 511
    tiny.write_tokenizer(tmp_path, "visa")
    with pytest.raises(InputError, match=r"\[SEG\] is word 511 .* has only 400 rows"):
        load_tokenizer("visa", tmp_path, 400, trained=True)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer("visa", tmp_path, 512, trained=True)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="has no tokenizer"):
        load_tokenizer("visa", tmp_path, 512, trained=True)


def test_a_base_models_tokenizer_stands_in(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path / "base", "visa", seg=False)
    weights = tmp_path / "pytorch_model.bin"
    weights.touch()
    assert load_tokenizer("visa", weights, 512, trained=True, base=tmp_path / "base")[1] == 511


def test_what_the_files_say_is_kept(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path, "videolisa")
    path = tmp_path / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), "add_bos_token": False, "legacy": False}
    settings["pad_token"] = "<|end|>"
    path.write_text(json.dumps(settings))
    tokenizer, seg = load_tokenizer("videolisa", tmp_path, 512, trained=True)
    assert tokenizer.pad_token_id == 0, "both systems pad with <unk>"
    ids = tokenizer("<|user|>\nab [SEG]<|end|>").input_ids
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|user|>")
    assert ids[-2:] == [seg, tokenizer.convert_tokens_to_ids("<|end|>")]
    assert ids[1] == tokenizer.convert_tokens_to_ids("<0x0A>")
