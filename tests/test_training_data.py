"""Training on data sets from disk: reader, worker processes and loop together, broken off and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.tiny_batches import write_data, write_recipe
from visa.commands.train import main
from visa.training.engine.step import TrainingStep
from visa.training.recipe import open_recipe

ROOT = Path(__file__).parents[1]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss/total"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A recipe of few steps over pictures on disk."""
    folder = tmp_path_factory.mktemp("data")
    recipe = open_recipe("train/smoke")
    recipe["data"] = {
        "root": str(write_data(folder / "sets")),
        "mixture": str(write_recipe(folder)),
        "workers": 2,
    }
    recipe |= {"schedule": {"warmup": 0, "steps": 4}, "validation": {"every": 0}, "batch": {"total": 2}}
    recipe |= {"checkpoints": {"every": 2}, "report": {"tensorboard": False}, "export": False}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def test_a_run_over_data_sets_goes_on_with_the_same_losses(recipe, tmp_path):
    assert main(["--config", str(recipe), f"out={tmp_path / 'whole'}"]) == 0
    whole = losses(tmp_path / "whole")
    assert len(set(whole)) == 4
    (tmp_path / "whole" / "checkpoints" / "step-000004").rename(tmp_path / "last")
    (tmp_path / "whole" / "log.jsonl").unlink()
    # Who reads does not matter, and may change.
    assert main(["--config", str(recipe), f"out={tmp_path / 'whole'}", "data.workers=0"]) == 0
    assert losses(tmp_path / "whole") == pytest.approx(whole[2:], abs=1e-6)


def test_sigterm_ends_the_command_after_saving(recipe, tmp_path):
    command = [sys.executable, "train_ds.py", "--config", str(recipe), f"out={tmp_path}"]
    command += ["schedule.steps=100000", "checkpoints.every=100000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
    try:
        while not run.stdout.readline().startswith("step 2/"):
            assert run.poll() is None, run.stderr.read()
        run.send_signal(signal.SIGTERM)
        _, told = run.communicate(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 143
    assert "stopped by SIGTERM after step" in told
    (saved,) = (tmp_path / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    assert step >= 2
    assert json.loads((saved / "state.json").read_text())["position"] == {"samples": 2 * step}


def test_out_of_memory_is_a_line_that_says_what_to_change(recipe, tmp_path, monkeypatch, capsys):
    def forward(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(TrainingStep, "forward", forward)
    assert main(["--config", str(recipe), f"out={tmp_path}", "data.workers=0"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: out of memory in step 1; try ")
    assert "model.precision=bf16" in told


def test_a_full_disk_is_a_line(recipe, tmp_path, monkeypatch, capsys):
    def save_file(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("visa.training.engine.checkpoints.save_file", save_file)
    assert main(["--config", str(recipe), f"out={tmp_path}", "data.workers=0"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "the checkpoint of step 2 cannot be written" in told
    assert "No space left on device" in told


def test_a_folder_of_data_that_is_not_there_is_told_before_a_model_is_looked_for(recipe, tmp_path, capsys):
    overrides = [f"out={tmp_path / 'out'}", "data.root=/no/such/sets", "model.start=/no/such/model"]
    assert main(["--config", str(recipe), *overrides]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("data.root: there is no folder /no/such/sets")
