"""A whole run of a published system: start, or go on, until the last step; then export."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from visa.checkpoints.options import DTYPES
from visa.training.engine.batch import BatchReader
from visa.training.engine.benchmark import check_benchmark, validate_on_benchmark
from visa.training.engine.checkpoints import Checkpoints, Progress
from visa.training.engine.driver import Driver, TrainState
from visa.training.engine.export import export
from visa.training.engine.faults import TrainingError, is_out_of_memory, told_out_of_memory
from visa.training.engine.flops import measured_peak
from visa.training.engine.loop import Trainer
from visa.training.engine.lost_ranks import is_lost_rank, told_lost_rank
from visa.training.engine.provenance import write_provenance
from visa.training.engine.ranks import Ranks, join_ranks, launched_by_deepspeed, leave_ranks
from visa.training.engine.readers import data_settings, open_data
from visa.training.engine.report import Report
from visa.training.engine.settings import TrainSettings, identity
from visa.training.engine.start import Start, build_start, find_start
from visa.training.engine.step import TrainingStep
from visa.training.engine.trainables import checkpoint_activations, choose_trained, parameter_table
from visa.training.engine.validation import Score, validate
from visa.training.published_objective import LossWeights

EXPORT = "export"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    finished: False if SIGTERM came.
    folder: what `visa.load` takes; the run's own where this rank exported nothing.
    """

    finished: bool
    folder: Path


def train(settings: TrainSettings, device: str | None = None) -> Outcome:
    """Train as the settings say; a run that was broken off goes on from its last checkpoint.

    Args:
        device: "cpu" or "cuda"; by default the GPU if there is one.

    Raises:
        InputError: settings, checkpoint or data are not as they should be.
        TrainingError: the run cannot go on.
    """
    data_settings(settings.data)
    ranks = join_ranks(device)
    try:
        return _train(settings, ranks)
    finally:
        leave_ranks()


def _train(settings: TrainSettings, ranks: Ranks) -> Outcome:
    accumulation = settings.accumulation(ranks.count)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    where = find_start(settings.model, out, ranks)
    # New weights (LoRA's, a base model's [SEG] head) are to be the same on all ranks and in every start.
    torch.manual_seed(settings.seed)
    start = build_start(settings.model, where, str(ranks.device))
    check_benchmark(settings, start)
    choose_trained(start.model, settings.trained)
    if settings.model.gradient_checkpointing:
        checkpoint_activations(start.model.language)
    if ranks.is_first:
        print(parameter_table(start.model), flush=True)
    reader = _reader(settings, start, ranks, settings.data, settings.seed)
    checkpoints = Checkpoints(
        out / "checkpoints", settings.checkpoints.keep, identity(settings), reader.fingerprint
    )
    state, progress = checkpoints.load() or (None, Progress())
    if ranks.is_first:
        write_provenance(out, settings, ranks, reader.fingerprint, progress.step)
        if state is not None:
            print(f"going on from step {progress.step}", flush=True)
    ranks.wait()
    weights = LossWeights(settings.loss.text, settings.loss.bce, settings.loss.dice)
    step = TrainingStep(start.model.to(ranks.device), weights)
    driver = _driver(step, settings, ranks, accumulation, state)
    report = Report(out, settings, ranks, progress.step)
    trainer = Trainer(
        step, driver, reader, settings, ranks, checkpoints, report,
        progress=progress,
        validate=lambda number: _validate(settings, start, driver, ranks, out, number),
        peak=_peak(settings, ranks),
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
    folder = out
    if finished and settings.export and ranks.is_first:
        best = trainer.progress.best
        folder = export(settings, where, checkpoints.load(best[1] if best else None)[0], out / EXPORT)
    if ranks.is_first and (broken := getattr(reader, "broken", None)):
        print(
            f"visa: {len(broken)} broken samples were left out: {', '.join(list(broken)[:5])}",
            file=sys.stderr,
        )
    return Outcome(finished, folder)


def _driver(
    step: TrainingStep, settings: TrainSettings, ranks: Ranks, accumulation: int, state: TrainState | None
) -> Driver:
    if launched_by_deepspeed():
        from visa.training.engine.deepspeed_driver import DeepSpeedDriver

        return DeepSpeedDriver(step, settings, ranks, accumulation, state)
    from visa.training.engine.plain_driver import PlainDriver

    return PlainDriver(step, settings, ranks, accumulation, state)


def _reader(settings: TrainSettings, start: Start, ranks: Ranks, data: dict, seed: int) -> BatchReader:
    return open_data(
        data,
        system=start.system,
        tokenizer=start.tokenizer,
        clip_size=start.model.tower.image_size,
        sam_size=start.model.visual_model.image_size,
        rank=ranks.rank,
        world_size=ranks.count,
        batch_size=settings.batch.videos,
        seed=seed,
    )


def _validate(
    settings: TrainSettings, start: Start, driver: Driver, ranks: Ranks, out: Path, number: int
) -> Score:
    """The first batches of the validation's own reader, opened anew so that they are the same each time."""
    wanted = settings.validation
    # Other samples than are trained on, though from the same source where it has no other.
    reader = iter(_reader(settings, start, ranks, wanted.data or settings.data, settings.seed + 1))
    batches = (next(reader) for _ in range(wanted.batches))
    score = validate(driver, batches, ranks, wanted.pictures, out / "pictures" / f"step-{number:06d}")
    if not wanted.benchmark.root:
        return score
    return replace(validate_on_benchmark(start, wanted.benchmark, ranks), loss=score.loss)


def _peak(settings: TrainSettings, ranks: Ranks) -> float:
    if settings.report.peak_teraflops:
        return settings.report.peak_teraflops * 1e12
    return measured_peak(ranks.device, DTYPES[settings.model.precision])
