"""What may go wrong in a run, told in one line: numbers that are not finite, no memory, a signal to stop."""

import signal
import threading
from collections.abc import Sequence
from types import FrameType

from visa.training.engine.settings import RunSettings


class TrainingError(RuntimeError):
    """The run cannot go on; the message is one line that says why and what to do. Exit code 1."""


class BadSteps:
    """Counts steps in a row that were not taken because loss or gradient were not finite.

    Args:
        limit: so many end the run.
    """

    def __init__(self, limit: int):
        self.limit, self.in_a_row, self.total = limit, 0, 0

    def good(self) -> None:
        """A step was taken."""
        self.in_a_row = 0

    def bad(self, step: int, names: Sequence[str], what: str) -> str:
        """A step was not taken.

        Args:
            names: of the samples in it that are to blame, or all. what: "loss" or "gradient".

        Returns:
            The warning about it.

        Raises:
            TrainingError: too many in a row.
        """
        self.in_a_row += 1
        self.total += 1
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        told = f"the {what} of step {step} is not finite (samples: {shown})"
        if self.in_a_row >= self.limit:
            raise TrainingError(
                f"{told}, {self.in_a_row} steps in a row; the last checkpoint is good: start again with a "
                "lower optimiser.learning_rate, model.precision=bf16 or fp32, or without these samples"
            )
        return f"{told}; left out, the weights are as before"


class StopSignal:
    """Notes SIGTERM, by which SLURM and spot instances announce the end, so that the loop can save first.

    A context manager; outside the main thread it notes nothing.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: object = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine, has no more memory."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in told for words in ("out of memory", "can't allocate memory", "cannot allocate memory")
    )


def told_out_of_memory(settings: RunSettings, step: int) -> str:
    """What to change."""
    ways = settings.memory_savers()
    return f"out of memory in step {step}; try {', or '.join(ways) or 'a smaller model'}"
