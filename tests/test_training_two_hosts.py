"""`deepspeed --hostfile` over two hosts: one dies in mid-run, and the run goes on from its checkpoint."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import two_hosts
from two_hosts import ADDRESSES, NOBODY, Host

from visa.training.engine.lost_ranks import is_lost_rank, told_lost_rank

ROOT = Path(__file__).parents[1]
STEPS = 12
# Seconds that a run may take where the cores are busy with other things.
LONG = 500
SETTINGS = [
    f"schedule.steps={STEPS}",
    "deepspeed.stage=2",
    "checkpoints.every=1",
    "validation.every=0",
    "report.tensorboard=false",
    "export=false",
]
ENVIRONMENT = {
    "GLOO_SOCKET_IFNAME": "eth0",
    "VISA_MEETING_SECONDS": "300",
}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> Iterator[tuple[Host, Host]]:
    if torch.cuda.is_available():
        pytest.skip("both hosts would take the same GPU")
    if reason := two_hosts.missing():
        pytest.skip(reason)
    with two_hosts.two_hosts(tmp_path_factory.mktemp("hosts")) as both:
        yield both


class Launch(two_hosts.Launch):
    """A training run on the two hosts."""

    def __init__(self, hosts: tuple[Host, Host], folder: Path, port: int, listed: tuple = ADDRESSES, **more):
        self.out = folder / "out"
        command = [ROOT / "train_ds.py", "--config", "train/smoke", f"out={self.out}", *SETTINGS]
        super().__init__(hosts, folder, port, command, {**ENVIRONMENT, **more}, listed)

    def wait_for_step(self, step: int) -> None:
        """Until the run has saved that step."""
        until = time.monotonic() + LONG
        while not self.checkpoint(step).exists():
            assert self.process.poll() is None, self.output()[-4000:]
            assert time.monotonic() < until, self.output()[-4000:]
            time.sleep(0.02)

    def checkpoint(self, step: int) -> Path:
        return self.out / "checkpoints" / f"step-{step:06d}"

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]

    def losses(self) -> list[float]:
        return [row["loss/total"] for row in self.rows()]


def errors(told: str, host: str) -> list[str]:
    """What train_ds.py complained of on a host."""
    return re.findall(rf"^{re.escape(host)}: error: (.*)$", told, re.MULTILINE)


def alone(out: Path) -> list[float]:
    """Losses of the same run by one process that nothing disturbed."""
    command = [sys.executable, "train_ds.py", "--config", "train/smoke", f"out={out}", *SETTINGS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["loss/total"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_host_dies_and_the_run_goes_on(hosts, tmp_path):
    with Launch(hosts, tmp_path, 29511) as first:
        first.wait_for_step(3)
        hosts[1].die()
        died = time.monotonic()
        assert first.wait(120) != 0, first.output()
        took = time.monotonic() - died
    told = first.output()
    assert took < 60
    saved = max(int(path.name[5:]) for path in first.out.glob("checkpoints/step-*"))
    assert 3 <= saved < STEPS, told
    assert len(errors(told, ADDRESSES[0])) == 1, told
    complaint = errors(told, ADDRESSES[0])[0]
    assert f"lost in step {saved + 1}" in complaint
    assert f"the last checkpoint is step {saved}:" in complaint
    assert "Traceback" not in told
    # pdsh names the host.
    assert re.search(rf"{re.escape(ADDRESSES[1])}: ssh exited with exit code", told)

    hosts[1].boot()
    with Launch(hosts, tmp_path, 29512) as second:
        assert second.wait(LONG) == 0, second.output()[-4000:]
    assert f"going on from step {saved}" in second.output()
    steps = [row["step"] for row in second.rows()]
    assert steps[-(STEPS - saved) :] == list(range(saved + 1, STEPS + 1))
    losses = dict(zip(steps, second.losses(), strict=True))
    assert [losses[step] for step in sorted(losses)] == pytest.approx(alone(tmp_path / "alone"), abs=1e-5)


@pytest.mark.slow
def test_a_host_that_is_not_there(hosts, tmp_path):
    with Launch(hosts, tmp_path, 29513, (ADDRESSES[0], NOBODY), VISA_MEETING_SECONDS=10) as launch:
        assert launch.wait(LONG) != 0, launch.output()
    told = launch.output()
    assert re.search(rf"{re.escape(NOBODY)}: ssh exited with exit code 255", told)
    assert len(errors(told, ADDRESSES[0])) == 1, told
    assert f"the 2 processes did not meet at {ADDRESSES[0]}:29513" in errors(told, ADDRESSES[0])[0]
    assert "Traceback" not in told


@pytest.mark.slow
def test_the_first_host_is_not_there(hosts, tmp_path):
    with Launch(hosts, tmp_path, 29514, (NOBODY, ADDRESSES[1])) as launch:
        assert launch.wait(LONG) != 0, launch.output()
    assert f"host={NOBODY} was not reachable via ssh" in launch.output()
    assert not launch.out.exists()


@pytest.mark.parametrize(
    ("told", "lost"),
    [
        ("[gloo/transport/tcp/pair.cc:537] Read error [10.77.0.2]:20680: Connection reset by peer.", True),
        ("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation", True),
        ("mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)", False),
    ],
)
def test_what_is_taken_for_a_lost_rank(told, lost):
    assert is_lost_rank(RuntimeError(told)) is lost


def test_what_is_said_about_a_lost_rank():
    told = (
        "\n[/src/gloo/transport/tcp/pair.cc:537] Read error [10.77.0.2]:99: Connection reset by peer. Advice."
    )
    for saved, last in (3, "the last checkpoint is step 3:"), (None, "there is no checkpoint yet:"):
        said = told_lost_rank(RuntimeError(told), 4, saved)
        assert f"lost in step 4 (Read error [10.77.0.2]:99: Connection reset by peer); {last}" in said
        assert "Advice" not in said
