"""A whole run of a [SEG] system on a backbone: start, or go on, until the last step; then export."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from visa.checkpoints.options import DTYPES
from visa.errors import InputError
from visa.grounded.loading import find_sam
from visa.grounded.weights import Adapter, part_state, write_weights
from visa.training.engine.batch import BatchReader
from visa.training.engine.driver import TrainState
from visa.training.engine.ranks import Ranks, join_ranks, leave_ranks
from visa.training.engine.settings import TrainSettings
from visa.training.engine.stage import Outcome, run_stage
from visa.training.engine.trainables import LORA, checkpoint_activations, parameter_table
from visa.training.engine.validation import validate_held_out
from visa.training.grounded.reading import open_data
from visa.training.grounded.start import PARTS, GroundedStart, build_start, choose_trained
from visa.training.grounded.step import GroundedStep
from visa.training.published_objective import LossWeights

EXPORT = "export"
IN_MODEL = "backbone.model."  # before the names that transformers has for its own layers
ADAPTER_NAME = ".default."  # in peft's names of the factors


def train_grounded(settings: TrainSettings, device: str | None = None) -> Outcome:
    """Train as the settings say; a run that was broken off goes on from its last checkpoint.

    Args:
        device: "cpu" or "cuda"; by default the GPU if there is one.

    Raises:
        InputError: settings, backbone or data are not as they should be.
        TrainingError: the run cannot go on.
    """
    if settings.validation.benchmark.root:
        raise InputError(
            "validation.benchmark runs with the published systems; judge an export of this one with "
            "python -m visa.evaluation"
        )
    ranks = join_ranks(device)
    try:
        return _train(settings, ranks)
    finally:
        leave_ranks()


def _train(settings: TrainSettings, ranks: Ranks) -> Outcome:
    settings.accumulation(ranks.count)  # refused before anything is loaded
    out = Path(settings.out)
    # New weights are to be the same on all ranks and in every start.
    torch.manual_seed(settings.seed)
    start = build_start(settings.model, str(ranks.device))
    adapter = choose_trained(start.model, settings.trained)
    if settings.model.gradient_checkpointing:
        checkpoint_activations(start.model.backbone.model)
    if ranks.is_first:
        print(parameter_table(start.model, PARTS), flush=True)
    weights = LossWeights(settings.loss.text, settings.loss.bce, settings.loss.dice)
    end = run_stage(
        GroundedStep(start.model.to(ranks.device), weights, start.showing),
        _reader(settings, start, ranks, settings.data, settings.seed),
        settings,
        ranks,
        validate=lambda driver, number: validate_held_out(
            driver, settings, partial(_reader, settings, start, ranks), ranks, number
        ),
        computes_in=DTYPES[settings.model.precision],
    )
    folder = None
    if end.finished and settings.export and ranks.is_first:
        folder = export(settings, start, adapter, end.state(), out / EXPORT)
    return Outcome(end.finished, folder)


def _reader(
    settings: TrainSettings, start: GroundedStart, ranks: Ranks, data: Mapping[str, Any], seed: int
) -> BatchReader:
    return open_data(
        data,
        tokenizer=start.model.backbone.tokenizer,
        sam_size=start.model.visual_model.image_size,
        rank=ranks.rank,
        world_size=ranks.count,
        batch_size=settings.batch.videos,
        seed=seed,
    )


def export(
    settings: TrainSettings, start: GroundedStart, adapter: Adapter | None, state: TrainState, folder: Path
) -> Path:
    """Write what was trained as a folder that `visa.load` takes; one that is there already is replaced.

    The backbone and SAM are named in its preset, not copied.

    Returns:
        ``folder``.
    """
    lora = {
        name.removeprefix(IN_MODEL).replace(ADAPTER_NAME, "."): value
        for name, value in state.weights.items()
        if LORA in name
    }
    whole = {name: value for name, value in state.weights.items() if LORA not in name}
    kept = {name: value.detach().cpu() for name, value in part_state(start.model).items()}
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_weights(partial, start.model, {**kept, **whole}, lora, adapter)
    own = start.folder / start.preset["backbone"]
    load = {**(start.preset.get("load") or {}), "dtype": settings.model.precision}
    load["sam"] = str(find_sam(settings.model.sam or load.get("sam"), start.folder).resolve())
    preset = {
        **start.preset,
        "backbone": str(own.resolve()) if own.is_dir() else start.preset["backbone"],
        "weights": ".",
        "load": load,
    }
    text = yaml.safe_dump(preset, sort_keys=False)
    (partial / "preset.yaml").write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder
