"""This process among those of one run, and which videos are its own.

The launchers tell a process its place through the environment: torchrun, deepspeed and accelerate by RANK and
WORLD_SIZE, SLURM's srun by SLURM_PROCID and SLURM_NTASKS. Nothing is sent between the processes: they meet in
the output folder alone, so the loss of one is nothing to the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visa.batch_run.task import VideoTask
from visa.errors import InputError

# (rank, count, rank on this host), the first pair that is set counts.
LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)


@dataclass(frozen=True)
class Rank:
    """A process of the run.

    Attributes:
        index: its number, in [0, count).
        count: how many there are.
        local_index: its number on its host, which is that of its GPU.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Rank:
        """As the launcher says; alone where there was none.

        Raises:
            InputError: what it says are no such numbers.
        """
        environment = os.environ if environment is None else environment
        told = [names for names in LAUNCHERS if names[0] in environment and names[1] in environment]
        if not told:
            return cls()
        rank_name, count_name, local_name = told[0]
        try:
            index, count = int(environment[rank_name]), int(environment[count_name])
            local_index = int(environment.get(local_name, index))
        except ValueError as error:
            raise InputError(f"{rank_name} and {count_name} must be whole numbers: {error}") from error
        if not 0 <= index < count or local_index < 0:
            raise InputError(
                f"expected {rank_name} from 0 to {count_name} - 1, got {index} and {count_name}={count}"
            )
        return cls(index, count, local_index)

    def take_gpu(self) -> None:
        """Let this process compute on a GPU of its own, as far as there are enough."""
        if self.count == 1:
            return
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(self.local_index % torch.cuda.device_count())


def share_out(tasks: Sequence[VideoTask], count: int) -> list[list[VideoTask]]:
    """Every rank's own videos, in the order given: the longest go first, each to whom has least so far.

    All ranks come to the same shares, whatever is finished already.

    Args:
        tasks: all videos of the run.
        count: how many ranks there are.
    """
    loads = [0] * count
    owners: dict[str, int] = {}
    for task in sorted(tasks, key=lambda task: (-task.work, task.name)):
        owner = loads.index(min(loads))
        owners[task.name] = owner
        loads[owner] += task.work
    return [[task for task in tasks if owners[task.name] == rank] for rank in range(count)]
