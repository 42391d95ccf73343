"""Answers behind frames that are read once: the same as in one pass, whatever was asked before."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from model.llava_phi3.videolisa import VideoLisaModel
from model.mllm.answering import Reading
from model.mllm.decoding import Decoding
from tests.tiny_videolisa import PATCHES, SEG, VOCABULARY, conversation, frames, tiny_videolisa

QUESTIONS = [([5, 6], [9, SEG, 2]), ([8], [SEG, 4, SEG, 2]), ([3, 11, 12, 13, 14], [10, 2])]
PREFIX = 2 + 3 + 2 * PATCHES  # two words, three means, two frames in full
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
# No window, one that ends within the question, one that reaches back into the frames.
WINDOWS = [None, 2, 7]


def read(model: VideoLisaModel, seed: int = 0) -> Reading:
    prefix, _ = model.split_behind_frames(conversation([], []))
    return model.read(prefix, model.visual_counts(3, 2), model.visual_tokens(frames(3, seed), [0, 2]))


def hidden_in_one_pass(model: VideoLisaModel, ids: Tensor) -> Tensor:
    """Hidden states [L, D], nothing cached."""
    batch = model.splice([ids], [model.visual_counts(3, 2)])
    return model(batch, [model.visual_tokens(frames(3), [0, 2])])[0]


def cached(reading: Reading) -> list[Tensor]:
    return [tensor.clone() for layer in reading.cache.layers for tensor in (layer.keys, layer.values)]


class Script(nn.Module):
    """An output layer that has every next token written down."""

    def __init__(self, tokens: Sequence[int]):
        super().__init__()
        self.tokens = list(tokens)

    def forward(self, states: Tensor) -> Tensor:
        logits = torch.zeros(*states.shape[:-1], VOCABULARY)
        if states.ndim == 1:
            logits[self.tokens.pop(0)] = 9.0
        return logits


@pytest.mark.parametrize("seg_state", ["predicting", "at_token"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("window", WINDOWS)
@torch.no_grad()
def test_given_answers_point_as_in_one_pass(window: int | None, attention: str, seg_state: str) -> None:
    model = tiny_videolisa(window, attention, seg_state)
    reading = read(model)
    assert reading.length == PREFIX
    for question, answer in QUESTIONS:
        ids = conversation(question, answer)
        batch = model.splice([ids], [model.visual_counts(3, 2)])
        hidden = hidden_in_one_pass(model, ids)
        (expected,) = model.seg_embeddings(hidden[None], batch)
        given = model.forced(reading, torch.tensor(question), torch.tensor(answer))
        assert given.ids.tolist() == answer
        assert given.found == (SEG in answer)
        torch.testing.assert_close(given.embeddings, expected, **TOLERANCE)
        before = [p for turn in batch.layouts[0].turns for p in turn.segs]
        probs = model.logits(hidden).softmax(-1)[[p - 1 for p in before], SEG]
        torch.testing.assert_close(given.probs, probs, **TOLERANCE)


@pytest.mark.parametrize("window", WINDOWS)
@torch.no_grad()
def test_many_questions_are_answered_as_each_alone(window: int | None) -> None:
    model = tiny_videolisa(window)
    shared = read(model)
    before = cached(shared)
    decoding = Decoding(stop_ids=(2,), max_new_tokens=6)
    for question, answer in [*QUESTIONS, *reversed(QUESTIONS)]:
        question, answer = torch.tensor(question), torch.tensor(answer)
        given, alone = (model.forced(each, question, answer) for each in (shared, read(model)))
        assert torch.equal(given.embeddings, alone.embeddings)
        written, alone = (model.generate(each, question, decoding) for each in (shared, read(model)))
        assert torch.equal(written.ids, alone.ids)
        assert torch.equal(written.embeddings, alone.embeddings)
    assert shared.cache.get_seq_length() == shared.length
    assert all(torch.equal(was, now) for was, now in zip(before, cached(shared), strict=True))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("window", WINDOWS)
@torch.no_grad()
def test_the_model_writes_the_likeliest_tokens(window: int | None, attention: str) -> None:
    model = tiny_videolisa(window, attention)
    question = [5, 6]
    written = model.generate(read(model), torch.tensor(question), Decoding(stop_ids=(), max_new_tokens=8))
    said: list[int] = []
    for _ in range(8):
        hidden = hidden_in_one_pass(model, conversation(question, said))
        said.append(int(model.logits(hidden[-1]).argmax()))
    assert written.ids.tolist() == said


@pytest.mark.parametrize("seg_state", ["predicting", "at_token"])
@pytest.mark.parametrize("limit", [3, 5, 20])
@torch.no_grad()
def test_a_written_answer_points_like_the_same_answer_given(seg_state: str, limit: int) -> None:
    model = tiny_videolisa(7, seg_state=seg_state)
    answer = [9, 4, SEG, 6, SEG, 2]
    said = answer[: min(limit, len(answer) - 1)]
    reading, question = read(model), torch.tensor([5, 6])
    given = model.forced(reading, question, torch.tensor(said))
    model.language.set_output_embeddings(Script(answer))
    written = model.generate(reading, question, Decoding(stop_ids=(2, 1), max_new_tokens=limit))
    assert written.ids.tolist() == said
    assert written.found
    torch.testing.assert_close(written.embeddings, given.embeddings, **TOLERANCE)
    assert len(written.probs) == said.count(SEG)


@torch.no_grad()
def test_an_answer_without_seg_found_nothing() -> None:
    model = tiny_videolisa()
    model.language.set_output_embeddings(Script([9, 4, 2]))
    written = model.generate(read(model), torch.tensor([5]), Decoding(stop_ids=(2,)))
    assert written.ids.tolist() == [9, 4]
    assert not written.found
    assert written.embeddings.shape == (0, 256)
    assert written.probs.shape == (0,)
    model.language.set_output_embeddings(Script([2]))
    assert model.generate(read(model), torch.tensor([5]), Decoding(stop_ids=(2,))).ids.tolist() == []


def test_tokens_are_drawn_from_the_likeliest() -> None:
    logits = torch.tensor([0.0, 3.0, 2.9, -1.0])

    def drawn(**options: float) -> set[int]:
        generator = torch.Generator().manual_seed(0)
        decoding = Decoding(stop_ids=(), **options)
        return {decoding.choose(logits, generator) for _ in range(300)}

    assert drawn() == {1}
    assert drawn(temperature=2.0) == {0, 1, 2, 3}
    assert drawn(temperature=1.0, top_p=0.8) == {1, 2}
    assert drawn(temperature=1.0, top_p=0.01) == {1}


@torch.no_grad()
def test_the_same_generator_draws_the_same_answer() -> None:
    model = tiny_videolisa()
    reading, question = read(model), torch.tensor([5, 6])
    decoding = Decoding(stop_ids=(), max_new_tokens=8, temperature=1.0, top_p=0.9)
    drawn = [
        model.generate(reading, question, decoding, torch.Generator().manual_seed(seed)).ids.tolist()
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@torch.no_grad()
def test_an_answer_ends_where_the_model_knows_no_more_positions() -> None:
    model = tiny_videolisa()
    room = model.language.config.max_position_embeddings - PREFIX
    reading, decoding = read(model), Decoding(stop_ids=(), max_new_tokens=1000)
    assert len(model.generate(reading, torch.full((room - 3,), 5), decoding).ids) == 3
    too_long = torch.full((room + 1,), 5)
    with pytest.raises(ValueError, match=r"takes 65 positions and the language model knows 64; ask shorter"):
        model.generate(reading, too_long, decoding)
    with pytest.raises(ValueError, match="takes 66 positions"):
        model.forced(reading, too_long, torch.tensor([SEG]))
    assert reading.cache.get_seq_length() == reading.length


def test_a_conversation_is_cut_behind_its_last_frame() -> None:
    model = tiny_videolisa()
    ids = torch.cat([conversation([5], []), conversation([6, 7], [SEG])])
    prefix, rest = model.split_behind_frames(ids)
    assert torch.equal(torch.cat([prefix, rest]), ids)
    assert rest.tolist() == [6, 7, SEG]
    with pytest.raises(ValueError, match="no image placeholder"):
        model.split_behind_frames(torch.tensor([1, 5]))


def test_nothing_to_read_is_refused() -> None:
    model = tiny_videolisa()
    with pytest.raises(ValueError, match="at least one token between"):
        model.forced(read(model), torch.tensor([], dtype=torch.long), torch.tensor([SEG]))
    with pytest.raises(ValueError, match="at least one token, got none"):
        model.read(torch.tensor([], dtype=torch.long), (), torch.zeros(0, 32))
