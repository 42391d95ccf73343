"""The embedded system's training, end to end on a tiny system: what changes, what stays, what is written, and
that a run that was broken off goes on as if it had not been."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.tiny_glue import losses_of, rows_of, tiny_system, train_tiny, weights_at, write_scenes
from visa.embedded_mllm import glue_state, load_glue
from visa.errors import InputError
from visa.training.embedded import content
from visa.training.embedded_settings import LossWeights, read_embedded
from visa.training.glue_batches import GlueBatches

CPU, STAGES = torch.device("cpu"), ("words", "pictures")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, scenes) -> Path:
    """A run of both stages; the second with a checkpoint at every second step."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    changes = ("words.steps=2", "checkpoints.every=2", "validation.every=4")
    outcome = train_tiny(out, scenes, *changes)
    assert (outcome.finished, outcome.folder) == (True, out)
    return out


def again(whole: Path, scenes: Path, *changes: str):
    """The same run's command once more."""
    changes = ("words.steps=2", "checkpoints.every=2", "validation.every=4", *changes)
    return train_tiny(whole, scenes, *changes)


def test_the_folder_holds_what_the_last_checkpoint_holds(whole):
    mllm, sam = tiny_system(CPU)
    load_glue(whole / "glue.safetensors", mllm, sam.sam.mask_decoder)
    trained, exported = weights_at(whole, 4), glue_state(mllm, sam.sam.mask_decoder)
    for ours, name in (
        ("mllm.seg_embedding", "mllm.seg_embedding"),
        ("mllm.head.bias", "mllm.head.bias"),
        ("mask_decoder.mask_tokens.weight", "mask_decoder.mask_tokens.weight"),
    ):
        assert torch.equal(trained[ours].bfloat16(), exported[name]), name
    assert (whole / "glue.safetensors").read_bytes() == (whole / "pictures.safetensors").read_bytes()
    preset = yaml.safe_load((whole / "preset.yaml").read_text())
    for name in (preset["reason"][key] for key in ("semantic", "classes", "glue")):
        assert (whole / name).is_file(), name
    assert (whole / preset["propagate"]["tracker"]).is_file()


def test_the_run_tells_its_losses_its_figures_and_what_it_was_made_from(whole, scenes):
    rows = rows_of(whole)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    parts = {f"loss/{name}" for name in vars(LossWeights())}
    assert parts - {"loss/mask_bce", "loss/mask_dice"} <= rows[0].keys()
    assert parts <= rows[0].keys() | rows[2].keys() | rows[3].keys()
    assert {"samples/s", "tokens/s", "share/reading", "minutes", "gradient"} <= rows[0].keys()
    assert {"validation/merit", "validation/absent refused"} <= rows[3].keys()
    assert 0 <= rows[3]["validation/merit"] <= 1
    assert "validation/merit" not in rows_of(whole, "words")[1]
    total = sum(value for name, value in rows[0].items() if name in parts)
    assert rows[0]["loss/total"] == pytest.approx(total)
    resolved = yaml.safe_load((whole / "settings.yaml").read_text())
    assert resolved["scenes"]["folder"] == str(scenes)
    assert "3 scenes" in (whole / "pictures" / "starts.jsonl").read_text()


def test_the_first_stage_is_where_the_second_begins(whole):
    first, second = weights_at(whole, 2, "words"), load_file(whole / "words.safetensors")
    assert torch.equal(first["mllm.seg_output"].bfloat16(), second["mllm.seg_output"])
    starts = [yaml.safe_load((whole / s / "settings.yaml").read_text())["model"]["start"] for s in STAGES]
    assert starts == ["", content(whole / "words.safetensors")]


def test_a_run_that_was_broken_off_goes_on_with_the_same_losses(whole, scenes, tmp_path):
    out = tmp_path / "rest"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "pictures" / "checkpoints" / "step-000004")
    for name in ("pictures.safetensors", "glue.safetensors", "pictures/log.jsonl"):
        (out / name).unlink()
    assert again(out, scenes).finished
    assert [row["step"] for row in rows_of(out)] == [3, 4]
    expected = losses_of(whole)[-len(losses_of(out)) :]
    assert losses_of(out) == pytest.approx(expected, abs=1e-6)
    assert (out / "glue.safetensors").read_bytes() == (whole / "glue.safetensors").read_bytes()
    assert rows_of(out)[-1]["minutes"] > 0


def test_sigterm_saves_and_the_same_command_goes_on(whole, scenes, tmp_path, monkeypatch, capsys):
    draw = GlueBatches.__getitem__

    def terminated(self, start):
        if start == 3 and self.scenes is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, start)

    with monkeypatch.context() as patched:
        patched.setattr(GlueBatches, "__getitem__", terminated)
        outcome = train_tiny(tmp_path, scenes)
    assert not outcome.finished
    assert "stopped by SIGTERM after step 2" in capsys.readouterr().err
    assert not (tmp_path / "pictures.safetensors").exists()
    assert train_tiny(tmp_path, scenes).finished
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 4]
    straight = tmp_path / "straight"
    train_tiny(straight, scenes)
    assert losses_of(tmp_path) == pytest.approx(losses_of(straight), abs=1e-6)


def test_what_is_done_is_not_done_again(whole, scenes):
    before = (whole / "pictures" / "log.jsonl").read_text()
    assert again(whole, scenes).finished
    assert (whole / "pictures" / "log.jsonl").read_text() == before


@pytest.mark.parametrize("change", ["words.learning_rate=0.5", "loss.text=3", "seed=9"])
def test_other_settings_are_refused_in_the_same_folder(whole, scenes, change):
    with pytest.raises(InputError, match=r"has other settings: .* another folder by out=") as caught:
        again(whole, scenes, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("pictures.step=3", "no setting 'pictures.step'; did you mean 'pictures.steps'"),
        ("max_minutes=3", "did you mean 'words.max_minutes'"),
        ("pictures.batch=many", "pictures.batch must be a whole number, got 'many'"),
        ("precision=fp8", "precision must be 'bf16' or 'fp32', got 'fp8'"),
        ("pictures.word_share=2.0", "pictures.word_share must be from 0 to 1, got 2.0"),
        ("deepspeed.stage=3", "deepspeed.stage=3 is not for the embedded system"),
        ("words=3", "words is a section"),
        ("seed", "expected key=value, got 'seed'"),
    ],
)
def test_wrong_settings_are_told_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        read_embedded("train/embedded", [change])
    assert "\n" not in str(caught.value)


def test_the_preset_is_whole():
    settings = read_embedded("train/embedded", ["out=elsewhere", "pictures.learning_rate=1e-4"])
    assert (settings.out, settings.pictures.learning_rate) == ("elsewhere", 1e-4)
    for name in settings.stages:
        run = settings.run_settings(name, "", 1)
        assert run.schedule.steps > 0
        assert run.accumulation(1) == 1
        assert 0 < run.optimiser.learning_rate < 0.01
    with pytest.raises(InputError, match="nothing to do"):
        read_embedded("train/embedded", ["words.steps=0", "pictures.steps=0"])


def test_a_batch_that_cannot_be_dealt_out_is_told(scenes, tmp_path):
    with pytest.raises(InputError, match=r"batch=5 cannot be dealt out .*: set batch to a multiple of 2, or"):
        train_tiny(tmp_path, scenes, "pictures.batch=5", "pictures.micro_batch=2")


def test_a_start_that_is_not_there_is_told(scenes, tmp_path):
    with pytest.raises(InputError, match=r"start: there is no file .*nowhere"):
        train_tiny(tmp_path, scenes, "start=nowhere.safetensors")


def test_a_start_of_something_else_is_told(scenes, tmp_path):
    (tmp_path / "text.safetensors").write_text("not weights")
    for name in ("text.safetensors", "other.safetensors"):
        if name == "other.safetensors":
            save_file({"a": torch.zeros(1)}, tmp_path / name)
        with pytest.raises(InputError, match=f"start: .*{name} cannot be gone on from"):
            train_tiny(tmp_path / "out", scenes, f"start={tmp_path / name}")


@pytest.mark.parametrize("folder", ["folder", "held_out_folder"])
def test_a_folder_without_scenes_is_told_before_training(scenes, tmp_path, folder):
    with pytest.raises(InputError, match=r"no cached scene in .*nothing"):
        train_tiny(tmp_path, scenes, f"scenes.{folder}={tmp_path / 'nothing'}", "validation.every=4")
    assert not (tmp_path / "pictures").exists()
