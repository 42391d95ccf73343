"""Worker processes that die at the worst moment."""

from __future__ import annotations

import os
import signal

import pytest

from visa.training.batches.faults import DataError
from visa.training.batches.workers import Delivery, Workers


class Nothing:
    def __getitem__(self, start: int) -> Delivery:
        return Delivery(None)


@pytest.mark.parametrize("error", [ConnectionResetError, EOFError, FileNotFoundError])
def test_who_dies_while_its_delivery_is_fetched_is_told_as_any_other(error: type[Exception]) -> None:
    """The batch's memory is handed over by the worker itself: without it the connection breaks."""
    workers = Workers(Nothing(), start=0, step=1, processes=1, prefetch=1)
    workers.next()
    (victim,) = workers.processes

    def broken():
        os.kill(victim.pid, signal.SIGKILL)
        raise error("broken")
        yield

    kept, workers._deliveries = workers._deliveries, broken()  # torch ends the workers of whom it forgets
    with pytest.raises(DataError, match=rf"process {victim.pid} \(SIGKILL"):
        workers.next()
    workers.close()
    del kept


def test_a_fault_of_another_kind_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visa.training.batches.workers.DYING", 0.0)
    workers = Workers(Nothing(), start=0, step=1, processes=1, prefetch=1)

    def broken():
        raise OSError("disk")
        yield

    kept, workers._deliveries = workers._deliveries, broken()  # torch ends the workers of whom it forgets
    with pytest.raises(OSError, match="disk"):
        workers.next()
    workers.close()
    del kept
