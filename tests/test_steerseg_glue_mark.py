"""Soft prompts know which glue they were trained on, and a system tells when it has another one."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import visa.loading
from model.backbones.embedded import EmbeddedBackbone
from model.mllm.mllm import RefusalPolicy
from model.steering.soft_prompt import SoftPrompt
from tests.tiny_mllm import tiny_mllm
from visa.errors import InputError
from visa.reasoning.embedded import EmbeddedReasoner
from visa.steerseg.glue_mark import glue_mark, main, mark_prompts
from visa.steerseg.loading import build_steerseg, read_prompts
from visa.training.steering.run import build_backbone, new_prompt
from visa.training.steering.settings import read_steering

WIDTH = 32


def glue() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = ("lora.layers.0.q_proj.lora_B.weight", "mllm.projector.norm.weight", "mask_decoder.iou.weight")
    return {name: torch.randn(4, 8, generator=generator).bfloat16() for name in names}


def write_model(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "glue.safetensors")
    (folder / "preset.yaml").write_text(yaml.safe_dump({"reason": {"glue": "glue.safetensors"}}))
    return folder


def write_prompts(folder: Path, weights: str | None, dtype=torch.bfloat16) -> Path:
    for stream in ("frame", "video"):
        vectors = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
        SoftPrompt(vectors, "embedded", stream, weights=weights).save(folder / f"{stream}.safetensors", dtype)
    return folder


@pytest.mark.parametrize(
    ("changed", "tells"),
    [("lora.layers.0.q_proj.lora_B.weight", True), ("mllm.projector.norm.weight", True),
     ("mask_decoder.iou.weight", False)],
)  # fmt: skip
def test_the_mark_changes_with_what_a_prompt_steers(tmp_path: Path, changed: str, tells: bool) -> None:
    one = glue_mark(write_model(tmp_path / "one", glue()))
    other = glue()
    other[changed] = other[changed] + 0.5
    assert (glue_mark(write_model(tmp_path / "other", other)) != one) is tells
    assert len(one) == 12


def test_the_mark_is_the_same_in_any_precision_and_order(tmp_path: Path) -> None:
    wide = {name: value.float() for name, value in reversed(glue().items())}
    assert glue_mark(write_model(tmp_path / "a", glue())) == glue_mark(write_model(tmp_path / "b", wide))


def test_a_model_without_glue_is_told_in_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", glue())
    (folder / "glue.safetensors").write_bytes(b"none")
    for model, said in (
        (folder, "no glue that can be read"),
        ("steerseg-qwen2.5-vl-7b", "no glue"),
        ("x y", "no model"),
    ):
        with pytest.raises(InputError, match=said) as told:
            glue_mark(model)
        assert "\n" not in str(told.value)


def test_prompts_are_marked_without_a_change_to_their_vectors(tmp_path: Path, capsys) -> None:
    model, folder = write_model(tmp_path / "model", glue()), write_prompts(tmp_path / "prompts", None)
    SoftPrompt(torch.ones(4, WIDTH) / 3, "embedded", "video").save(
        folder / "video.safetensors", torch.float32
    )
    before = {path: load_file(path)["soft_prompt"] for path in folder.iterdir()}
    assert main([str(folder), "--model", str(model)]) == 0
    mark = glue_mark(model)
    assert capsys.readouterr().out.count(mark) == 2
    for path, vectors in before.items():
        after = load_file(path)["soft_prompt"]
        assert after.dtype == vectors.dtype
        assert torch.equal(after, vectors)
        with safe_open(path, "pt") as file:
            told = file.metadata()
        assert told["weights"] == mark
        assert (told["backbone"], told["stream"]) == ("embedded", path.stem)
    assert sorted(path.name for path in folder.iterdir()) == ["frame.safetensors", "video.safetensors"]
    read = SoftPrompt.load(folder / "frame.safetensors", backbone="embedded", width=WIDTH, stream="frame")
    assert read.weights == mark


def test_a_folder_without_prompts_is_told_in_one_line(tmp_path: Path, capsys) -> None:
    model = write_model(tmp_path / "model", glue())
    assert main([str(tmp_path / "nowhere"), "--model", str(model)]) == 2
    assert "holds no soft prompt" in capsys.readouterr().err
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "frame.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be read as a soft prompt"):
        mark_prompts(tmp_path / "prompts", model)


@pytest.mark.parametrize(
    ("trained_on", "present", "warned"),
    [("a", "a", False), (None, "a", False), ("a", None, False), ("a", "b", True)],
)
def test_prompts_of_other_weights_are_loaded_with_one_warning(
    tmp_path: Path, caplog, trained_on: str | None, present: str | None, warned: bool
) -> None:
    folder = write_prompts(tmp_path / "prompts", trained_on)
    backbone = EmbeddedBackbone(tiny_mllm(), present)
    with caplog.at_level(logging.WARNING):
        prompts = read_prompts(folder, None, tmp_path, backbone)
    assert set(prompts) == {"frame", "video"}
    assert prompts["frame"].weights == trained_on
    assert len(caplog.records) == warned
    if warned:
        message = caplog.records[0].getMessage()
        assert "trained on other weights of the embedded model" in message
        assert all(f"{stream}.safetensors" in message for stream in ("frame", "video"))
        assert "\n" not in message


@pytest.fixture
def embedded(monkeypatch) -> SimpleNamespace:
    """A tiny model in the place of the embedded one, which has the shipped glue's mark all the same."""
    sam = SimpleNamespace()
    reasoner = EmbeddedReasoner(tiny_mllm(), sam, SimpleNamespace(), RefusalPolicy())
    whole = SimpleNamespace(reasoner=reasoner, propagator=SimpleNamespace())
    monkeypatch.setattr(visa.loading, "load", lambda *given, **named: whole)
    monkeypatch.setattr(visa.loading, "embedded_networks", lambda *given: (reasoner.mllm, sam, sam))
    monkeypatch.setattr(visa.steerseg.loading, "build_propagator", lambda *given: whole.propagator)
    return whole


def test_training_and_pipeline_know_the_glue_they_have(tmp_path: Path, caplog, embedded) -> None:
    model = write_model(tmp_path / "model", glue())
    asked = read_steering("train/steerseg-embedded", [f"backbone.start={model}", "prompt.n=4"])
    backbone = build_backbone(asked, torch.device("cpu"))
    prompt = new_prompt(asked, "frame", backbone)
    assert prompt.weights == backbone.weights_mark == glue_mark(model)
    prompt.save(tmp_path / "prompts" / "frame.safetensors")
    path = visa.preset_files.PRESETS / "steerseg-embedded.yaml"
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    whole = build_steerseg("s", preset, path.parent, torch.device("cpu"), soft_prompts=tmp_path / "prompts")
    assert whole.reasoner.looking.backbone.weights_mark == glue_mark("embedded")
    assert "trained on other weights" in caplog.text
