"""Which frames the published systems choose, draw on, and track from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import visa
from model.sam import fastest_encoder_dtype
from tests import published_segmenters
from tests.published_segmenters import FORCED, NUM_FRAMES, QUESTIONS, draw, make_video, prompt_by_one_pass
from visa.sampling import FirstFrame, MiddleFrame, PercentGuided, ReplayedPercent

root = published_segmenters.root
loaded = published_segmenters.loaded
watch = published_segmenters.watch


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_videolisa_draws_every_frame_with_one_prompt(loaded, dtype):
    segmenter, video = loaded("videolisa", dtype), make_video()
    tracklet = segmenter.segment(video, QUESTIONS[1])
    choice = segmenter.sampler.choose(NUM_FRAMES, "", None)
    assert (len(choice.references), len(choice.dense)) == (32, 4)
    assert tracklet.target_frame == choice.target
    with torch.inference_mode():
        prompt = prompt_by_one_pass(segmenter, video, QUESTIONS[1], choice.references, choice.dense)
        expected = draw(segmenter, video, range(NUM_FRAMES), prompt)
    assert 0.01 < expected.mean() < 0.99
    assert (tracklet.masks == expected).mean() > (0.999 if dtype == "float32" else 0.9)
    assert any((tracklet.masks[0] != mask).any() for mask in tracklet.masks)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_visa_draws_the_target_and_xmem_carries_it_both_ways(loaded, dtype):
    segmenter, video = loaded("visa", dtype, tracking=True), make_video()
    sampler = MiddleFrame(3, "strided")
    tracklet = segmenter.segment(video, QUESTIONS[0], sampler=sampler)
    choice = sampler.choose(NUM_FRAMES, "", None)
    assert tracklet.target_frame == choice.target == 3
    with torch.inference_mode():
        shown = (*choice.references, choice.target)
        prompt = prompt_by_one_pass(segmenter, video, QUESTIONS[0], shown)
        (expected,) = draw(segmenter, video, [choice.target], prompt)
    assert 0.01 < expected.mean() < 0.99
    # In bfloat16 a token may join another cluster when frames are encoded together.
    assert (tracklet.masks[3] == expected).mean() > (0.999 if dtype == "float32" else 0.5)
    (carried,) = segmenter.propagator.propagate(video, 3, tracklet.masks[3][None])
    assert np.array_equal(tracklet.masks, carried)
    network = segmenter.propagator.network
    assert network.map_dtype == (None if dtype == "float32" else fastest_encoder_dtype(torch.device("cpu")))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_videolisa_with_xmem_draws_the_dense_frames_and_tracks_the_others(loaded, root, watch):
    video = make_video()
    drawn = loaded("videolisa").segment(video, "the goat")
    segmenter = loaded("videolisa", tracking=True, xmem=root / "visa" / "XMem.pth")
    seen = watch(segmenter)
    tracklet = segmenter.segment(video, "the goat")
    dense = sorted({*segmenter.sampler.choose(NUM_FRAMES, "", None).dense_frames})
    assert 1 < len(dense) < NUM_FRAMES
    assert seen.sam == [index + 1 for index in dense]
    assert (tracklet.masks[dense] == drawn.masks[dense]).mean() > 0.999
    others = [index for index in range(NUM_FRAMES) if index not in dense]
    assert (tracklet.masks[others] != drawn.masks[others]).any()


def test_the_samplers_of_visa(loaded, tmp_path, monkeypatch):
    segmenter, video = loaded("visa"), make_video()
    for sampler, target in ((FirstFrame(11, "strided"), 0), (MiddleFrame(12, "global_local"), 3)):
        assert segmenter.segment(video, "the goat", sampler=sampler).target_frame == target
    expressions = {"0": {"exp": "the goat", "tp": 0.8}, "1": {"exp": "the sheep", "tp": 0.1}}
    meta = tmp_path / "meta_llamavid.json"
    meta.write_text(json.dumps({"videos": {video.name: {"expressions": expressions}}}))
    assert segmenter.segment(video, "the goat", sampler=ReplayedPercent(meta)).target_frame == 5


def test_visa_asks_itself_where_to_look_and_keeps_the_answers(loaded, root, tmp_path, monkeypatch, watch):
    monkeypatch.setenv("VISA_CACHE", str(tmp_path))
    segmenter = loaded("visa")
    guided = visa.loading.build_sampler({"sampler": "percent_guided", "num_references": 11})
    monkeypatch.setattr(segmenter.reasoner, "_text", lambda ids: "at the 80% mark, I think")
    seen = watch(segmenter)
    first = segmenter.segment(make_video(), "the goat", sampler=guided)
    assert first.target_frame == int(0.8 * NUM_FRAMES)
    assert len(seen.questions) == 10 + 1
    asked = segmenter.reasoner.tokenizer.decode(seen.questions[0].tolist())
    assert "If I want to find 'the goat', which percentage mark" in asked
    assert len(list((tmp_path / "answers").iterdir())) == 1
    assert segmenter.segment(make_video(), "the goat", sampler=guided) == first
    assert len(seen.questions) == 10 + 1 + 1, "kept answers are not asked for again"


def test_another_model_can_be_asked_where_to_look(loaded, tmp_path, monkeypatch, watch):
    monkeypatch.setenv("VISA_CACHE", str(tmp_path))
    segmenter, guide = loaded("visa"), loaded("videolisa")
    monkeypatch.setattr(segmenter, "guide", guide)
    monkeypatch.setattr(guide.reasoner, "_text", lambda ids: "10%")
    asked, own = watch(guide), watch(segmenter)
    tracklet = segmenter.segment(make_video(), "the goat", sampler=PercentGuided(num_answers=3))
    assert (tracklet.target_frame, tracklet.answer) == (0, FORCED["visa"])
    assert (len(asked.questions), len(own.questions)) == (3, 1)


def test_a_drawn_answer_has_a_number_and_is_the_same_whatever_was_drawn_before(loaded):
    segmenter, video = loaded("visa"), make_video()
    answers = [segmenter.scorer(video).generate("where?", number) for number in range(4)]
    assert len({*answers}) == 4
    assert segmenter.scorer(make_video()).generate("where?", 2) == answers[2]
