"""A training run in miniature for tests of the engine: a tiny system, moving shapes, a few steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from visa.training.engine.batch import BatchReader
from visa.training.engine.checkpoints import Checkpoints, Progress
from visa.training.engine.driver import TrainState
from visa.training.engine.loop import Trainer
from visa.training.engine.plain_driver import PlainDriver
from visa.training.engine.ranks import Ranks
from visa.training.engine.readers import open_data
from visa.training.engine.report import Report
from visa.training.engine.settings import (
    BatchSettings,
    CheckpointSettings,
    ModelSettings,
    OptimiserSettings,
    ReportSettings,
    ScheduleSettings,
    TrainedSettings,
    TrainSettings,
    identity,
)
from visa.training.engine.start import Start, build_start
from visa.training.engine.step import TrainingStep
from visa.training.engine.tiny_system import write_tiny
from visa.training.engine.trainables import checkpoint_activations, choose_trained
from visa.training.engine.validation import Score
from visa.training.published_objective import LossWeights

ALONE = Ranks(0, 1, torch.device("cpu"))
SETTINGS = TrainSettings(
    out="",
    model=ModelSettings(start="tiny-visa", precision="fp32", gradient_checkpointing=False),
    data={"source": "moving_shapes"},
    trained=TrainedSettings(lora_match="substring"),
    optimiser=OptimiserSettings(learning_rate=1e-3),
    schedule=ScheduleSettings(name="constant", warmup=0, steps=4),
    batch=BatchSettings(total=2, videos=1),
    checkpoints=CheckpointSettings(every=100, keep=3),
    report=ReportSettings(tensorboard=False),
)


def tiny_folder(folder: Path, system: str) -> Path:
    """A tiny base system's folder."""
    return write_tiny(folder / system, system)


class Run:
    """A trainer and all that it is made of; ``losses`` are those of its steps."""

    def __init__(
        self,
        settings: TrainSettings,
        where: Path,
        out: Path,
        *,
        state: TrainState | None = None,
        progress: Progress | None = None,
        validate: Callable[[int], Score] | None = None,
        wrap: Callable[[BatchReader], Any] = lambda reader: reader,
    ):
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.start: Start = build_start(settings.model, where, "cpu")
        self.trained = choose_trained(self.start.model, settings.trained)
        if settings.model.gradient_checkpointing:
            checkpoint_activations(self.start.model.language)
        self.reader = wrap(reader_of(settings, self.start))
        out.mkdir(parents=True, exist_ok=True)
        self.checkpoints = Checkpoints(
            out / "checkpoints", settings.checkpoints.keep, identity(settings), self.reader.fingerprint
        )
        self.step = TrainingStep(self.start.model, LossWeights())
        self.driver = PlainDriver(self.step, settings, ALONE, settings.accumulation(1), state)
        self.losses: list[float] = []
        report = Report(out, settings, ALONE, 0)
        report.step_line = lambda step, figures: self.losses.append(figures["loss/total"])
        self.trainer = Trainer(
            self.step, self.driver, self.reader, settings, ALONE, self.checkpoints, report,
            progress=progress or Progress(), validate=validate,
        )  # fmt: skip

    @property
    def model(self):
        return self.start.model

    def run(self) -> Run:
        self.finished = self.trainer.run()
        return self

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.driver.state().weights.items()}


def reader_of(settings: TrainSettings, start: Start, **changes: Any) -> BatchReader:
    """The reader of a single rank."""
    asked = {
        "system": start.system,
        "tokenizer": start.tokenizer,
        "clip_size": start.model.tower.image_size,
        "sam_size": start.model.visual_model.image_size,
        "rank": 0,
        "world_size": 1,
        "batch_size": settings.batch.videos,
        "seed": settings.seed,
    }
    return open_data(settings.data, **{**asked, **changes})


def changed(settings: TrainSettings = SETTINGS, **sections: Any) -> TrainSettings:
    """Settings with fields of sections replaced, given as dicts, or whole values."""
    values = {
        name: replace(getattr(settings, name), **value)
        if isinstance(value, dict) and name != "data"
        else value
        for name, value in sections.items()
    }
    return replace(settings, **values)
