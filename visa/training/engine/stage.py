"""One course of training, from its start or last checkpoint to its last step, whatever is trained."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from visa.training.engine.batch import BatchReader
from visa.training.engine.checkpoints import Checkpoints, Progress
from visa.training.engine.driver import Driver, TrainState
from visa.training.engine.faults import TrainingError, is_out_of_memory, told_out_of_memory
from visa.training.engine.flops import measured_peak
from visa.training.engine.loop import Trainer
from visa.training.engine.lost_ranks import is_lost_rank, told_lost_rank
from visa.training.engine.provenance import write_provenance
from visa.training.engine.ranks import Ranks, launched_by_deepspeed
from visa.training.engine.report import Report
from visa.training.engine.settings import RunSettings, identity
from visa.training.engine.task import Assessment, Step


@dataclass(frozen=True)
class Outcome:
    """How a whole run ended.

    finished: False if SIGTERM came.
    folder: what `visa.load` takes; None where this rank exported nothing.
    """

    finished: bool
    folder: Path | None = None


@dataclass(frozen=True)
class StageEnd:
    """How it ended. finished: False if SIGTERM came. progress: where it stands. checkpoints: its own."""

    finished: bool
    progress: Progress
    checkpoints: Checkpoints

    def state(self, which: str = "best") -> TrainState:
        """The numbers of the "best" checkpoint, or of the "last"; the last where none was judged."""
        best = self.progress.best
        return self.checkpoints.load(best[1] if best and which == "best" else None)[0]


def run_stage(
    step: Step,
    reader: BatchReader,
    settings: RunSettings,
    ranks: Ranks,
    *,
    validate: Callable[[Driver, int], Assessment] | None = None,
    computes_in: torch.dtype = torch.float32,
) -> StageEnd:
    """Train, all ranks together; a course that was broken off goes on from its last checkpoint.

    Args:
        step: on the rank's device, what is to be trained marked.
        reader: of this rank, at its first batch.
        validate: judges the weights that a driver holds, after so many steps.
        computes_in: the precision by which the device's peak is measured.

    Raises:
        InputError: the checkpoint is of another run.
        TrainingError: the run cannot go on.
    """
    accumulation = settings.accumulation(ranks.count)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(
        out / "checkpoints", settings.checkpoints.keep, identity(settings), reader.fingerprint
    )
    state, progress = checkpoints.load() or (None, Progress())
    if ranks.is_first:
        write_provenance(out, settings, ranks, reader.fingerprint, progress.step)
        if state is not None:
            print(f"going on from step {progress.step}", flush=True)
    ranks.wait()
    driver = _driver(step, settings, ranks, accumulation, state)
    report = Report(out, settings, ranks, progress.step)
    trainer = Trainer(
        step, driver, reader, settings, ranks, checkpoints, report,
        progress=progress,
        validate=validate and (lambda number: validate(driver, number)),
        peak=settings.report.peak_teraflops * 1e12 or measured_peak(ranks.device, computes_in),
    )  # fmt: skip
    try:
        finished = trainer.run()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise TrainingError(told_out_of_memory(settings, trainer.progress.step + 1)) from error
        if ranks.count > 1 and is_lost_rank(error):
            saved = max(checkpoints.steps(), default=None)
            raise TrainingError(told_lost_rank(error, trainer.progress.step + 1, saved)) from error
        raise
    finally:
        report.close()
    if ranks.is_first and (broken := getattr(reader, "broken", None)):
        print(
            f"visa: {len(broken)} broken samples were left out: {', '.join(list(broken)[:5])}",
            file=sys.stderr,
        )
    return StageEnd(finished, trainer.progress, checkpoints)


def _driver(
    step: Step, settings: RunSettings, ranks: Ranks, accumulation: int, state: TrainState | None
) -> Driver:
    if launched_by_deepspeed():
        from visa.training.engine.deepspeed_driver import DeepSpeedDriver

        return DeepSpeedDriver(step, settings, ranks, accumulation, state)
    from visa.training.engine.plain_driver import PlainDriver

    return PlainDriver(step, settings, ranks, accumulation, state)
