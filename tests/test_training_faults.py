"""What goes wrong in a run: numbers that are not finite, SIGTERM, no memory; and what validation leads to."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny_engine import Run, changed, tiny_folder
from visa.training.engine.faults import BadSteps, TrainingError, is_out_of_memory, told_out_of_memory
from visa.training.engine.validation import Score


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("start"), "visa")


class Between:
    """A reader that does something to batches: ``change`` maps (number, batch) to a batch."""

    def __init__(self, reader, change):
        self.reader, self.change, self.number = reader, change, 0
        self.fingerprint = reader.fingerprint

    def __iter__(self):
        return self

    def __next__(self):
        batch = self.change(self.number, next(self.reader))
        self.number += 1
        return batch

    def state_dict(self):
        return self.reader.state_dict()

    def load_state_dict(self, state):
        self.reader.load_state_dict(state)


def poisoned(bad):
    """Batches of which those that ``bad`` picks by number have a pixel that is not a number."""

    def change(number, batch):
        if not bad(number):
            return batch
        video = batch.videos[0]
        images = video.images_clip.clone()
        images[0, 0, 0, 0] = torch.nan
        return replace(batch, videos=(replace(video, name=f"bad {number}", images_clip=images),))

    return lambda reader: Between(reader, change)


def test_a_step_that_is_not_finite_is_left_out_and_named(folder, tmp_path, capsys):
    run = Run(changed(schedule={"steps": 3}), folder, tmp_path, wrap=poisoned(lambda number: number == 3))
    at_step = {}
    told = run.trainer._one_step

    def one_step(batches):
        told(batches)
        at_step[run.trainer.progress.step] = run.weights()

    run.trainer._one_step = one_step
    run.run()
    assert run.finished
    warning = capsys.readouterr().err
    assert "the loss of step 2 is not finite (samples: bad 3); left out" in warning
    assert all(torch.equal(at_step[1][name], at_step[2][name]) for name in at_step[1])
    assert any(not torch.equal(at_step[2][name], at_step[3][name]) for name in at_step[1])
    assert all(torch.isfinite(value).all() for value in at_step[3].values())


def test_too_many_in_a_row_end_the_run(folder, tmp_path):
    settings = changed(schedule={"steps": 50}, checkpoints={"every": 1}, max_bad_steps=2)
    run = Run(settings, folder, tmp_path, wrap=poisoned(lambda number: number >= 2))
    with pytest.raises(TrainingError, match=r"loss of step 3 .*bad 4, bad 5.*2 steps in a row; the last"):
        run.run()
    state, progress = run.checkpoints.load()
    assert progress.step <= 2
    assert all(torch.isfinite(value).all() for value in state.weights.values())


def test_bad_steps_count_in_a_row_only():
    bad = BadSteps(2)
    for step in range(5):
        assert f"step {step}" in bad.bad(step, ["clip"] * 6, "gradient")
        bad.good()
    assert bad.total == 5


def test_sigterm_saves_and_ends_and_the_run_goes_on(folder, tmp_path):
    settings = changed(schedule={"steps": 4})
    whole = Run(settings, folder, tmp_path / "whole").run()

    def terminate(number, batch):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    before = signal.getsignal(signal.SIGTERM)
    run = Run(settings, folder, tmp_path / "cut", wrap=lambda reader: Between(reader, terminate)).run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not run.finished
    state, progress = run.checkpoints.load()
    assert progress.step == 2
    rest = Run(settings, folder, tmp_path / "rest", state=state, progress=progress).run()
    assert rest.finished
    assert run.losses + rest.losses == pytest.approx(whole.losses, abs=1e-6)


def test_the_best_by_validation_is_kept(folder, tmp_path):
    figures = {1: 0.3, 2: 0.8, 3: 0.5, 4: 0.7}
    seen = []

    def validate(step):
        seen.append((step, torch.is_grad_enabled()))
        return Score(figures[step], figures[step], 1.0, 4)

    settings = changed(schedule={"steps": 4}, validation={"every": 1}, checkpoints={"every": 1, "keep": 1})
    run = Run(settings, folder, tmp_path, validate=validate).run()
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    assert run.checkpoints.steps() == [2, 4]
    assert run.trainer.progress.best == (0.8, 2)
    assert run.step.training


def test_what_to_do_without_memory():
    settings = changed(batch={"videos": 4, "total": 4}, model={"precision": "fp32"})
    told = told_out_of_memory(settings, 7)
    ways = "batch.videos=2 gradient_checkpointing=true precision=bf16 deepspeed.stage=3 deepspeed.offload=cpu"
    for way in ("step 7", *ways.split()):
        assert way in told
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
