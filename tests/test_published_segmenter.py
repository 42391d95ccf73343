"""The whole path of the published systems, from a checkpoint's folder to words and masks."""

from __future__ import annotations

import numpy as np
import pytest

from model.mllm.splicing import IMAGE_TOKEN
from tests import published_segmenters
from tests.published_segmenters import (
    FORCED,
    HEIGHT,
    NUM_FRAMES,
    QUESTIONS,
    SYSTEMS,
    WIDTH,
    answering,
    expect_next,
    favour,
    make_video,
)
from tests.synthetic_clips import write_clip
from tests.tiny_published import SEG
from visa.errors import InputError
from visa.sampling import FirstFrame

root = published_segmenters.root
loaded = published_segmenters.loaded
watch = published_segmenters.watch


CONTROL = ["[SEG]", "<image>", "</s>", "<s>", "<|end|>", "<|user|>", "<|assistant|>", "<unk>", "<0x0A>"]


def test_both_modes_and_precisions(loaded):
    for system in SYSTEMS:
        for dtype in ("float32", "bfloat16"):
            segmenter = loaded(system, dtype)
            tracklet = segmenter.segment(make_video(), "the goat")
            assert (tracklet.found, tracklet.answer) == (True, FORCED[system]), (system, dtype)
            assert tracklet.masks.shape == (NUM_FRAMES, HEIGHT, WIDTH)
            assert tracklet.masks[tracklet.target_frame].any()
            assert 0 <= tracklet.score <= 1

            written = loaded(system, dtype, answer="generate").segment(make_video(), "the goat")
            assert written.answer != tracklet.answer, "random weights know no answer"
            assert written.found == ("[SEG]" in written.answer) == written.masks.any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_written_seg_draws_what_the_same_forced_one_draws(loaded, system, dtype, monkeypatch):
    segmenter = answering(loaded(system, dtype), monkeypatch, forced_answer="[SEG]")
    forced = segmenter.segment(make_video(), "the goat")
    answering(segmenter, monkeypatch, answer="generate", max_new_tokens=1)
    expect_next(segmenter, monkeypatch, SEG)
    written = segmenter.segment(make_video(), "the goat")
    assert forced.found
    assert written.found
    assert forced.answer == written.answer == "[SEG]"
    # One pass over the question with [SEG] behind it and one without may round differently.
    assert (forced.masks == written.masks).mean() > (0.999 if dtype == "float32" else 0.95)


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_seg_in_the_answer_means_not_found_and_nothing_is_drawn(loaded, system, monkeypatch, watch):
    segmenter = answering(loaded(system), monkeypatch, answer="generate")
    end = segmenter.reasoner.tokenizer.convert_tokens_to_ids(segmenter.reasoner.chat.end)
    expect_next(segmenter, monkeypatch, end)
    seen = watch(segmenter)
    tracklet = segmenter.segment(make_video(), "the goat")
    assert (tracklet.found, tracklet.answer, tracklet.score, tracklet.target_frame) == (False, "", 0.0, None)
    assert not tracklet.masks.any()
    assert seen.clip
    assert seen.sam == []


def test_several_segs_are_several_objects_and_their_masks_are_joined(loaded, monkeypatch):
    segmenter = loaded("videolisa")
    alone = [
        answering(segmenter, monkeypatch, forced_answer=text).segment(make_video(), "the goats")
        for text in ("[SEG]", "[SEG], [SEG].")
    ]
    assert alone[1].answer == "[SEG], [SEG]."
    assert (alone[1].masks | alone[0].masks == alone[1].masks).mean() > 0.999
    assert alone[0].object_masks is None
    assert alone[1].object_masks.shape == (2, NUM_FRAMES, HEIGHT, WIDTH)
    assert np.array_equal(alone[1].object_masks.any(axis=0), alone[1].masks)


@pytest.mark.parametrize("answer", ["forced", "generate"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_many_questions_give_the_masks_of_single_ones(loaded, system, dtype, answer, monkeypatch):
    segmenter = answering(loaded(system, dtype), monkeypatch, answer=answer, max_new_tokens=3)
    if answer == "generate":
        favour(segmenter, monkeypatch, SEG)
    together = segmenter.segment_many(make_video(), QUESTIONS)
    single = [segmenter.segment(make_video(), question) for question in reversed(QUESTIONS)][::-1]
    assert [tracklet.question for tracklet in together] == QUESTIONS
    for one, other in zip(together, single, strict=True):
        assert one == other
        assert one.score == other.score
    assert all(tracklet.masks.any() for tracklet in together)
    assert len({tracklet.score for tracklet in together}) == len(QUESTIONS), "the questions are read"


def test_every_frame_is_encoded_once_however_many_questions_are_asked(loaded, watch):
    numbers = list(range(1, NUM_FRAMES + 1))
    for system, targets in (("visa", [4, 1]), ("videolisa", numbers)):
        segmenter = loaded(system)
        seen = watch(segmenter)
        video = make_video()
        segmenter.segment_many(video, QUESTIONS)
        if system == "visa":
            segmenter.segment(video, "another", sampler=FirstFrame(11, "strided"))
        else:
            segmenter.segment(video, "another")
        assert sorted(seen.clip) == numbers
        assert sorted(seen.sam) == sorted(targets)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_before_the_question_is_read_once(loaded, system, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    segmenter.segment_many(make_video(), QUESTIONS)
    frames, *questions = seen.positions
    visual = {"visa": (NUM_FRAMES + 1) * 112, "videolisa": 32 + 4 * 256}[system]
    assert frames > visual
    assert len(questions) == len(QUESTIONS)
    assert max(questions) < 200


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_persons_text_never_becomes_a_control_token(loaded, system, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    video = make_video()
    benign = segmenter.segment(video, "the goat")
    hostile = segmenter.segment(video, "the goat " + " ".join(CONTROL))
    # Of one control token's characters nothing is lost, and none of it is the token.
    tokenizer = segmenter.reasoner.tokenizer
    control = {IMAGE_TOKEN, SEG, *(tokenizer.convert_tokens_to_ids(text) for text in CONTROL[2:8])}
    counts = [[ids.tolist().count(token) for token in sorted(control)] for ids in seen.questions]
    assert counts[0] == counts[1]
    assert len(seen.questions[1]) > len(seen.questions[0]) + 40
    assert hostile.answer == benign.answer
    assert "(SEG)" in hostile.question
    assert hostile.found


@pytest.mark.parametrize("system", SYSTEMS)
def test_empty_and_endless_questions_are_one_clear_line(loaded, system, monkeypatch, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    for question, message in (("", "empty"), (" \n\x00", "empty"), ("goat " * 2000, "10000|9999")):
        with pytest.raises(InputError, match=message) as caught:
            segmenter.segment_many(make_video(), ["the goat", question])
        assert "\n" not in str(caught.value)
    assert seen.positions == [], "nothing was read before the question was refused"

    longest = segmenter.segment(make_video(), "goat " * 390)
    assert longest.found
    config = segmenter.reasoner.model.language.config
    monkeypatch.setattr(config, "max_position_embeddings", 1500)
    video = make_video()
    with pytest.raises(InputError, match=r"knows 1500; ask shorter") as caught:
        segmenter.segment(video, "goat " * 390)
    assert "\n" not in str(caught.value)
    assert segmenter.segment(video, "the goat").found, "the system is as good as before"


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("system", SYSTEMS)
def test_short_videos(loaded, system, num_frames, watch):
    segmenter = loaded(system)
    seen = watch(segmenter)
    tracklet = segmenter.segment(make_video(num_frames), "the goat")
    assert tracklet.found
    assert tracklet.masks.shape == (num_frames, HEIGHT, WIDTH)
    assert tracklet.masks.any()
    assert sorted(seen.clip) == list(range(1, num_frames + 1))


def test_a_file_is_opened_and_stages_are_told(loaded, tmp_path):
    path, told = write_clip(tmp_path / "clip.mp4", 5), []
    for system, tracked in (("visa", ["propagate"]), ("videolisa", [])):
        told.clear()
        loaded(system).segment(path, "the goat", progress=lambda *call: told.append(call))
        stages = [stage for stage, done, total in told if done == total]
        assert stages == ["sample", "reason", "segment", *tracked]
