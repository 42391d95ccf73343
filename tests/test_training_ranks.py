"""Several processes train as one does, with torch alone and under DeepSpeed, taking over from one another."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.several_ranks import run_ranks, run_under_deepspeed
from tests.tiny_engine import ALONE
from visa.training.engine.deepspeed_driver import forget_shared_buffer

SETTINGS = [
    "schedule.steps=4",
    "batch.total=4",
    "checkpoints.every=2",
    "validation.every=4",
    "validation.batches=2",
    "report.tensorboard=false",
    "export=false",
]


def train(out: Path, ranks: int, *settings: str) -> list[dict]:
    """Run train_ds.py with so many processes; the run's figures, a row for each step."""
    run_ranks(["train_ds.py", "--config", "train/smoke", f"out={out}", *SETTINGS, *settings], ranks)
    return figures(out)


def figures(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(rows: list[dict]) -> list[float]:
    return [row[f"loss/{part}"] for row in rows for part in ("total", "text", "bce", "dice")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("alone")
    assert len(train(out, 1)) == 4
    return out


def half(alone: Path, out: Path) -> Path:
    """A run that stands where that of one process stood after two steps."""
    shutil.copytree(alone, out)
    shutil.rmtree(out / "checkpoints" / "step-000004")
    (out / "log.jsonl").unlink()
    return out


def test_two_ranks_train_as_one(alone, tmp_path):
    whole = figures(alone)
    rows = train(tmp_path / "two", 2)
    assert losses(rows) == pytest.approx(losses(whole), abs=1e-6)
    assert len(set(losses(whole))) > 12
    assert [row["gradient"] for row in rows] == pytest.approx([row["gradient"] for row in whole], rel=1e-5)
    # Two ranks validate twice as many videos; the loop's figures are those of all of them.
    assert 0 <= rows[-1]["validation/J&F"] <= 1


def test_two_ranks_go_on_where_one_stood(alone, tmp_path):
    rows = train(half(alone, tmp_path / "half"), 2)
    assert [row["step"] for row in rows] == [3, 4]
    assert losses(rows) == pytest.approx(losses(figures(alone)[2:]), abs=1e-6)


def test_a_rank_forgets_its_own_shared_buffer_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    own, other_rank, other_run = (
        tmp_path / f"deepspeed_allreduce_buffer_{os.getuid()}_127.0.0.1_{which}"
        for which in ("29500_0", "29500_1", "29501_0")
    )
    for path in (own, other_rank, other_run):
        path.touch()
    for _ in range(2):  # the second time there is nothing
        forget_shared_buffer(ALONE, tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([other_rank, other_run])


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize(
    "stage", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_deepspeed_goes_on_where_torch_alone_stood(alone, tmp_path, stage):
    out = half(alone, tmp_path / "half")
    recipe = ["train_ds.py", "--config", "train/smoke", f"out={out}"]
    run_under_deepspeed([*recipe, *SETTINGS, f"deepspeed.stage={stage}"])
    rows = figures(out)
    assert [row["step"] for row in rows] == [3, 4]
    assert losses(rows) == pytest.approx(losses(figures(alone)[2:]), abs=2e-6)
    # What DeepSpeed saved is what torch alone would have, and so can be gone on with by it.
    saved, expected = (load_file(f / "checkpoints/step-000004/moments.safetensors") for f in (out, alone))
    assert saved.keys() == expected.keys()
    assert max((saved[name] - expected[name]).abs().max().item() for name in saved) < 1e-6
