"""Two processes train the embedded system as one does, with torch alone and under DeepSpeed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.several_ranks import run_ranks, run_under_deepspeed
from tests.tiny_glue import losses_of, rows_of, write_scenes

SETTINGS = ["pictures.steps=3", "validation.every=3"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def train(out: Path, scenes: Path, ranks: int, *settings: str) -> list[float]:
    """Train with so many processes; all losses and their parts."""
    run_ranks(["-m", "tests.tiny_glue", out, scenes, *SETTINGS, *settings], ranks)
    return losses_of(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, scenes) -> Path:
    out = tmp_path_factory.mktemp("runs") / "alone"
    train(out, scenes, 1)
    return out


def test_two_ranks_train_as_one(alone, scenes, tmp_path):
    assert train(tmp_path, scenes, 2) == pytest.approx(losses_of(alone), abs=1e-6)
    one, two = (
        {name: value for name, value in rows_of(out)[-1].items() if name.startswith("validation/")}
        for out in (alone, tmp_path)
    )
    assert one == pytest.approx(two, abs=1e-6)
    assert (tmp_path / "glue.safetensors").is_file()


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
def test_deepspeed_trains_as_torch_alone(alone, scenes, tmp_path):
    recipe = [*SETTINGS, "deepspeed.stage=2", "deepspeed.bucket=1000000"]
    run_under_deepspeed(["--module", "tests.tiny_glue", tmp_path, scenes, *recipe])
    assert losses_of(tmp_path) == pytest.approx(losses_of(alone), abs=1e-5)
