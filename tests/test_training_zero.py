"""Every kind of ZeRO, with and without offload, makes the updates that torch alone makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.test_training_ranks import free_port
from tests.tiny_engine import tiny_folder

ROOT = Path(__file__).parents[1]
KINDS = [
    {"stage": stage, "offload": offload, "precision": precision}
    for stage in (1, 2, 3)
    for offload, precision in (("none", "fp32"), ("cpu", "fp32"), ("none", "bf16"))
]
# Those that were wrong once: the gradients of whole steps were not averaged, or not handed to the optimiser.
ONCE_WRONG = [KINDS[0], KINDS[7]]
# bfloat16 also rounds what torch alone keeps in float32: SAM's decoder as it starts.
TOLERANCES = {
    "fp32": {"weights": 1e-5, "moments": 1e-7, "norms": 1e-5},
    "bf16": {"weights": 1e-2, "moments": 1e-3, "norms": 1e-3},
}


def compared(kinds: list[dict], folder: Path) -> list[dict]:
    """What two processes tell of these kinds."""
    where = tiny_folder(folder, "visa")
    port, running = str(free_port()), []
    for rank in (0, 1):
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
        }
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-m", "tests.zero_stages", str(where), json.dumps(kinds)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    told = [process.communicate(timeout=900)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(told)
    return [json.loads(line) for line in told[0].splitlines() if line.startswith('{"stage"')]


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize(
    "kinds", [ONCE_WRONG, pytest.param(KINDS, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_zero_makes_the_updates_of_torch_alone(kinds, tmp_path):
    found = compared(kinds, tmp_path)
    assert [{name: one[name] for name in kinds[0]} for one in found] == kinds
    for one in found:
        tolerances = TOLERANCES[one["precision"]]
        assert one["names"], one
        assert one["norms"] == pytest.approx(one["expected_norms"], rel=tolerances["norms"]), one
        for name in ("weights", "moments"):
            assert one[name] < tolerances[name], one
