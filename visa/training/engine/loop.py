"""The training loop: read, forward, backward, update, check, save; alike for one core and many nodes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import distributed

from visa.training.engine.activations import kept_memory
from visa.training.engine.batch import BatchReader, TrainingBatch
from visa.training.engine.checkpoints import Checkpoints, Progress
from visa.training.engine.driver import Driver
from visa.training.engine.faults import BadSteps, StopSignal
from visa.training.engine.flops import counted_flops
from visa.training.engine.ranks import Ranks
from visa.training.engine.report import Clock, Report, peak_memory
from visa.training.engine.schedule import learning_rate_share
from visa.training.engine.settings import TrainSettings
from visa.training.engine.step import BatchCounts, StepResult, TrainingStep, count
from visa.training.engine.validation import Score
from visa.training.published_objective import PublishedLoss

SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class StepFigures:
    """Means over a step's micro-batches on all ranks. names: of samples whose loss is not finite, here."""

    total: float
    text: float
    bce: float
    dice: float
    names: tuple[str, ...]


class Trainer:
    """Runs a loop until its last step, or until it is told to stop.

    Args:
        step: the network with its losses, the one that ``driver`` drives.
        reader: of this rank, at its first batch.
        progress: where the run stands.
        validate: gives a score, or None where there is no validation; all ranks call it.
        peak: FLOPs per second of one device; 0: unknown.
    """

    def __init__(
        self,
        step: TrainingStep,
        driver: Driver,
        reader: BatchReader,
        settings: TrainSettings,
        ranks: Ranks,
        checkpoints: Checkpoints,
        report: Report,
        *,
        progress: Progress,
        validate: Callable[[int], Score] | None = None,
        peak: float = 0.0,
    ):
        self.step, self.driver, self.reader, self.settings, self.ranks = step, driver, reader, settings, ranks
        self.checkpoints, self.report, self.progress = checkpoints, report, progress
        self.validate, self.peak = validate, peak
        self.accumulation = settings.accumulation(ranks.count)
        self.bad_steps = BadSteps(settings.max_bad_steps)
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
        last = settings.schedule.steps
        with StopSignal() as signal:
            while self.progress.step < last:
                self._one_step(batches)
                step = self.progress.step
                stop = bool(self.ranks.largest([signal.came])[0])
                score = self._maybe_validate(step)
                if step % settings.report.every == 0 or step == last or score:
                    self._tell(step, score)
                if step % settings.checkpoints.every == 0 or step == last or stop or self._best_changed:
                    self._save()
                if stop and step < last:
                    self.report.warn(
                        f"stopped by SIGTERM after step {step}, which is saved; the same command goes on"
                    )
                    return False
        return True

    def _one_step(self, batches: Any) -> None:
        """An optimiser step: its micro-batches, and what came of it."""
        number = self.progress.step
        self.clock.start()
        micro = [next(batches) for _ in range(self.accumulation)]
        position = self.reader.state_dict()
        self.clock.lap("reading")
        shares = self._shares([count(batch) for batch in micro])
        sums, bad, positions = torch.zeros(4, dtype=torch.float64), [], 0
        for batch, share in zip(micro, shares, strict=True):
            loss, used = self._micro_batch(batch, share)
            parts = torch.stack([loss.total, loss.text, loss.bce, loss.dice]).detach().double().cpu()
            sums += parts / self.accumulation
            positions += used
            if not math.isfinite(parts[0]):
                bad += batch.names
        rate = self.settings.optimiser.learning_rate * learning_rate_share(self.settings.schedule, number)
        update = self.driver.update(rate)
        self.clock.lap("updating")
        means = [value / self.ranks.count for value in self.ranks.sums(sums.tolist())]
        figures = StepFigures(*means, tuple(bad))
        self.window.read(positions, len(micro) * self.settings.batch.videos)
        if self._taken(number, figures, update.taken, micro):
            self.window.add(figures, update.norm, rate)
        self.progress = replace(self.progress, step=number + 1, position=position)

    def _micro_batch(self, batch: TrainingBatch, share: tuple[float, float]) -> tuple[PublishedLoss, int]:
        """Forward and backward; the losses as they count, and the language model's positions."""
        # What happens by chance follows from the sample, whichever rank and step it falls to.
        torch.manual_seed(self.settings.seed * SEED_STRIDE + batch.index)
        moved = batch.to(self.ranks.device)
        result = (self.driver.forward if self.flops_per_position else self._measured)(moved)
        self._wait()
        self.clock.lap("forward")
        text, masks = share
        loss = PublishedLoss(result.loss.text * text, result.loss.bce * masks, result.loss.dice * masks)
        self.driver.backward(loss.total)
        self._wait()
        self.clock.lap("backward")
        return loss, result.num_positions

    def _measured(self, batch: TrainingBatch) -> StepResult:
        """The first forward pass: what it asks for and what it keeps."""
        model = self.step.model
        with counted_flops(model) as counted, kept_memory(model, self.ranks.device) as kept:
            result = self.driver.forward(batch)
        self.flops_per_position = counted.flops / result.num_positions
        flops = counted.flops / 1e12
        self.report.say(
            f"the first micro-batch ({len(batch.videos)} videos, {result.num_positions} positions) keeps "
            f"{kept.num_bytes / 1e6:,.1f} MB of activations and takes {flops:.3g} TFLOP forward and backward"
        )
        return result

    def _wait(self) -> None:
        """Have the clock tell forward from backward on a GPU, which works ahead of Python."""
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)

    def _shares(self, counts: list[BatchCounts]) -> list[tuple[float, float]]:
        """What each micro-batch's text and mask losses are multiplied with, before they are averaged."""
        if self.settings.loss.average == "micro_batch":
            return [(1.0, 1.0)] * len(counts)
        tokens, masks = self.ranks.sums([sum(one.tokens for one in counts), sum(one.masks for one in counts)])
        parts = len(counts) * self.ranks.count
        return [(one.tokens * parts / max(tokens, 1), one.masks * parts / max(masks, 1)) for one in counts]

    def _taken(self, number: int, figures: StepFigures, taken: bool, micro: list[TrainingBatch]) -> bool:
        """Whether a step changed the weights; those that did not, as a number was not finite, are counted."""
        finite = math.isfinite(figures.total)
        if taken and finite:
            self.bad_steps.good()
            return True
        if finite and self.settings.model.precision == "fp16":
            # float16's scale is found by trying: too large a one is no fault of the samples.
            return False
        own = figures.names if not finite else tuple(name for batch in micro for name in batch.names)
        gathered = [own]
        if self.ranks.count > 1:
            gathered = [()] * self.ranks.count
            distributed.all_gather_object(gathered, own)
        names = [name for rank in gathered for name in rank]
        self.report.warn(self.bad_steps.bad(number + 1, names, "gradient" if finite else "loss"))
        return False

    def _maybe_validate(self, step: int) -> Score | None:
        settings = self.settings
        if self.validate is None or not settings.validation.every:
            return None
        if step % settings.validation.every and step != settings.schedule.steps:
            return None
        self.step.eval()
        score = self.validate(step)
        self.step.train()
        best = self.progress.best
        self._best_changed = best is None or score.jf > best[0]
        if self._best_changed:
            self.progress = replace(self.progress, best=(score.jf, step))
        return score

    def _save(self) -> None:
        state = self.driver.state()
        if state is not None:
            self.checkpoints.save(state, self.progress)
        self._best_changed = False
        self.ranks.wait()

    def _tell(self, step: int, score: Score | None) -> None:
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
            figures |= {"validation/J": score.j, "validation/F": score.f, "validation/J&F": score.jf}
            figures["validation/loss"] = score.loss
        self.report.step_line(step, figures)
        self.clock, self.window = Clock(), _Window()


class _Window:
    """Sums since figures were last told."""

    def __init__(self) -> None:
        self.steps = self.positions = self.samples = 0
        self.sums: dict[str, float] = {}

    def read(self, positions: int, samples: int) -> None:
        """A step's batches, whether or not they changed anything."""
        self.positions += positions
        self.samples += samples

    def add(self, figures: StepFigures, norm: float, rate: float) -> None:
        self.steps += 1
        values = {f"loss/{part}": getattr(figures, part) for part in ("total", "text", "bce", "dice")}
        for name, value in {**values, "gradient": norm, "learning_rate": rate}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Of the steps that were taken; not numbers, where none was."""
        names = [f"loss/{part}" for part in ("total", "text", "bce", "dice")]
        nothing = dict.fromkeys([*names, "gradient", "learning_rate"], math.nan)
        return nothing | {name: value / self.steps for name, value in self.sums.items()}
