"""The processes of a run: how many there are, which one this is, and what they tell each other."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed.constants import default_pg_timeout

from visa.errors import InputError

# How many seconds the processes wait for each other at the start.
PATIENCE, DEFAULT_PATIENCE = "VISA_MEETING_SECONDS", "300"


@dataclass(frozen=True)
class Ranks:
    """One process among those of the run.

    rank: its number. count: how many there are. device: what it computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """Sums over all ranks, of a few numbers each."""
        return self._reduced(values, "SUM")

    def largest(self, values: Sequence[float]) -> list[float]:
        """Maxima over all ranks, of a few numbers each."""
        return self._reduced(values, "MAX")

    def gathered(self, value: Any) -> list[Any]:
        """What each rank has, in their order; anything that can be pickled."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def _reduced(self, values: Sequence[float], how: str) -> list[float]:
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor, getattr(distributed.ReduceOp, how))
        return tensor.tolist()

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            distributed.barrier()


def launched_by_deepspeed() -> bool:
    """Whether the ``deepspeed`` launcher started this process: it alone counts nodes in this way."""
    return "CROSS_SIZE" in os.environ and "LOCAL_RANK" in os.environ


def join_ranks(device: str | None = None) -> Ranks:
    """Meet the other processes that deepspeed, torchrun or SLURM's srun started; alone without them.

    Args:
        device: "cpu" or "cuda"; by default the GPU if there is one.

    Raises:
        InputError: the launcher did not say all that is needed, or the others cannot be reached.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    where = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(where)
    if count == 1 and not launched_by_deepspeed():
        return Ranks(0, 1, where)
    if absent := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise InputError(f"WORLD_SIZE={count}, but the launcher did not set {', '.join(absent)}")
    if not distributed.is_initialized():
        try:
            _meet("nccl" if kind == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise InputError(
                f"the {count} processes did not meet at {address}: {str(error).splitlines()[0]}"
            ) from error
    return Ranks(distributed.get_rank(), count, where)


def _meet(backend: str) -> None:
    """Form the group. A host that nobody reaches ends the wait for it long before a slow step would."""
    wait = timedelta(seconds=float(os.environ.get(PATIENCE, DEFAULT_PATIENCE)))
    store, rank, count = next(distributed.rendezvous("env://", timeout=wait))
    # Afterwards a rank may take longer, to read its weights for example.
    store.set_timeout(default_pg_timeout)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count)


def leave_ranks() -> None:
    """The end of `join_ranks`."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
