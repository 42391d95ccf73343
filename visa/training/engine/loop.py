"""The training loop: read, forward, backward, update, check, save; alike for one core and many nodes."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dataset.counting import count_of
from visa.training.engine.activations import kept_memory
from visa.training.engine.batch import BatchReader
from visa.training.engine.checkpoints import Checkpoints, Progress
from visa.training.engine.driver import Driver
from visa.training.engine.faults import BadSteps, StopSignal
from visa.training.engine.flops import counted_flops
from visa.training.engine.ranks import Ranks
from visa.training.engine.report import Clock, Report, peak_memory
from visa.training.engine.schedule import learning_rate_share
from visa.training.engine.settings import RunSettings
from visa.training.engine.task import Assessment, MicroBatch, StepResult

SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class StepFigures:
    """Means over a step's micro-batches on all ranks: the loss and its parts by name.

    names: of samples whose loss is not finite, here.
    """

    total: float
    parts: dict[str, float]
    names: tuple[str, ...]


class Trainer:
    """Runs a loop until its last step, or until it is told to stop.

    Args:
        step: the network with its losses, a `visa.training.engine.task.Step`; the one that ``driver`` drives.
        reader: of this rank, at its first batch.
        progress: where the run stands.
        validate: judges the weights, or None where there is no validation; all ranks call it.
        peak: FLOPs per second of one device; 0: unknown.
    """

    def __init__(
        self,
        step: nn.Module,
        driver: Driver,
        reader: BatchReader,
        settings: RunSettings,
        ranks: Ranks,
        checkpoints: Checkpoints,
        report: Report,
        *,
        progress: Progress,
        validate: Callable[[int], Assessment] | None = None,
        peak: float = 0.0,
    ):
        self.step, self.driver, self.reader, self.settings, self.ranks = step, driver, reader, settings, ranks
        self.checkpoints, self.report, self.progress = checkpoints, report, progress
        self.validate, self.peak = validate, peak
        self.accumulation = settings.accumulation(ranks.count)
        self.bad_steps = BadSteps(settings.max_bad_steps)
        self.groups = step.parameter_groups()
        self.flops_per_position = 0.0
        self._best_changed = False

    def run(self) -> bool:
        """Train.

        Returns:
            Whether the last step was done; False if SIGTERM came, after saving.

        Raises:
            TrainingError: too many steps whose numbers are not finite, or a checkpoint cannot be written.
        """
        settings = self.settings
        if self.progress.position:
            self.reader.load_state_dict(dict(self.progress.position))
        batches = iter(self.reader)
        self.step.train()
        self.clock, self.window = Clock(), _Window()
        begun = time.monotonic() - 60 * self.progress.minutes
        with StopSignal() as signal:
            while not self.is_over:
                self._one_step(batches)
                stop, minutes = self.ranks.largest([signal.came, (time.monotonic() - begun) / 60])
                self.progress = replace(self.progress, minutes=minutes)
                step, over = self.progress.step, self.is_over
                score = self._maybe_validate(step, over)
                if step % settings.report.every == 0 or over or score:
                    self._tell(step, score)
                if step % settings.checkpoints.every == 0 or over or stop or self._best_changed:
                    self._save()
                if stop and not over:
                    self.report.warn(
                        f"stopped by SIGTERM after step {step}, which is saved; the same command goes on"
                    )
                    return False
        return True

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or the time is up."""
        return self._share >= 1

    @property
    def _share(self) -> float:
        """How much of the run is over, [0, 1]; the same on all ranks."""
        return self.settings.schedule.share(self.progress.step, self.progress.minutes)

    def _one_step(self, batches: Any) -> None:
        """An optimiser step: its micro-batches, and what came of it."""
        number, over = self.progress.step, self._share
        self.step.begin(over)
        self.clock.start()
        micro = [next(batches) for _ in range(self.accumulation)]
        position = self.reader.state_dict()
        self.clock.lap("reading")
        shares = self._shares(micro)
        sums, bad, positions = {}, [], 0
        for batch, share in zip(micro, shares, strict=True):
            parts, used = self._micro_batch(batch, share)
            sums = _added(sums, parts)
            positions += used
            if not math.isfinite(sum(parts.values())):
                bad += batch.names
        settings = self.settings
        rate = settings.optimiser.learning_rate * learning_rate_share(settings.schedule, number, over)
        update = self.driver.update([rate * group.rate_at(over) for group in self.groups])
        self.clock.lap("updating")
        figures = self._figures(sums, tuple(bad))
        self.window.read(positions, len(micro) * self.settings.batch.videos)
        if self._taken(number, figures, update.taken, micro):
            self.window.add(figures, update.norm, rate)
        self.progress = replace(self.progress, step=number + 1, position=position)

    def _figures(self, sums: dict[str, float], bad: tuple[str, ...]) -> StepFigures:
        """From this rank's sums; a part that a micro-batch lacks counts nothing there."""
        together: dict[str, float] = {}
        for rank in self.ranks.gathered(sums):
            together = _added(together, rank)
        parts = {name: value / (self.accumulation * self.ranks.count) for name, value in together.items()}
        return StepFigures(sum(parts.values()), parts, bad)

    def _micro_batch(self, batch: MicroBatch, shares: Mapping[str, float]) -> tuple[dict[str, float], int]:
        """Forward and backward; the parts of the loss as they count, and the language model's positions."""
        # What happens by chance follows from the sample, whichever rank and step it falls to.
        torch.manual_seed(self.settings.seed * SEED_STRIDE + batch.index)
        moved = batch.to(self.ranks.device)
        result = (self.driver.forward if self.flops_per_position else self._measured)(moved)
        self._wait()
        self.clock.lap("forward")
        parts = {name: part * shares.get(name, 1.0) for name, part in result.parts.items()}
        self.driver.backward(sum(parts.values()))
        self._wait()
        self.clock.lap("backward")
        told = torch.stack(list(parts.values())).detach().double().tolist()
        return dict(zip(parts, told, strict=True)), result.num_positions

    def _measured(self, batch: MicroBatch) -> StepResult:
        """The first forward pass: what it asks for and what it keeps."""
        model = self.step.model
        with counted_flops(model) as counted, kept_memory(model, self.ranks.device) as kept:
            result = self.driver.forward(batch)
        self.flops_per_position = counted.flops / result.num_positions
        flops = counted.flops / 1e12
        samples = count_of(len(batch.names), "sample")
        self.report.say(
            f"the first micro-batch ({samples}, {result.num_positions} positions) keeps "
            f"{kept.num_bytes / 1e6:,.1f} MB of activations and takes {flops:.3g} TFLOP forward and backward"
        )
        return result

    def _wait(self) -> None:
        """Have the clock tell forward from backward on a GPU, which works ahead of Python."""
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)

    def _shares(self, micro: list[MicroBatch]) -> list[dict[str, float]]:
        """What each micro-batch's parts of the loss are multiplied with, before they are averaged."""
        if self.settings.average == "micro_batch":
            return [{}] * len(micro)
        counts = [self.step.counts(batch) for batch in micro]
        names, parts = list(counts[0]), len(micro) * self.ranks.count
        totals = self.ranks.sums([sum(one[name] for one in counts) for name in names])
        whole = dict(zip(names, totals, strict=True))
        return [{name: one[name] * parts / max(whole[name], 1) for name in names} for one in counts]

    def _taken(self, number: int, figures: StepFigures, taken: bool, micro: list[MicroBatch]) -> bool:
        """Whether a step changed the weights; those that did not, as a number was not finite, are counted."""
        finite = math.isfinite(figures.total)
        if taken and finite:
            self.bad_steps.good()
            return True
        if finite and self.settings.weights_precision == "fp16":
            # float16's scale is found by trying: too large a one is no fault of the samples.
            return False
        own = figures.names if not finite else tuple(name for batch in micro for name in batch.names)
        names = [name for rank in self.ranks.gathered(own) for name in rank]
        self.report.warn(self.bad_steps.bad(number + 1, names, "gradient" if finite else "loss"))
        return False

    def _maybe_validate(self, step: int, over: bool) -> Assessment | None:
        every = self.settings.validate_every
        if self.validate is None or not every or (step % every and not over):
            return None
        self.step.eval()
        found = self.validate(step)
        self.step.train()
        best = self.progress.best
        self._best_changed = best is None or found.merit > best[0]
        if self._best_changed:
            self.progress = replace(self.progress, best=(found.merit, step))
        return found

    def _save(self) -> None:
        state = self.driver.state()
        if state is not None:
            self.checkpoints.save(state, self.progress)
        self._best_changed = False
        self.ranks.wait()

    def _tell(self, step: int, score: Assessment | None) -> None:
        """Figures since they were last told."""
        figures = self.window.means()
        spent = self.clock.seconds
        passed = sum(spent.values())
        figures["samples/s"] = self.window.samples * self.ranks.count / passed
        figures["tokens/s"] = self.window.positions * self.ranks.count / passed
        for name, seconds in spent.items():
            figures[f"share/{name}"] = seconds / passed
        if self.peak:
            figures["MFU"] = self.flops_per_position * self.window.positions / passed / self.peak
        if (memory := peak_memory(self.ranks.device)) is not None:
            figures["memory/GB"] = memory / 1e9
        if score is not None:
            figures |= {f"validation/{name}": value for name, value in score.figures.items()}
            self.report.pictures(step)
        figures["minutes"] = self.progress.minutes
        self.report.step_line(step, figures)
        self.clock, self.window = Clock(), _Window()


def _added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Sums by name."""
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}


class _Window:
    """Sums since figures were last told."""

    def __init__(self) -> None:
        self.positions = self.samples = 0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def read(self, positions: int, samples: int) -> None:
        """A step's batches, whether or not they changed anything."""
        self.positions += positions
        self.samples += samples

    def add(self, figures: StepFigures, norm: float, rate: float) -> None:
        parts = {f"loss/{name}": value for name, value in figures.parts.items()}
        values = {"loss/total": figures.total, **parts, "gradient": norm, "learning_rate": rate}
        self.sums = _added(self.sums, values)
        self.counts = _added(self.counts, dict.fromkeys(values, 1))

    def means(self) -> dict[str, float]:
        """Of the steps that were taken, each part over those that had it; not numbers, where none was."""
        nothing = dict.fromkeys(["loss/total", "gradient", "learning_rate"], math.nan)
        means = {name: value / self.counts[name] for name, value in self.sums.items()}
        return nothing | means
