"""The reader of a run's micro-batches: where it stands, how long it was waited for, what was broken."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from visa.training.batches.faults import REMEDY, BrokenCount, DataError
from visa.training.batches.workers import MicroBatches, Workers
from visa.training.engine.batch import TrainingBatch


class MixtureReader:
    """See `visa.training.engine.batch.BatchReader`.

    Args:
        batches: makes micro-batches.
        fingerprint: says whether two runs read the same data.
        rank: which process this is. world_size: how many there are.
        workers, prefetch: see `Workers`.
        broken_share: of samples that may be broken. remedy: what to do about more.

    Attributes:
        waited_s: seconds that callers have waited for batches.
    """

    def __init__(
        self,
        batches: MicroBatches,
        *,
        fingerprint: str,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch: int = 2,
        broken_share: float = 0.01,
        remedy: str = REMEDY,
    ):
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to {world_size - 1}, got {rank}")
        self.fingerprint = fingerprint
        self.waited_s = 0.0
        self._batches, self._rank, self._world_size = batches, rank, world_size
        self._processes, self._prefetch = workers, prefetch
        self._count = BrokenCount(broken_share, remedy)
        self._workers: Workers | None = None
        self._position = 0

    @property
    def broken(self) -> Mapping[str, str]:
        """What is broken, a line that names the file -> its sort."""
        return self._count.reasons

    @property
    def num_broken(self) -> int:
        """How many samples were broken and replaced by others."""
        return self._count.broken

    def __iter__(self) -> MixtureReader:
        return self

    def __next__(self) -> TrainingBatch:
        """The next micro-batch of this rank.

        Raises:
            DataError: a worker died, too many samples are broken, or a data set gives nothing else.
        """
        try:
            batch = self._next()
        except BaseException:
            self.close()
            raise
        self._position += self._stride
        return batch

    def _next(self) -> TrainingBatch:
        began = perf_counter()
        if self._workers is None:
            self._workers = self._start()
        delivery = self._workers.next()
        self.waited_s += perf_counter() - began
        self._count.add(self._batches.size, delivery.faults)
        if delivery.batch is None:
            raise DataError(delivery.stopped)
        return delivery.batch

    @property
    def _stride(self) -> int:
        """Samples that all ranks take at a time."""
        return self._world_size * self._batches.size

    def _start(self) -> Workers:
        return Workers(
            self._batches,
            start=self._position + self._rank * self._batches.size,
            step=self._stride,
            processes=self._processes,
            prefetch=self._prefetch,
        )

    def state_dict(self) -> dict[str, Any]:
        """See `BatchReader`."""
        return {"samples": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BatchReader`.

        Raises:
            RuntimeError: a batch was taken already.
            ValueError: not a state of such a reader.
        """
        if self._workers is not None:
            raise RuntimeError("the position must be restored before the first batch is taken")
        samples = state.get("samples")
        if not isinstance(samples, int) or samples < 0:
            raise ValueError(f"expected a state such as {{'samples': 0}}, got {state!r}")
        self._position = samples

    def close(self) -> None:
        """Ends the workers. The next batch starts new ones, where these stood."""
        if self._workers is not None:
            self._workers.close()
        self._workers = None
