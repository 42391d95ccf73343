"""A whole run of a published system: start, or go on, until the last step; then export."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from visa.checkpoints.options import DTYPES
from visa.training.engine.batch import BatchReader
from visa.training.engine.benchmark import check_benchmark, validate_on_benchmark
from visa.training.engine.driver import Driver, TrainState, put_weights
from visa.training.engine.export import export
from visa.training.engine.ranks import Ranks, join_ranks, leave_ranks
from visa.training.engine.readers import check_folders, open_data
from visa.training.engine.settings import TrainSettings
from visa.training.engine.stage import Outcome, run_stage
from visa.training.engine.start import Start, build_start, find_start
from visa.training.engine.step import TrainingStep
from visa.training.engine.task import Assessment
from visa.training.engine.trainables import checkpoint_activations, choose_trained, parameter_table
from visa.training.engine.validation import validate_held_out
from visa.training.grounded.start import backbone_preset
from visa.training.published_objective import LossWeights

EXPORT = "export"


def train(settings: TrainSettings, device: str | None = None) -> Outcome:
    """Train as the settings say; a run that was broken off goes on from its last checkpoint.

    Args:
        device: "cpu" or "cuda"; by default the GPU if there is one.

    Raises:
        InputError: settings, checkpoint or data are not as they should be.
        TrainingError: the run cannot go on.
    """
    check_folders(settings.data)
    if backbone_preset(settings.model.start) is not None:
        from visa.training.grounded.run import train_grounded

        return train_grounded(settings, device)
    ranks = join_ranks(device)
    try:
        return _train(settings, ranks)
    finally:
        leave_ranks()


def _train(settings: TrainSettings, ranks: Ranks) -> Outcome:
    settings.accumulation(ranks.count)  # refused before anything is loaded
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
    weights = LossWeights(settings.loss.text, settings.loss.bce, settings.loss.dice)
    end = run_stage(
        TrainingStep(start.model.to(ranks.device), weights),
        reader,
        settings,
        ranks,
        validate=lambda driver, number: _validate(settings, start, where, driver, ranks, number),
        computes_in=DTYPES[settings.model.precision],
    )
    folder = None
    if end.finished and settings.export and ranks.is_first:
        folder = export(settings, where, end.state(), out / EXPORT)
    return Outcome(end.finished, folder)


def _reader(
    settings: TrainSettings, start: Start, ranks: Ranks, data: Mapping[str, Any], seed: int
) -> BatchReader:
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
    settings: TrainSettings,
    start: Start,
    where: Path,
    driver: Driver,
    ranks: Ranks,
    number: int,
) -> Assessment:
    score = validate_held_out(driver, settings, partial(_reader, settings, start, ranks), ranks, number)
    benchmark = settings.validation.benchmark
    if not benchmark.root:
        return score
    whole = gathered(settings, where, driver, ranks) if driver.in_pieces else start
    found = validate_on_benchmark(whole, benchmark, ranks)
    return replace(found, figures={**found.figures, "loss": score.loss})


def gathered(settings: TrainSettings, where: Path, driver: Driver, ranks: Ranks) -> Start:
    """The system in training once more, whole on every rank: each then answers questions of its own.

    Args:
        where: what was trained from.
    """
    state = TrainState(driver.weights(), {}, 0)
    start = build_start(settings.model, where, str(ranks.device))
    choose_trained(start.model, settings.trained)
    put_weights({name: one for name, one in start.model.named_parameters() if one.requires_grad}, state)
    start.model.eval()
    return start
