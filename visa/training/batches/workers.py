"""Micro-batches made in worker processes, ahead of the step that needs them.

Which process makes a batch does not matter: it follows from its number.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Dataset

from dataset.errors import DatasetError
from visa.training.batches.faults import DataError
from visa.training.engine.batch import TrainingBatch

if TYPE_CHECKING:
    from dataset.mixture import Mixture
    from visa.training.batches.examples import ExampleMaker


DYING = 5.0  # seconds that the end of a process may take to be known


@dataclass(frozen=True)
class Delivery:
    """What a worker hands over.

    batch: None if none could be made. faults: broken clips met on the way. stopped: why there is no batch.
    """

    batch: TrainingBatch | None
    faults: tuple[DatasetError, ...] = ()
    stopped: str = ""

    def pin_memory(self) -> Delivery:
        """See `TrainingBatch.pin_memory`; torch's DataLoader calls it."""
        return self if self.batch is None else replace(self, batch=self.batch.pin_memory())


class MicroBatches(Dataset):
    """The micro-batches of a run, by the global number of their first sample.

    Args:
        mixture: draws the samples.
        maker: makes examples of them.
        size: videos of a micro-batch.
    """

    def __init__(self, mixture: Mixture, maker: ExampleMaker, size: int):
        self.mixture, self.maker, self.size = mixture, maker, size

    def __getitem__(self, start: int) -> Delivery:
        faults = self.mixture.faults
        faults.clear()
        try:
            videos = tuple(
                self.mixture.made(index, self.maker.make) for index in range(start, start + self.size)
            )
        except DatasetError as error:
            return Delivery(None, tuple(faults), str(error))
        return Delivery(TrainingBatch(start, videos), tuple(faults))


class Workers:
    """Makes micro-batches in order, ``start``, ``start + step``, and so on without end.

    Args:
        batches: makes one of them.
        start: number of the first sample of the first one.
        step: from a micro-batch to the next.
        processes: how many work; 0: the caller's own, when it asks.
        prefetch: micro-batches that each makes ahead.

    Attributes:
        processes: the workers.
    """

    def __init__(self, batches: MicroBatches, *, start: int, step: int, processes: int, prefetch: int):
        ahead = {"prefetch_factor": prefetch, "worker_init_fn": _begin} if processes else {}
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=_Counting(start, step),
            num_workers=processes,
            pin_memory=torch.cuda.is_available(),
            # Of its own, so that reading takes nothing from the run's random numbers.
            generator=torch.Generator(),
            **ahead,
        )
        before = set(multiprocessing.active_children())
        with _KeptChildSignal():
            self._deliveries: Iterator[Delivery] | None = iter(loader)
        self.processes = set(multiprocessing.active_children()) - before
        _end_with_us(self.processes)

    def next(self) -> Delivery:
        """The next one; waits until it is there.

        Raises:
            DataError: a worker died.
            RuntimeError: they were ended.
        """
        if self._deliveries is None:
            raise RuntimeError("these workers were ended; start others")
        try:
            return next(self._deliveries)
        # Who dies while its delivery is fetched breaks the connection, before anybody knows that it died.
        except (RuntimeError, OSError, EOFError) as error:
            if not isinstance(error, RuntimeError):
                self._await_a_death()
            if dead := self._dead():
                raise DataError(dead) from error
            raise

    def close(self) -> None:
        """Ends the processes. After a failure they would otherwise live as long as its traceback does."""
        self._deliveries = None
        _kill(self.processes)

    def _await_a_death(self) -> None:
        """Waits a little for the end of one to be known."""
        sentinels = {process.sentinel: process for process in self.processes}
        for ended in multiprocessing.connection.wait(list(sentinels), DYING):
            sentinels[ended].join(DYING)  # its files close before it can be asked how it ended

    def _dead(self) -> str:
        """In a line, who died and why; "" if all live."""
        codes = {process.pid: process.exitcode for process in self.processes}
        told = [f"{pid} ({_why(code)})" for pid, code in sorted(codes.items()) if code]
        if not told:
            return ""
        return (
            f"a data worker died: process {', '.join(told)}; if memory is short, lower data.workers or "
            "data.prefetch, then start the run again: it goes on from its last checkpoint"
        )


class _Counting:
    """Sample numbers at equal distances, without end."""

    def __init__(self, start: int, step: int):
        self.start, self.step = start, step

    def __iter__(self) -> Iterator[int]:
        return count(self.start, self.step)


class _KeptChildSignal:
    """Keeps what the process does when a child ends.

    torch would raise an error from the signal's handler, wherever the run stands, even while it saves.
    Without it, a dead worker is noticed within seconds by whoever waits for a batch.
    """

    def __enter__(self) -> None:
        self._is_main = threading.current_thread() is threading.main_thread()
        self._handler = signal.getsignal(signal.SIGCHLD) if self._is_main else None

    def __exit__(self, *_: object) -> None:
        if self._is_main:
            signal.signal(signal.SIGCHLD, self._handler or signal.SIG_DFL)


def _kill(processes: Iterable[BaseProcess]) -> None:
    """They hold nothing that matters."""
    for process in processes:
        process.kill()


# All that this process ever started.
_started: set[BaseProcess] = set()


def _kill_started() -> None:
    _kill(_started)


def _end_with_us(processes: set[BaseProcess]) -> None:
    """At its end, Python sends SIGTERM to such processes and waits for them, who do not heed it."""
    _started.update(processes)
    # What is registered last comes first, before that.
    atexit.unregister(_kill_started)
    atexit.register(_kill_started)


def _begin(_: int) -> None:
    """How a worker starts: signals are the run's business, and threads are not worth having."""
    import cv2

    cv2.setNumThreads(0)
    # What the run has read stays shared as long as no garbage collection writes to it.
    gc.freeze()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # A run that is asked to stop still needs batches until it has saved; it ends its workers itself.
    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, signal.SIG_IGN)


def _why(code: int) -> str:
    if code > 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name
    causes = {
        signal.SIGKILL: "the system does so when memory runs out",
        signal.SIGBUS: "shared memory, /dev/shm, is full",
    }
    return f"{name}: {causes[-code]}" if -code in causes else name
