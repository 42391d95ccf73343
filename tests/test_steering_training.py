"""Training of soft prompts: only they change, maps come to point, runs go on and end in small files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from model.backbones.embedded import EmbeddedBackbone
from model.mllm.cells import grid_for
from model.steering.checkpointing import checkpoint_layers
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import SoftPlace, SoftPrompt
from tests.tiny_backbones import tiny_backbone
from tests.tiny_glue import write_scenes
from tests.tiny_mllm import random_cells, tiny_mllm
from tests.tiny_video_datasets import write_ref_youtube_vos
from visa.commands.train import main
from visa.errors import InputError
from visa.steerseg.attention import Looking
from visa.training.recipe import open_recipe
from visa.training.steering.items import SteeringBatch, SteeringItem
from visa.training.steering.map_quality import map_quality
from visa.training.steering.run import train_steering
from visa.training.steering.settings import AttributeSettings, read_steering
from visa.training.steering.step import SteeringStep, counted_maps

SMALL = [
    "prompt.n=4", "optimiser.learning_rate=0.05", "schedule.warmup=1", "schedule.steps=3", "batch.total=2",
    "validation.items=2", "validation.every=2", "checkpoints.every=1", "report.tensorboard=false",
    "reading.workers=0",
]  # fmt: skip


def numbers_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def tiny_step(position: str = "before_vision", seed: int = 0) -> tuple[SteeringStep, nn.Module]:
    mllm = tiny_mllm(seed)
    for parameter in mllm.language.parameters():  # the usual small start makes attention nearly even
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    backbone = EmbeddedBackbone(mllm)
    table = backbone.language_model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)
    place = SoftPlace(8, position)
    prompt = SoftPrompt.from_words(table[:80], place, "embedded", "frame", generator=generator)
    return SteeringStep(backbone, prompt, RolloutSettings(first_layer=0), 24), mllm


def item(seed: int = 0) -> SteeringItem:
    masks = torch.zeros(2, 1, 8, 12)
    masks[0, 0, 2:4, 2:6], masks[1, 0, 5:8, 8:11] = 1, 1
    return SteeringItem("two things", (random_cells(seed=seed),), ("the goat", "the taxi?"), masks)


@pytest.mark.parametrize("position", ["before_vision", "before_text"])
def test_loss_falls_on_one_clip_in_fifty_steps_and_nothing_else_changes(position: str) -> None:
    step, mllm = tiny_step(position)
    before, optimiser = numbers_of(mllm), torch.optim.AdamW(step.model.prompt.parameters(), 0.05)
    step.train()
    assert not mllm.training
    losses = []
    for _ in range(50):
        result = step(SteeringBatch(0, (item(),)))
        losses.append(sum(result.parts.values()))
        losses[-1].backward()
        optimiser.step()
        assert [name for name, p in step.model.named_parameters() if p.grad is not None] == ["prompt.vectors"]
        optimiser.zero_grad()
    assert losses[-1] < 0.75 * losses[0]
    assert same(before, numbers_of(mllm))
    first, last = (
        map_quality(seen.maps[0].detach().numpy(), seen.shares[0].numpy())
        for seen in (tiny_step(position)[0].look(SteeringBatch(0, (item(),))), result.seen)
    )
    assert last.auc > first.auc
    assert {name for name, _ in step.model.named_parameters() if "prompt" in name} == {"prompt.vectors"}
    assert list(step.parameter_groups()[0].parameters) == ["prompt.vectors"]


def test_questions_in_one_pass_count_as_each_alone() -> None:
    step, _ = tiny_step()
    both = item()
    together = step.look(SteeringBatch(0, (both,)))
    for k in range(2):
        alone = SteeringItem("one", both.frames, both.questions[k : k + 1], both.masks[k : k + 1])
        seen = step.look(SteeringBatch(0, (alone,)))
        torch.testing.assert_close(seen.maps[0], together.maps[k], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(seen.shares[0], together.shares[k])
    assert step.counts(SteeringBatch(0, (both, both))) == {"bce": 4, "dice": 4}


def test_frames_of_the_frame_stream_are_read_each_alone_as_in_use() -> None:
    backbone = tiny_backbone("llava_onevision")  # shows one picture otherwise than several
    vectors = torch.randn(4, backbone.width, generator=torch.Generator().manual_seed(0))
    step = SteeringStep(backbone, SoftPrompt(vectors, "llava_onevision", "frame"), RolloutSettings())
    frames = np.random.default_rng(0).integers(0, 256, (3, 56, 84, 3), dtype=np.uint8)
    masks = torch.zeros(1, 3, 8, 12)
    masks[0, 0, 2:4, 2:6], masks[0, 2, 5:8, 8:11] = 1, 1  # not in the frame between
    seen = step.look(SteeringBatch(0, (SteeringItem("it", frames, ("the goat",), masks),)))
    looking = Looking(backbone, RolloutSettings(), {"frame": step.model.prompt})
    expected = [looking.frame_map(frames[k], "the goat").flatten() for k in (0, 2)]
    assert len(seen.maps) == 2
    for found, wanted in zip(seen.maps, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not torch.allclose(expected[0], expected[1])


def test_frames_without_the_thing_are_left_out_of_the_frame_stream_alone() -> None:
    step, _ = tiny_step()
    cells = tuple(random_cells(seed=seed) for seed in range(3))
    masks = torch.zeros(2, 3, 8, 12)
    masks[0, 1, 2:4, 2:6] = 1  # the first thing is in one frame of three, the second in none
    packed = step.backbone.pack_cells(cells, [("a", None), ("b", None)], "video", None, 24)
    rows = step.backbone.rollouts(packed, RolloutSettings(first_layer=0))
    rows_of, cols = grid_for(4, 6, 24)
    frame_maps, _ = counted_maps(packed, rows, masks, "frame")
    clip_maps, shares = counted_maps(packed, rows, masks, "video")
    assert frame_maps.shape == (1, rows_of * cols)
    assert clip_maps.shape == (1, 3 * rows_of * cols)
    middle = packed.layout.frames[1].positions()
    assert torch.equal(frame_maps[0], rows[0, middle])
    assert shares[0].nonzero().min() >= rows_of * cols
    nothing = SteeringItem("none", cells[:1], ("a",), masks[1:, :1])
    result = step(SteeringBatch(0, (nothing,)))
    assert not any(result.parts.values())
    sum(result.parts.values()).backward()
    assert not step.model.prompt.vectors.grad.any()


def test_checkpointing_survives_the_engines_training_mode() -> None:
    step, mllm = tiny_step()
    kept = step(SteeringBatch(0, (item(),)))
    sum(kept.parts.values()).backward()
    gradient = step.model.prompt.vectors.grad.clone()
    step.zero_grad()
    checkpoint_layers(step.backbone.language_model)
    step.train()
    calls = []
    norm = step.backbone.language_model.layers[1].input_layernorm
    norm.register_forward_hook(lambda *_: calls.append(1))
    again = step(SteeringBatch(0, (item(),)))
    sum(again.parts.values()).backward()
    assert len(calls) == 2
    torch.testing.assert_close(step.model.prompt.vectors.grad, gradient, atol=1e-6, rtol=1e-4)
    assert not mllm.language.training


def run_settings(tmp_path: Path, *changes: str):
    return read_steering("train/steerseg", [*SMALL, f"out={tmp_path / 'run'}", *changes])


def test_a_run_on_ref_youtube_vos_changes_nothing_but_two_prompts(tmp_path: Path, capsys) -> None:
    write_ref_youtube_vos(tmp_path / "rvos")
    backbone = tiny_backbone("qwen2_5_vl")
    before = numbers_of(backbone)
    none_held_out = run_settings(tmp_path, f"data.folder={tmp_path / 'rvos'}", "data.held_out_share=0.5")
    none_held_out = replace(none_held_out, data=replace(none_held_out.data, attributes=AttributeSettings()))
    with pytest.raises(InputError, match="of 2 videos none is held out: change data.held_out_share"):
        train_steering(none_held_out, "cpu", lambda *_: backbone)
    settings = run_settings(
        tmp_path, f"data.folder={tmp_path / 'rvos'}", "data.held_out_share=0.8", "frame.max_tokens=64",
        "video.max_tokens=64", f"data.attributes.file={tmp_path / 'said.jsonl'}",
        "data.attributes.max_new_tokens=2",
    )  # fmt: skip
    outcome = train_steering(settings, "cpu", lambda *_: backbone)
    assert outcome.finished
    assert same(before, numbers_of(backbone))
    for stream in ("frame", "video"):
        file = tmp_path / "run" / f"{stream}.safetensors"
        prompt = SoftPrompt.load(file, backbone="qwen2_5_vl", width=64, stream=stream)
        assert prompt.place == SoftPlace(4, "before_vision")
        assert file.stat().st_size < 1500
    assert len((tmp_path / "said.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    said = capsys.readouterr().out
    assert "frame stream: 256 numbers learn" in said
    assert "video stream, in the end: iou" in said
    figures = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    assert figures["prompt"]["n"] == 4


def test_a_run_on_scenes_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", 3)

    def run(out: str, steps: int) -> torch.Tensor:
        settings = read_steering(
            "train/steerseg-embedded",
            [*SMALL, f"out={tmp_path / out}", f"data.folder={scenes}", f"data.held_out={scenes}",
             "streams=[frame]", "schedule.name=constant", f"schedule.steps={steps}", "frame.max_tokens=24"],
        )  # fmt: skip
        train_steering(settings, "cpu", lambda *_: EmbeddedBackbone(tiny_mllm(), "this glue"))
        prompt = SoftPrompt.load(
            tmp_path / out / "frame.safetensors", backbone="embedded", width=32, stream="frame"
        )
        assert prompt.weights == "this glue"
        return prompt()

    at_once = run("a", 3)
    newest = tmp_path / "a" / "frame" / "checkpoints" / "step-000003"
    assert newest.is_dir()
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()
    (tmp_path / "a" / "frame.safetensors").unlink()
    assert torch.equal(run("a", 3), at_once)
    assert not torch.equal(run("b", 1), at_once)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("prompt.m=4", "no setting 'prompt.m'"),
        ("prompt.n=0", "prompt.n must be at least 1"),
        ("prompt.position=behind", "prompt.position must be 'before_vision' or 'before_text'"),
        ("streams=[both]", "streams must be"),
        ("streams=[frame, frame]", "streams: expected frame, video or both"),
        ("data.attributes.dropout=2", "dropout must be from 0 to 1"),
        ("data.folder=''", "data.folder must say where"),
        ("batch.videos=3", "batch.total=2 cannot be dealt out"),
        ("data.folder=/nowhere", "/nowhere holds no cached scene"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, change: str, message: str) -> None:
    def run() -> None:
        settings = read_steering("train/steerseg-embedded", [*SMALL, f"out={tmp_path / 'run'}", change])
        train_steering(settings, "cpu", lambda *_: EmbeddedBackbone(tiny_mllm()))

    with pytest.raises(InputError, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)


def test_a_layer_that_the_model_does_not_have_is_told(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", 1)
    for change, message in [
        ("first_layer=9", "rollout: first_layer is in .0, 1."),
        ("chunk=0", "at least one"),
    ]:
        settings = read_steering(
            "train/steerseg-embedded",
            [*SMALL, f"out={tmp_path / 'run'}", f"data.folder={scenes}", f"rollout.{change}",
             "validation.every=0", "data.held_out=''"],
        )  # fmt: skip
        with pytest.raises(InputError, match=message):
            train_steering(settings, "cpu", lambda *_: EmbeddedBackbone(tiny_mllm()))


def test_the_command_takes_both_recipes(tmp_path: Path, capsys) -> None:
    assert open_recipe("train/steerseg")["backbone"]["start"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert main(["--config", "train/steerseg", f"out={tmp_path}"]) == 2
    assert "data.folder must say where the data lies" in capsys.readouterr().err
