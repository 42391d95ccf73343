"""Two processes train the embedded system as one does, with torch alone and under DeepSpeed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.tiny_glue import losses_of, rows_of, write_scenes

ROOT = Path(__file__).parents[1]
SETTINGS = ["pictures.steps=3", "validation.every=3"]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def train(out: Path, scenes: Path, ranks: int, *settings: str) -> list[float]:
    """Train with so many processes; all losses and their parts."""
    command = [sys.executable, "-m", "tests.tiny_glue", str(out), str(scenes), *SETTINGS, *settings]
    port, running = str(free_port()), []
    for rank in range(ranks):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        if ranks > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    told = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0] * ranks, "\n".join(told)
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
    command = [
        *(sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2"),
        *("--master_port", str(free_port()), "--module", "tests.tiny_glue", str(tmp_path), str(scenes)),
        *(*SETTINGS, "deepspeed.stage=2", "deepspeed.bucket=1000000"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert losses_of(tmp_path) == pytest.approx(losses_of(alone), abs=1e-5)
