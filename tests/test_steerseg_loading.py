"""SteerSeg's presets: every value named, parts found and refused, and whole systems of tiny random models."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import yaml

import visa
from model.steering.soft_prompt import SoftPrompt
from tests.tiny_backbones import tiny_model, tiny_tokenizer
from tests.tiny_sam2 import tiny_video_model
from visa.errors import InputError
from visa.preset_files import PRESETS
from visa.steerseg.attributes import Attributes
from visa.steerseg.settings import STEPS, read_settings
from visa.video import Video

PUBLISHED = {
    "steerseg-qwen2.5-vl-7b": ("qwen2_5_vl", {"frame": 16, "video": 16}),
    "steerseg-qwen2-vl-7b": ("qwen2_vl", {"frame": 16, "video": 16}),
    "steerseg-internvl3-8b": ("internvl", {"frame": 16, "video": 16}),
    "steerseg-llava-ov-7b": ("llava_onevision", {"frame": 64, "video": 16}),
}
ALL = [*PUBLISHED, "steerseg-embedded"]


def preset_of(name: str) -> dict:
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sam2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam2")
    tiny_video_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, sam2):
    """Writes a preset like the shipped one, of tiny models; returns its file."""
    folders = {}

    def write(name: str, **reason) -> str:
        family, max_tokens = PUBLISHED[name]
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            tokenizer = tiny_tokenizer(family)
            tiny_model(family, tokenizer).save_pretrained(folders[family])
            tokenizer.save_pretrained(folders[family])
        preset = preset_of(name)
        preset["reason"] |= {"backbone": str(folders[family]), "max_tokens": max_tokens} | reason
        preset["reason"]["ranking"]["absent_below"] = None
        preset["reason"]["attributes"]["max_new_tokens"] = 2
        preset["load"]["dtype"] = "float32"
        preset["segment"] = preset["propagate"] = {"sam2": str(sam2), "dtype": "float32"}
        preset["sample"]["count"] = 3
        path = tmp_path_factory.mktemp("preset") / f"{name}.yaml"
        path.write_text(yaml.safe_dump(preset))
        return str(path)

    return write


@pytest.fixture
def clip() -> Video:
    """Seven frames in portrait with a square that moves."""
    frames = np.random.default_rng(0).integers(0, 90, (7, 72, 56, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[20:48, 4 + 3 * index : 28 + 3 * index] = (230, 40, 40)
    return Video.from_frames(frames, fps=5.0, name="square")


@pytest.mark.parametrize("name", ALL)
def test_every_preset_names_every_value_and_marks_the_guesses(name):
    preset = preset_of(name)
    assert preset["reason"]["system"] == "steerseg"
    settings = read_settings({step: preset["reason"][step] for step in STEPS})
    # What SteerSeg's files say; of our own small model the video stream is no help, which its file tells.
    assert settings.ranking.frame_weight == (1.0 if name == "steerseg-embedded" else 0.3)
    text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    for guessed in ("threshold", "residual", "max_candidates", "suppression_iou", "sigma", "absent_below"):
        (line,) = [line for line in lines if line.strip().startswith(f"{guessed}:")]
        assert "a guess" in line or (name == "steerseg-embedded" and "set on davis7" in line)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_whole_system_of_each_family_answers(tiny, clip, name, monkeypatch, tmp_path):
    monkeypatch.setenv("VISA_CACHE", str(tmp_path))
    segmenter = visa.load(tiny(name), device="cpu")
    answers = segmenter.segment_many(clip, ["the red square", "what moves?"])
    assert len(answers) == 2
    for answer in answers:
        assert answer.masks.shape == (7, 72, 56)
        assert answer.masks.any() == answer.found
        assert (answer.target_frame in (0, 3, 6)) == answer.found
    assert len(list((tmp_path / "answers").iterdir())) == 2
    maps = segmenter.reasoner.attention(segmenter._view(clip), (0, 3, 6), "q", Attributes())
    assert maps.frame.shape[0] == 3
    assert maps.frame.isfinite().all()
    assert sorted(k for step in maps.shows for k in step) == [0, 1, 2]


def test_soft_prompts_change_where_it_looks(tiny, clip, tmp_path):
    path = tiny("steerseg-qwen2.5-vl-7b")
    for stream in ("frame", "video"):
        prompt = SoftPrompt(
            torch.randn(4, 64, generator=torch.Generator().manual_seed(1)), "qwen2_5_vl", stream
        )
        prompt.save(tmp_path / "prompts" / f"{stream}.safetensors")
    plain = visa.load(path, device="cpu", attributes=False)
    steered = visa.load(path, device="cpu", attributes=False, soft_prompts=tmp_path / "prompts")
    maps = [
        each.reasoner.attention(each._view(clip), (0, 3), "the red square", Attributes())
        for each in (plain, steered)
    ]
    assert maps[0].frame.shape == maps[1].frame.shape
    assert not torch.allclose(maps[0].frame, maps[1].frame)
    assert not torch.allclose(maps[0].video, maps[1].video)
    assert not plain.reasoner.settings.attributes.ask


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (SoftPrompt(torch.ones(4, 64), "internvl", "frame"), "backbone 'internvl', not 'qwen2_5_vl'"),
        (SoftPrompt(torch.ones(4, 48), "qwen2_5_vl", "frame"), "width '48', not '64'"),
        (SoftPrompt(torch.ones(4, 64), "qwen2_5_vl", "video"), "stream 'video', not 'frame'"),
        (None, "holds no soft prompt"),
    ],
)
def test_a_soft_prompt_for_something_else_gives_one_line(tiny, tmp_path, prompt, said):
    if prompt is not None:
        prompt.save(tmp_path / "frame.safetensors")
    with pytest.raises(InputError, match=said) as error:
        visa.load(tiny("steerseg-qwen2.5-vl-7b"), device="cpu", soft_prompts=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": {"threshold": 0.8, "radius": 1}}, "'points' lacks per_frame"),
        ({"points": {"threshold": 0.8, "radius": 1, "per_frame": 5, "top": 3}}, "'points' does not know top"),
        ({"points": {"threshold": 8, "radius": 1, "per_frame": 5}}, r"threshold must be in \[0, 1\], not 8"),
        ({"points": {"threshold": "high", "radius": 1, "per_frame": 5}}, "'points' holds a value"),
        ({"points": None}, "needs a section 'points'"),
        ({"rollout": {"head_weights": "max"}}, "head_weights"),
        ({"backbone": "no/where/to/be/found"}, "there is no no/where"),
    ],
)
def test_a_mistake_in_a_preset_gives_one_line(tiny, change, said):
    with pytest.raises(InputError, match=said) as error:
        visa.load(tiny("steerseg-qwen2.5-vl-7b", **copy.deepcopy(change)), device="cpu")
    assert "\n" not in str(error.value)


def test_an_unknown_option_gives_one_line(tiny):
    with pytest.raises(InputError, match="no load option speed"):
        visa.load(tiny("steerseg-qwen2.5-vl-7b"), device="cpu", speed=3)


def test_the_embedded_backbone_takes_its_own_sam_and_tracker(tmp_path):
    preset = preset_of("steerseg-embedded")
    preset["propagate"] = {"xmem": "XMem.pth"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(preset))
    with pytest.raises(InputError, match="propagate is embedded"):
        visa.load(path, device="cpu")
    with pytest.raises(InputError, match="no load option bits"):
        visa.load("steerseg-embedded", device="cpu", bits=4)
