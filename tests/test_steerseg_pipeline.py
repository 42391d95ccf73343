"""SteerSeg from question to masks, with fakes in place of every network."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPrompt
from tests.steerseg_fakes import ColourBackbone, ColourPropagator, ColourSam, settings, squares
from visa.errors import InputError
from visa.reasoning.steerseg import SteerSegReasoner
from visa.sampling import Keyframes, MiddleFrame
from visa.sampling.answer_cache import AnswerCache
from visa.segmenter import Segmenter
from visa.steerseg.attention import Looking

NUM_FRAMES = 11


def path(left: int, top: int, step: int = 4, frames=range(NUM_FRAMES)) -> list:
    return [(left + step * k, top) if k in frames else None for k in range(NUM_FRAMES)]


@pytest.fixture
def clip():
    return squares({"red": path(2, 4), "green": path(72, 40, -4)})


def system(backbone=None, *, count=5, prompts=(), replies=None, **changes):
    """A segmenter of fakes; its propagators' calls are told apart by the number of frames."""
    looking = Looking(
        backbone or ColourBackbone(),
        RolloutSettings(),
        {prompt.stream: prompt for prompt in prompts},
        {"frame": 96, "video": 24},
    )
    reasoner = SteerSegReasoner(
        "fake", looking, ColourSam(), ColourPropagator(), settings(**changes), replies or AnswerCache()
    )
    return Segmenter(reasoner, ColourPropagator(), Keyframes(count))


def prompt(stream: str, n: int = 4, width: int = 8) -> SoftPrompt:
    return SoftPrompt(torch.ones(n, width), "colours", stream)


@pytest.mark.parametrize("colour", ["red", "green"])
def test_what_is_asked_for_is_found_in_every_frame(clip, colour):
    video, masks = clip
    answer = system().segment(video, f"the {colour} square")
    assert answer.found
    assert np.array_equal(answer.masks, masks[colour])
    assert answer.answer == "It is [SEG]."
    assert 0.5 < answer.score <= 1
    assert answer.target_frame in Keyframes(5).choose(NUM_FRAMES, "", None).references


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("per_step", [1, 2])
def test_any_number_of_keyframes_even_and_odd(clip, count, per_step):
    """Also more than the video has, and temporal patches that are padded."""
    video, masks = clip
    answer = system(ColourBackbone(per_step=per_step), count=count).segment(video, "the green square")
    assert np.array_equal(answer.masks, masks["green"])


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (50, 130)])
def test_portrait_and_odd_sizes(size):
    right = size[1] - 30
    video, masks = squares({"red": [(2, 4)] * 3, "blue": [(right, size[0] - 30)] * 3}, size)
    answer = system(count=3).segment(video, "the blue square")
    assert np.array_equal(answer.masks, masks["blue"])


def test_a_thing_that_is_there_only_for_a_while(clip):
    video, masks = squares({"red": path(2, 4), "green": path(30, 40, 0, frames=range(4, 8))})
    answer = system(count=NUM_FRAMES).segment(video, "the green square")
    assert np.array_equal(answer.masks, masks["green"])
    assert answer.target_frame in range(4, 8)


def test_the_streams_are_read_as_they_should_be(clip):
    backbone = ColourBackbone()
    system(backbone, count=3).segment(clip[0], "the red square")
    assert [stream for stream, *_ in backbone.packed] == ["frame"] * 3 + ["video"]
    (words,) = {text for _, text, _ in backbone.packed}
    assert words.startswith("the red square\n")
    assert backbone.packed[-1][2] == [0.0, 0.5, 1.0]
    assert backbone.forwards == [("frame", None)] * 3 + [("video", None)]
    assert not backbone.said


def test_soft_prompts_steer_their_own_stream(clip):
    backbone = ColourBackbone()
    segmenter = system(backbone, count=2, prompts=[prompt("video", n=6)])
    assert segmenter.segment(clip[0], "the red square").found
    assert backbone.forwards == [("frame", None)] * 2 + [("video", (6, 8))]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({"frame": prompt("video")}, "video stream cannot steer 'frame'"),
        ({"frame": prompt("frame", width=9)}, "width 9, the backbone 8"),
    ],
)
def test_a_prompt_for_something_else_is_refused(prompts, said):
    with pytest.raises(ValueError, match=said):
        Looking(ColourBackbone(), RolloutSettings(), prompts)


def test_attributes_are_asked_for_once_and_shown_to_the_model(clip, tmp_path):
    backbone = ColourBackbone(reply='{"attributes": ["red", "top left"], "reason": "no other is"}')
    segmenter = system(backbone, replies=AnswerCache(tmp_path), attributes={"ask": True}, count=2)
    first = segmenter.segment(clip[0], "which one?")
    assert first.answer == "It is [SEG], red, top left."
    assert np.array_equal(first.masks, clip[1]["red"])
    assert len(backbone.said) == 1
    assert backbone.said[0][1] == 32
    steering = [text for stream, text, _ in backbone.packed if stream == "frame"]
    assert all("Attributes: red; top left." in text for text in steering)
    assert segmenter.segment(clip[0], "which one?").answer == first.answer
    assert len(backbone.said) == 1


def test_replies_of_another_model_or_about_other_keyframes_are_asked_for_anew(clip, tmp_path):
    reply = '{"attributes": ["red"], "reason": ""}'
    first, other = ColourBackbone(reply=reply), ColourBackbone(reply=reply)
    for backbone, count in ((first, 2), (other, 2), (first, 3)):
        options = {"replies": AnswerCache(tmp_path), "attributes": {"ask": True}, "count": count}
        system(backbone, **options).segment(clip[0], "which one?")
    assert len(first.said) == 2
    assert len(other.said) == 1


@pytest.mark.parametrize("reply", ["I see a square.", '{"attributes": []}', ""])
def test_a_reply_that_is_no_json_costs_the_attributes_alone(clip, tmp_path, caplog, reply):
    segmenter = system(ColourBackbone(reply=reply), replies=AnswerCache(tmp_path), attributes={"ask": True})
    answer = segmenter.segment(clip[0], "the green square")
    assert np.array_equal(answer.masks, clip[1]["green"])
    assert "no attributes in the reply" in caplog.text


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0, 0.25])
@pytest.mark.parametrize("stream", ["frame", "video"])
def test_one_blind_stream_leaves_the_other(caplog, stream, value):
    video, masks = squares({"red": path(2, 4, 0), "green": path(64, 32, 0)})
    answer = system(ColourBackbone(blind={stream: value})).segment(video, "the green square")
    assert np.array_equal(answer.masks, masks["green"])
    assert f"the {stream} stream's attention is flat" in caplog.text


@pytest.mark.parametrize("value", [torch.nan, 0.25])
def test_attention_that_is_the_same_everywhere_finds_nothing(clip, caplog, value):
    answer = system(ColourBackbone(blind={"frame": value, "video": value})).segment(clip[0], "the red square")
    assert not answer.found
    assert not answer.masks.any()
    assert answer.target_frame is None
    assert "[SEG]" not in answer.answer
    assert "the same everywhere" in caplog.text


def test_no_point_above_the_threshold_falls_back_to_the_highest(clip):
    changes = {"points": {"threshold": 1.0}, "fusion": {"stretch": False, "frame_blur": 7, "video_blur": 7}}
    answer = system(**changes).segment(clip[0], "the red square")
    assert np.array_equal(answer.masks, clip[1]["red"])


def test_what_agrees_with_the_attention_too_little_is_not_there(clip):
    answer = system(ranking={"absent_below": 0.99}).segment(clip[0], "the red square")
    assert not answer.found
    assert not answer.masks.any()
    assert answer.target_frame is None
    assert 0 < answer.score < 0.99
    assert "[SEG]" not in answer.answer


def test_sam_that_draws_nothing_finds_nothing(clip, caplog):
    segmenter = system()
    segmenter.reasoner.sam.decode = lambda features, given, multimask=False: ColourSam().decode(
        features.__class__(features.embedding * 0, (), features.input_size, features.original_size), given
    )
    answer = segmenter.segment(clip[0], "the red square")
    assert not answer.found
    assert "SAM draws nothing" in caplog.text


def test_a_tracklet_that_vanishes_still_wins_where_nothing_is_better(clip):
    """The tracker loses it at once over the keyframes; its seed is carried through the video all the same."""
    video, masks = clip
    segmenter = system()
    follow = segmenter.reasoner.keyframe_tracker.propagate
    segmenter.reasoner.keyframe_tracker.propagate = lambda *args, **options: np.zeros_like(
        follow(*args, **options)
    )
    answer = segmenter.segment(video, "the red square")
    assert np.array_equal(answer.masks, masks["red"])


def test_several_objects_each_from_its_own_keyframe():
    video, masks = squares(
        {
            "red": path(2, 4, frames=range(5)),
            "green": path(40, 40, 2, frames=range(6, NUM_FRAMES)),
            "blue": path(70, 4, 0),
        }
    )
    several = system(ranking={"max_objects": 3}, points={"threshold": 0.5}, count=NUM_FRAMES)
    answer = several.segment(video, "the red and the green square")
    assert np.array_equal(answer.masks, masks["red"] | masks["green"])
    assert len(several.propagator.calls) == 2
    one = system(ranking={"max_objects": 1}, count=NUM_FRAMES).segment(video, "the red and the green square")
    assert one.masks.any()
    assert np.array_equal(one.masks, masks["red"]) or np.array_equal(one.masks, masks["green"])


def test_only_the_winner_is_carried_through_the_whole_video(clip):
    segmenter = system()
    segmenter.segment(clip[0], "the red square")
    assert {frames for frames, _ in segmenter.reasoner.keyframe_tracker.calls} == {5}
    assert [frames for frames, _ in segmenter.propagator.calls] == [NUM_FRAMES]


def test_a_second_question_finds_the_frames_encoded(clip):
    segmenter = system()
    first = segmenter.segment(clip[0], "the red square")
    encoded, passes = segmenter.reasoner.sam.encoded, len(segmenter.reasoner.looking.backbone.forwards)
    again = segmenter.segment(clip[0], "the red square")
    assert segmenter.reasoner.sam.encoded == encoded
    assert len(segmenter.reasoner.looking.backbone.forwards) == passes
    assert np.array_equal(first.masks, again.masks)
    segmenter.segment(clip[0], "the green square")
    assert len(segmenter.reasoner.looking.backbone.forwards) == 2 * passes


def test_steps_are_reported(clip):
    reports = []
    system().segment(clip[0], "the red square", progress=lambda *report: reports.append(report))
    assert {stage for stage, *_ in reports} == {"sample", "reason", "segment", "propagate"}
    for stage in ("sample", "reason", "segment", "propagate"):
        done, total = [report[1:] for report in reports if report[0] == stage][-1]
        assert done == total


def test_a_sampler_that_reads_frames_one_by_one_gets_one_line(clip):
    from visa.sampling import TextGuided

    with pytest.raises(InputError, match="gives no scores to frames"):
        system().segment(clip[0], "the red square", sampler=TextGuided())


def test_a_plain_sampler_works_too(clip):
    answer = system().segment(clip[0], "the red square", sampler=MiddleFrame(num_references=4))
    assert np.array_equal(answer.masks, clip[1]["red"])


def test_a_backbone_that_cannot_take_it_all_gives_one_line(clip):
    class Small(ColourBackbone):
        def pack(self, frames, turns, **options):
            raise ValueError("a frame cannot be shown in so few tokens")

    with pytest.raises(InputError, match="so few tokens"):
        system(Small()).segment(clip[0], "the red square")


def test_keyframes_are_spread_from_the_first_to_the_last():
    assert Keyframes(5).choose(11, "q", None).references == (0, 2, 5, 7, 10)
    assert Keyframes(16).choose(3, "q", None).references == (0, 1, 2)
    assert Keyframes(1).choose(9, "q", None).references == (0,)
    assert Keyframes(4).choose(100, "q", None).target == 66
    with pytest.raises(ValueError, match="at least one keyframe"):
        Keyframes(0)


def test_nothing_is_logged_where_all_is_well(clip, caplog):
    with caplog.at_level(logging.WARNING):
        system().segment(clip[0], "the red square")
    assert not caplog.records
