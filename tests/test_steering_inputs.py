"""Training reads what the pipeline reads: the same frames at the same times, in as many tokens."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.registry import open_dataset
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPrompt
from tests.steerseg_fakes import ColourPropagator, ColourSam, settings
from tests.tiny_backbones import tiny_backbone
from tests.tiny_video_datasets import VIDEOS, write_ref_youtube_vos
from visa.errors import InputError
from visa.reasoning.steerseg import SteerSegReasoner
from visa.sampling import Keyframes
from visa.sampling.answer_cache import AnswerCache
from visa.steerseg.attention import Looking
from visa.steerseg.attributes import Attributes
from visa.training.engine.ranks import Ranks
from visa.training.steering.attribute_file import AttributeFile
from visa.training.steering.items import SteeringBatch
from visa.training.steering.room import check_room
from visa.training.steering.run import train_steering
from visa.training.steering.settings import AttributeSettings, SteeringData, read_steering
from visa.training.steering.sources import worded, write_attributes
from visa.training.steering.step import SteeringStep
from visa.training.steering.videos import VideoItems
from visa.video import Video
from visa.viewing import Viewing

ALONE = Ranks(0, 1, torch.device("cpu"))
TOKENS = 16
TOLD_TIMES = ("qwen2_5_vl", "qwen3_vl", "smolvlm")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_ref_youtube_vos(tmp_path_factory.mktemp("rvos"))


@pytest.fixture(scope="module")
def clips(tiny):
    return open_dataset("ref_youtube_vos", tiny.root, "train")


def recorded(backbone, monkeypatch) -> list:
    """What the backbone packs from now on."""
    kept, pack = [], backbone.pack

    def packing(*given, **named):
        kept.append(pack(*given, **named))
        return kept[-1]

    monkeypatch.setattr(backbone, "pack", packing)
    return kept


def prompt_of(backbone, stream: str) -> SoftPrompt:
    vectors = torch.randn(4, backbone.width, generator=torch.Generator().manual_seed(0))
    return SoftPrompt(vectors, backbone.family, stream)


def reasoner_of(backbone, prompts=(), **changes) -> SteerSegReasoner:
    looking = Looking(
        backbone,
        RolloutSettings(),
        {prompt.stream: prompt for prompt in prompts},
        {"frame": TOKENS, "video": TOKENS},
    )
    return SteerSegReasoner("tiny", looking, ColourSam(), ColourPropagator(), settings(**changes))


def viewing_of(video: Video, reasoner: SteerSegReasoner) -> Viewing:
    return Viewing(video, reasoner.tower, reasoner.sam, None, reasoner.limits)


def assert_same_inputs(trained: list, used: list) -> None:
    assert len(trained) == len(used) > 0
    for one, other in zip(trained, used, strict=True):
        assert one.layout == other.layout
        assert one.soft == other.soft
        assert one.inputs.keys() == other.inputs.keys()
        for name, value in one.inputs.items():
            torch.testing.assert_close(value, other.inputs[name], atol=0, rtol=0, msg=name)


@pytest.mark.parametrize("stream", ["frame", "video"])
@pytest.mark.parametrize("family", TOLD_TIMES)
def test_the_same_frames_are_packed_as_in_use(tiny, clips, family, stream, monkeypatch) -> None:
    backbone = tiny_backbone(family)
    kept, prompt = recorded(backbone, monkeypatch), prompt_of(backbone, stream)
    data = SteeringData("ref_youtube_vos", "x", attributes=AttributeSettings(dropout=1.0))
    items = VideoItems(clips, stream, partial(worded, data), 3, held_out_share=0.0)
    item = items.item(VIDEOS.index("0a1b2c"), np.random.default_rng(1))
    SteeringStep(backbone, prompt, RolloutSettings(), TOKENS).look(SteeringBatch(0, (item,)))
    trained = kept.copy()
    kept.clear()

    video = Video.open(tiny.frames["0a1b2c"])
    reasoner = reasoner_of(backbone, [prompt])
    keyframes = tuple(k for k in range(3) if (video[k] == item.frames).all((1, 2, 3)).any())
    expression = item.questions[0].splitlines()[0]
    reasoner.attention(viewing_of(video, reasoner), keyframes, expression, Attributes())
    # The pipeline reads every keyframe alone, and then all as a video.
    assert_same_inputs(trained, kept[:-1] if stream == "frame" else kept[-1:])


def test_a_folder_of_frames_is_not_taken_for_two_frames_a_second(clips, monkeypatch) -> None:
    backbone = tiny_backbone("qwen2_5_vl")
    kept = recorded(backbone, monkeypatch)
    items = VideoItems(clips, "video", lambda text, *_: text, 3, held_out_share=0.0)
    item = items.item(0, np.random.default_rng(0))
    SteeringStep(backbone, prompt_of(backbone, "video"), RolloutSettings(), TOKENS).look(
        SteeringBatch(0, (item,))
    )
    assert item.seconds == (0.0, 1 / 24, 2 / 24)
    assert kept[0].inputs["second_per_grid_ts"].tolist() == pytest.approx([2 / 24])


def test_attributes_are_asked_for_as_in_use(tiny, clips, tmp_path: Path, monkeypatch) -> None:
    backbone = tiny_backbone("qwen2_5_vl")
    kept = recorded(backbone, monkeypatch)
    asked = run_settings(
        tmp_path, f"data.folder={tiny.root}", f"video.max_tokens={TOKENS}", "data.attributes.max_new_tokens=1"
    )
    clip = clips[0]
    write_attributes(AttributeFile(tmp_path / "said.jsonl"), [clip], backbone, asked, ALONE)
    trained = kept.copy()
    kept.clear()
    reasoner = reasoner_of(backbone, attributes={"ask": True, "max_new_tokens": 1})
    reasoner.replies = AnswerCache(tmp_path)
    viewing = viewing_of(Video.open(tiny.frames[clip.name]), reasoner)
    for expression in clip.expressions:
        choice = Keyframes(8).choose(3, expression.text, None)
        reasoner._attributes(viewing, choice.references, expression.text)
    assert_same_inputs(trained, kept)


def run_settings(tmp_path: Path, *changes: str):
    small = ["prompt.n=4", "schedule.steps=1", "batch.total=1", "report.tensorboard=false"]
    return read_steering("train/steerseg", [*small, f"out={tmp_path / 'run'}", *changes])


@pytest.mark.parametrize("stream", ["frame", "video"])
@pytest.mark.parametrize(("family", "count"), [("internvl", 16), ("smolvlm", 16)])
def test_too_few_tokens_for_a_backbone_are_one_line_before_anything_is_asked(
    tiny, tmp_path: Path, monkeypatch, family: str, count: int, stream: str
) -> None:
    backbone = tiny_backbone(family)

    def runs(*given, **named):
        raise AssertionError("the backbone ran")

    for name in ("forward", "generate"):
        monkeypatch.setattr(backbone, name, runs)
    said = tmp_path / "said.jsonl"
    asked = run_settings(
        tmp_path, f"data.folder={tiny.root}", f"{stream}.max_tokens=3", f"data.attributes.file={said}"
    )
    line = f"{stream}.max_tokens=3: {family} shows a frame in {count} visual tokens, more than the 3 allowed"
    with pytest.raises(InputError) as caught:
        train_steering(asked, "cpu", lambda *_: backbone)
    assert str(caught.value) == line
    assert not said.exists()


def test_what_no_stream_reads_is_not_checked(tiny, clips, tmp_path: Path) -> None:
    backbone, given = tiny_backbone("internvl"), (f"data.folder={tiny.root}", "video.max_tokens=3")
    unasked = run_settings(tmp_path, *given, "streams=[frame]", "data.attributes.file=''")
    check_room(backbone, clips, unasked)
    with pytest.raises(InputError, match="video.max_tokens=3"):  # attributes are asked for about a video
        check_room(
            backbone, clips, run_settings(tmp_path, *given, "streams=[frame]", "data.attributes.file=x")
        )


@pytest.mark.parametrize("stream", ["frame", "video"])
def test_a_frame_of_another_shape_that_needs_more_is_one_line(clips, stream: str) -> None:
    """The first clip's frames were few tokens enough, another one's need not be."""
    backbone = tiny_backbone("llava_onevision")
    items = VideoItems(clips, stream, lambda text, *_: text, 2, held_out_share=0.0)
    item = items.item(0, np.random.default_rng(0))
    step = SteeringStep(backbone, prompt_of(backbone, stream), RolloutSettings(), 2)
    with pytest.raises(InputError, match=rf"{stream}.max_tokens=2: llava_onevision shows a frame in") as told:
        step.look(SteeringBatch(0, (item,)))
    assert "\n" not in str(told.value)


def test_a_negative_number_of_tokens_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="video.max_tokens must be at least 1, or 0 for all, got -4"):
        run_settings(tmp_path, "data.folder=x", "video.max_tokens=-4")
