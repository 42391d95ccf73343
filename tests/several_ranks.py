"""Runs of several processes on this machine, with torch alone or by DeepSpeed's launcher."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Processes of one host share their cores, and meet on the CPU where there is a GPU too.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ON_CPU = {"DS_ACCELERATOR": "cpu"}
SHARED_MEMORY = Path("/dev/shm")


def free_port() -> int:
    """One at which the processes can meet."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def run_ranks(
    command: Sequence[str | Path],
    ranks: int,
    more: Mapping[str, str] | None = None,
    seconds: float = 500,
) -> list[str]:
    """Run a Python program in so many processes, which all must end well.

    Args:
        command: the program and its arguments. more: of the environment.

    Returns:
        What each rank said.
    """
    port, running = str(free_port()), []
    for rank in range(ranks):
        environment = {**os.environ, **ENVIRONMENT, **(more or {})}
        if ranks > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        whole = [sys.executable, *map(str, command)]
        running.append(subprocess.Popen(whole, cwd=ROOT, env=environment, **pipes))
    try:
        told = [process.communicate(timeout=seconds)[0] for process in running]
    finally:
        for process in running:
            # Those that wait for one that is gone would do so for long.
            process.kill()
    assert [process.returncode for process in running] == [0] * ranks, "\n".join(told)
    return told


def run_under_deepspeed(command: Sequence[str | Path], ranks: int = 2, seconds: float = 500) -> str:
    """Run what its launcher is given in so many processes, which all must end well and leave no buffers.

    Returns:
        What all of them said.
    """
    port = str(free_port())
    launcher = ["-m", "deepspeed.launcher.runner", "--num_gpus", str(ranks), "--master_port", port]
    done = subprocess.run(
        [sys.executable, *launcher, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **ON_CPU},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    left = [*SHARED_MEMORY.glob(f"deepspeed_*_{port}_*")]
    for path in left:
        path.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left
    return done.stdout + done.stderr
