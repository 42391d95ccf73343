"""What a run tells of itself: the line, and figures and pictures on TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from visa.commands.train import main

STEPS = ["schedule.steps=2", "batch.total=1", "validation.every=2", "validation.batches=2", "export=false"]


class Opened:
    """A run on Weights & Biases that keeps what it is told."""

    def __init__(self, options):
        self.options, self.logged, self.finished = options, [], False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def runs(monkeypatch) -> list[Opened]:
    """The runs that are opened at a module in place of wandb."""
    opened = []
    module = ModuleType("wandb")
    # Other libraries look whether there is one.
    module.__spec__ = ModuleSpec("wandb", None)
    module.Image = lambda path: ("picture", path)
    module.init = lambda **options: opened.append(Opened(options)) or opened[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return opened


def test_figures_and_pictures_go_where_they_are_wanted(runs, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--config", "train/smoke", f"out={out}", *STEPS, "report.wandb=true"]
    assert main(arguments) == 0
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    pictures = sorted(str(path) for path in (out / "pictures" / "step-000002").iterdir())
    assert pictures
    (run,) = runs
    figures = [{"step": step, **values} for step, values in run.logged if "loss/total" in values]
    assert figures == rows
    assert [values for _, values in run.logged if "pictures" in values] == [
        {"pictures": [("picture", path) for path in pictures]}
    ]
    assert run.finished
    assert (run.options["project"], run.options["config"]["schedule"]["steps"]) == ("visa", 2)
    board = EventAccumulator(str(out / "tensorboard")).Reload()
    losses = [event.value for event in board.Scalars("loss/total")]
    assert losses == pytest.approx([row["loss/total"] for row in rows], rel=1e-6)
    assert len(board.Images("pictures/00")) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    for name in "step 2/2, loss |text |bce |dice |samples/s|tokens/s|waiting |J&F |left 0:".split("|"):
        assert name in line
    # What goes on is the same run there.
    assert main([*arguments, "checkpoints.keep=2"]) == 0
    assert runs[1].options["id"] == run.options["id"]
    assert runs[1].options["resume"] == "allow"


def test_a_run_without_them_says_so_and_goes_on(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    out = tmp_path / "run"
    assert main(["--config", "train/smoke", f"out={out}", *STEPS, "report.wandb=true"]) == 0
    told = capsys.readouterr().err
    assert "no Weights & Biases (pip install wandb)" in told
    assert "no TensorBoard (pip install tensorboard)" in told
    losses = [json.loads(line)["loss/total"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
