"""Checkpoints: whole or not there, the last few and the best, and refused where they do not belong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from visa.errors import InputError
from visa.training.engine import checkpoints as module
from visa.training.engine.checkpoints import Checkpoints, Progress
from visa.training.engine.driver import MOMENTS, LossScale, TrainState
from visa.training.engine.faults import TrainingError

ROOT = Path(__file__).parents[1]


def state(value: float, size: int = 3) -> TrainState:
    weights = {"a": torch.full((size,), value), "b.c": torch.full((2, 2), -value)}
    moments = {f"{name}.{key}": value / 2 for name, value in weights.items() for key in MOMENTS}
    return TrainState(weights, moments, updates=int(value), scale=LossScale(2.0 * value, int(value)))


def store(folder: Path, keep: int = 2, **changes: object) -> Checkpoints:
    return Checkpoints(folder, keep, {"seed": 0, "optimiser.betas": (0.9, 0.95), **changes}, "data 1")


def test_what_was_saved_comes_back(tmp_path):
    checkpoints = store(tmp_path)
    assert checkpoints.load() is None
    checkpoints.save(state(3), Progress(3, {"samples": 12}, (0.5, 2)))
    found, progress = checkpoints.load()
    assert progress == Progress(3, {"samples": 12}, (0.5, 2))
    assert (found.updates, found.scale) == (3, LossScale(6.0, 3))
    assert all(torch.equal(found.weights[name], value) for name, value in state(3).weights.items())
    assert all(torch.equal(found.moments[name], value) for name, value in state(3).moments.items())


def test_the_last_few_and_the_best_stay(tmp_path):
    checkpoints = store(tmp_path, keep=2)
    for step in range(1, 7):
        checkpoints.save(state(step), Progress(step, {}, (0.9, 2) if step >= 2 else None))
    assert checkpoints.steps() == [2, 5, 6]
    checkpoints.save(state(7), Progress(7, {}, (0.95, 7)))
    assert checkpoints.steps() == [6, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000007"]


def test_a_step_is_saved_once(tmp_path):
    checkpoints = store(tmp_path)
    checkpoints.save(state(1), Progress(1))
    checkpoints.save(state(9), Progress(1))
    assert checkpoints.load()[0].updates == 1


@pytest.mark.parametrize("broken", ["save_file", "rename", "fsync"])
def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch, broken):
    checkpoints = store(tmp_path)
    checkpoints.save(state(1), Progress(1))

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        where = {"save_file": module, "rename": Path, "fsync": os}[broken]
        patch.setattr(where, broken, fail)
        with pytest.raises(TrainingError, match=r"step 2 .*No space left on device; the last .* is step 1"):
            checkpoints.save(state(2), Progress(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert checkpoints.load()[0].updates == 1
    checkpoints.save(state(2), Progress(2))
    assert checkpoints.load()[0].updates == 2


def test_other_settings_and_other_data_are_refused(tmp_path):
    store(tmp_path).save(state(1), Progress(1))
    with pytest.raises(InputError, match=r"seed was 0, is 1; go on with the old .* out=") as caught:
        store(tmp_path, seed=1).load()
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"new was None, is 3"):
        store(tmp_path, new=3).load()
    other = Checkpoints(tmp_path, 2, store(tmp_path).identity, "data 2")
    with pytest.raises(InputError, match="other data"):
        other.load()


@pytest.mark.parametrize("name", ["weights.safetensors", "moments.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    checkpoints = store(tmp_path)
    checkpoints.save(state(1), Progress(1))
    (tmp_path / "step-000001" / name).write_bytes(b"{")
    with pytest.raises(InputError, match="step-000001 is damaged"):
        checkpoints.load()


WRITER = """
import sys
from pathlib import Path
from tests.test_training_checkpoints import Progress, state, store
checkpoints = store(Path(sys.argv[1]))
for step in range(1, 10**6):
    checkpoints.save(state(step, size=200_000), Progress(step))
    print(step, flush=True)
"""


def test_a_run_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(2):
            writer.stdout.readline()
        # Somewhere within the writing of some later one.
        time.sleep(0.0371)
    finally:
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate(timeout=60)[0].split()
    told = int(rest[-1]) if rest else 2
    found, progress = store(tmp_path).load()
    assert progress.step >= told
    expected = state(progress.step, size=200_000)
    assert all(torch.equal(found.weights[name], value) for name, value in expected.weights.items())
    # What was half written is no obstacle.
    store(tmp_path).save(state(10**6 + 1), Progress(10**6 + 1))
    assert store(tmp_path).load()[1].step == 10**6 + 1
