"""The MLLM: generating and teacher-forced paths are one, and questions do not disturb each other."""

import numpy as np
import pytest
import torch

from model.mllm.cells import grid_for
from model.mllm.grounding import GroundingHead
from model.mllm.mllm import RefusalPolicy
from model.mllm.packing import collate
from tests.tiny_mllm import random_cells, tiny_mllm


def read(mllm, seeds=(1, 2), percents=(0, 40)):
    return mllm.read([random_cells(seed=seed) for seed in seeds], list(percents))


def test_generated_states_equal_teacher_forced_ones():
    mllm = tiny_mllm()
    # Whatever the random LM says, make it say [SEG] second, so that there is a state to compare.
    frames, percents = [random_cells(seed=1), random_cells(seed=2)], [0, 40]
    reading = mllm.read(frames, percents)
    with torch.no_grad():
        mllm.seg_output.copy_(torch.zeros_like(mllm.seg_output))
    slots = mllm.slots([cells.colour.shape[:2] for cells in frames], percents)
    packed = mllm.packer.pack(slots, [("other question", "no"), ("the goat", "It is the goat. [SEG]")])
    with torch.inference_mode():
        tokens, _, _ = mllm.visual_tokens(frames, slots)
        hidden = mllm(collate([packed]), [tokens])[0]
        span = packed.layout.target
        assert torch.allclose(hidden[span.start : span.stop], reading.states.flatten(0, 1), atol=1e-5)
        (position,) = packed.layout.seg_states(1, "predicting")
        turn = packed.layout.turns[1]
        ids = packed.ids[turn.question[0] - len(mllm.packer.words("\n")) : position + 1]
        step = mllm.decoder(
            inputs_embeds=mllm.embed(ids)[None], past_key_values=reading.cache, use_cache=True
        )
        assert torch.allclose(step.last_hidden_state[0, -1], hidden[position], atol=1e-5)


def test_questions_about_one_reading_are_independent():
    mllm = tiny_mllm()
    alone = mllm.answer(read(mllm), "the goat", max_new_tokens=5)
    reading = read(mllm)
    mllm.answer(reading, "something else entirely", max_new_tokens=7)
    again = mllm.answer(reading, "the goat", max_new_tokens=5)
    assert again.text == alone.text
    assert again.found_prob == alone.found_prob
    assert reading.cache.get_seq_length() == reading.length


def force(mllm, token_id):
    """Make the LM say one token for ever, whatever it sees."""
    direction = torch.zeros(32)
    direction[0] = 1.0
    with torch.no_grad():
        mllm.decoder.norm.weight.zero_()
        table = mllm.language.get_output_embeddings().weight
        mllm.language.lm_head.weight = torch.nn.Parameter(table.detach().clone())
        mllm.seg_output.zero_()
    mllm.language.lm_head.register_forward_hook(
        lambda module, inputs, out: (
            out.index_fill(-1, torch.tensor([token_id]), 50.0) if token_id < out.shape[-1] else out
        )
    )


def test_no_seg_means_not_found():
    mllm = tiny_mllm()
    force(mllm, mllm.packer.words("It")[0])
    answer = mllm.answer(read(mllm), "the goat", max_new_tokens=4)
    assert not answer.found
    assert answer.seg_states.shape == (0, 32)
    assert answer.found_prob > 0.99


def test_a_refusal_starts_with_the_refusing_word_and_bias_brings_it_about():
    mllm = tiny_mllm()
    sure = mllm.answer(read(mllm), "the goat", refusal=RefusalPolicy(bias=1e4), max_new_tokens=2)
    assert sure.found_prob < 1e-3
    assert sure.text.startswith(mllm.tokenizer.decode([mllm.refusal_id]))
    never = mllm.answer(read(mllm), "the goat", refusal=RefusalPolicy(bias=-1e4), max_new_tokens=2)
    assert never.found_prob > 1 - 1e-3


def test_seg_token_is_said_and_grounded():
    mllm = tiny_mllm()
    with torch.no_grad():
        mllm.seg_output.copy_(torch.full((32,), 0.0))
    original = mllm.logits

    def logits(states):
        out = original(states)
        out[..., -1] = 99.0
        return out

    mllm.logits = logits
    reading = read(mllm)
    answer = mllm.answer(reading, "the goat", max_new_tokens=3)
    assert answer.found
    assert answer.text.count("[SEG]") == 3
    assert answer.seg_states.shape == (3, 32)
    grounding = mllm.ground(reading, answer, torch.randn(256, 5, 9))
    assert grounding.embeddings.shape == (3, 1, 256)
    assert grounding.heat_logits.shape == (3, 5, 9)


def test_token_grids_keep_to_their_budget():
    for height, width in [(1, 1), (288, 480), (240, 854), (9, 17), (4000, 10)]:
        rows, cols = grid_for(height, width, 50)
        assert 1 <= rows * cols <= 50


def test_heat_prefers_cells_whose_key_matches():
    torch.manual_seed(0)
    head = GroundingHead(32, 32)
    keys = torch.randn(4, 5, 256)
    state, words = torch.randn(1, 32), torch.randn(1, 32)
    query = head.query(head.query_norm(state)) + head.query_words(words)
    keys[2, 3] = query[0] * 3
    heat = head(state, words, keys).heat_logits[0]
    assert divmod(int(heat.argmax()), 5) == (2, 3)


def test_meaning_is_the_heat_of_a_place_that_looks_like_the_word():
    torch.manual_seed(0)
    head = GroundingHead(16, 16, sam_dim=4, key_dim=8)
    names = torch.randn(12, 16)
    head.align_words(names)
    logits = head.meaning_logits(torch.zeros(3, 16), names[:3], names)
    assert logits.shape == (3, 12)
    assert logits.argmax(1).tolist() == [0, 1, 2], "before anything is learnt a name means itself"


def test_the_second_look_counts_the_hottest_cells_alone():
    heat = torch.full((6, 10), -5.0)
    heat[:2] = 4.0  # 20 cells
    policy = RefusalPolicy(second_look=3.0)
    assert policy.found_prob(0.5, heat) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    heat[2:] = -50.0
    assert policy.found_prob(0.5, heat) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    assert policy.found_prob(0.1, heat) < policy.found_prob(0.9, heat)
    assert policy.found_prob(0.5, torch.zeros(1, 1)) < 0.5
    assert RefusalPolicy().found_prob(0.3, heat) == 0.3
