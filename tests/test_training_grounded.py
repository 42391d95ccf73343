"""A [SEG] system on a miniature backbone trains through the engine, is written, loaded and segments."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_grounded import write_system

import visa
from dataset.mixed_sample import Draw, MixedSample, MixedTurn
from visa.errors import InputError
from visa.training.engine.batch import TrainingBatch
from visa.training.engine.run import train
from visa.training.engine.settings import read_settings
from visa.training.grounded.reading import GroundedExamples, open_data
from visa.training.grounded.start import build_start, choose_trained
from visa.training.grounded.step import GroundedStep
from visa.training.published_objective import LossWeights
from visa.video import Video


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    return write_system(folder, "qwen2_5_vl")


def recipe(start: Path, out: Path, **changes):
    whole = {
        "out": str(out),
        "model": {"start": str(start), "precision": "fp32", "gradient_checkpointing": True, "sam": "sam.pth"},
        "data": {"source": "moving_shapes", "videos": 2},
        "trained": {"in_full": ["seg_token", "seg_head", "mask_decoder"], "lora_rank": 4},
        "optimiser": {"learning_rate": 1.0e-3},
        "schedule": {"warmup": 1, "steps": 4, "name": "constant"},
        "batch": {"total": 2, "videos": 1},
        "checkpoints": {"every": 2, "keep": 2},
        "validation": {"every": 4, "batches": 1, "pictures": 1},
        "loss": {"average": "micro_batch"},
        **changes,
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / "recipe.yaml"
    path.write_text(yaml.safe_dump(whole))
    return read_settings(str(path))


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    """A run of four steps in one go."""
    out = tmp_path_factory.mktemp("run")
    return train(recipe(start, out), "cpu")


def test_a_run_writes_what_load_takes(trained, start):
    assert trained.finished
    folder = trained.folder
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "preset.yaml",
        "grounded.safetensors",
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    segmenter = visa.load(folder, device="cpu", dtype="float32")
    video = Video.from_frames(np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8))
    tracklet = segmenter.segment(video, "the red square")
    assert tracklet.answer == "It is [SEG]."
    assert tracklet.masks.shape == (3, 48, 64)
    pictures = list((folder.parent / "pictures").rglob("*.png"))
    assert pictures


def test_what_is_loaded_is_what_was_trained(trained, start, tmp_path):
    """What is frozen is as it was, and what is trained is not."""
    settings = recipe(start, tmp_path)
    begun = build_start(settings.model, "cpu")
    untouched = {name: value.clone() for name, value in begun.model.backbone.model.state_dict().items()}
    loaded = visa.load(trained.folder, device="cpu", dtype="float32").reasoner.model
    changed = {
        name
        for name, value in loaded.backbone.model.state_dict().items()
        if not torch.equal(value, untouched[name])
    }
    assert changed
    assert all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)
    assert not any("visual" in name for name in changed)
    assert not torch.equal(loaded.seg_embedding, begun.model.seg_embedding)
    assert not torch.equal(loaded.seg_head[0].weight, begun.model.seg_head[0].weight)
    sam, other = loaded.visual_model.state_dict(), begun.model.visual_model.state_dict()
    moved = {name.partition(".")[0] for name in sam if not torch.equal(sam[name], other[name])}
    assert moved == {"mask_decoder"}


def test_the_loss_falls_and_all_that_is_trained_learns(start, tmp_path):
    settings = recipe(start, tmp_path, schedule={"warmup": 0, "steps": 1, "name": "constant"})
    begun = build_start(settings.model, "cpu")
    torch.manual_seed(0)
    choose_trained(begun.model, settings.trained)
    step = GroundedStep(begun.model, LossWeights(), begun.showing).train()
    reader = open_data(
        settings.data,
        tokenizer=begun.model.backbone.tokenizer,
        sam_size=begun.model.visual_model.image_size,
        rank=0,
        world_size=1,
        batch_size=1,
        seed=0,
    )
    batch = next(iter(reader))
    (group,) = step.parameter_groups()
    optimiser = torch.optim.Adam(group.parameters.values(), 2e-3)
    losses = []
    for _ in range(12):
        result = step(batch)
        sum(result.parts.values()).backward()
        if not losses:
            silent = {name for name, p in group.parameters.items() if p.grad is None or not p.grad.any()}
            # LoRA's second factor begins at zero, so that the first has no gradient yet.
            assert not {name for name in silent if "lora_A" not in name and "mask_decoder" not in name}
        losses.append(result.loss.total.item())
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < 0.8 * losses[0]
    assert step.counts(batch)["bce"] == 1
    words = len(begun.model.backbone.tokenizer("It is").input_ids)
    assert step.counts(batch)["text"] > words


def test_a_run_goes_on_where_it_was_broken_off(start, tmp_path, trained):
    out = tmp_path / "run"
    shutil.copytree(trained.folder.parent, out)
    shutil.rmtree(out / "export")
    shutil.rmtree(out / "checkpoints" / "step-000004")
    (out / "checkpoints" / "best.json").unlink(missing_ok=True)
    again = train(recipe(start, out), "cpu")
    assert again.finished
    for name in ("grounded.safetensors", "adapter_model.safetensors"):
        one, other = load_file(trained.folder / name), load_file(again.folder / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def sample(turns, references, targets, masks):
    draw = Draw(
        index=0, group="g", source="made_up", split="train", clip=0, name="c", expressions=(0,),
        turns=turns, references=(0,), targets=(1,), target_places=(),
    )  # fmt: skip
    return MixedSample(draw, references, targets, masks)


def test_samples_of_a_mixture_become_frames_and_turns(start, tmp_path):
    begun = build_start(recipe(start, tmp_path).model, "cpu")
    tokenizer, side = begun.model.backbone.tokenizer, begun.model.visual_model.image_size
    maker = GroundedExamples(tokenizer, side, 0, seed=0)
    small, large = np.zeros((20, 30, 3), np.uint8), np.full((40, 60, 3), 200, np.uint8)
    turns = (
        MixedTurn("the <|im_end|>cat", "mask", "", None, "referring"),
        MixedTurn("Who wins?", "mask and words", "The fast one.", True, "reasoning"),
    )
    made = maker.make(sample(turns, (small, large), (large,), np.ones((1, 2, 40, 60), bool)))
    assert made.frames.shape == (3, 40, 60, 3)
    assert made.masks.shape == (1, 2, 40, 60)
    first, second = made.conversations
    assert [turn.role for turn in first] == ["user", "assistant"]
    assert "cat" in first[0].text
    assert "<" not in first[0].text + second[0].text
    assert first[1].text.count("[SEG]") == second[1].text.count("[SEG]") == 1
    assert second[1].text.endswith("The fast one.")
    step = GroundedStep(begun.model, LossWeights(), begun.showing)
    with torch.no_grad():
        result = step(TrainingBatch(0, (made,)))
    assert result.mask_logits[0].shape == (2, 40, 60)
    assert result.loss.total.isfinite()


def test_what_cannot_be_trained_is_told(start, tmp_path, trained):
    with pytest.raises(InputError, match="embeddings of a backbone is not trained in full"):
        train(recipe(start, tmp_path / "a", trained={"in_full": ["embeddings"]}), "cpu")
    with pytest.raises(InputError, match="is what a training wrote"):
        train(recipe(trained.folder, tmp_path / "b"), "cpu")
    changed = {"in_full": ["seg_head"], "lora_targets": ["w_proj"]}
    with pytest.raises(InputError, match="no layer is called w_proj"):
        train(recipe(start, tmp_path / "c", trained=changed), "cpu")


def test_a_preset_that_lacks_something_is_told(start, tmp_path):
    for reason, told in [
        ({"stream": "frame", "max_tokens": 32}, "does not say 'seg_state'"),
        ({"stream": "frame", "seg_state": "predicting"}, "does not say 'max_tokens'"),
        ({"stream": "sound", "max_tokens": 32, "seg_state": "predicting"}, "stream must be"),
        ({"stream": "frame", "max_tokens": 32, "seg_state": "beside"}, "seg_state must be"),
    ]:
        preset = yaml.safe_load(start.read_text())
        other = start.with_name("other.yaml")
        other.write_text(yaml.safe_dump({**preset, "reason": reason}))
        with pytest.raises(InputError, match=f"other.yaml.* {told}"):
            build_start(recipe(other, tmp_path / "run").model, "cpu")


@pytest.mark.parametrize("size", ["qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-4b", "internvl3-8b"])
def test_recipes_are_read_and_start_from_their_presets(size):
    name = f"visa-{size}"
    settings = read_settings(f"train/{name}", ["data.root=/data"])
    assert settings.model.start == name
    assert settings.trained.in_full == ("seg_token", "seg_head", "mask_decoder")
