"""The settings of the embedded system's training: a preset or YAML file, changed by ``key=value``.

Nothing here needs torch, so that a mistyped key is told at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from visa.errors import InputError
from visa.training.engine.fields import build_settings
from visa.training.engine.settings import (
    BatchSettings,
    CheckpointSettings,
    DeepSpeedSettings,
    OptimiserSettings,
    ReportSettings,
    RunSettings,
    ScheduleSettings,
)
from visa.training.recipe import changed_recipe

CHECKPOINTS, DEEPSPEED = CheckpointSettings(every=100, keep=2), DeepSpeedSettings()
REPORT = ReportSettings(every=5)


@dataclass(frozen=True)
class LossWeights:
    """What each part of the objective counts."""

    text: float = 1.0
    refusal: float = 1.0
    presence: float = 1.0
    look: float = 1.0
    heat_bce: float = 1.0
    heat_dice: float = 0.5
    object_choice: float = 1.0
    cell_choice: float = 0.3
    meaning: float = 0.5
    mask_bce: float = 2.0
    mask_dice: float = 0.5


@dataclass(frozen=True)
class StageSettings:
    """One stage of training the glue.

    steps: optimiser steps; 0: the stage is left out. batch: examples of a step over all ranks.
    micro_batch: examples that a rank takes through the network at once; 0: its share of the batch.
    learning_rate: at its peak, after ``warmup`` steps; it falls along half a cosine to 5%.
    decoder_from: share of the stage [0, 1] from which on masks are drawn and SAM's decoder learns; 1: never.
    decoder_rate: its learning rate relative to the others'.
    word_share: of examples that are faked from words [0, 1]; the others are filmed scenes.
    hidden_features: share of the filmed scenes whose tower features are hidden [0, 1].
    nameless: share of them whose cells are not called by the names of what is there [0, 1].
    max_minutes: after which the stage ends, its learning rate low by then; 0: any.
    """

    steps: int
    batch: int
    micro_batch: int = 0
    learning_rate: float = 6e-4
    warmup: int = 40
    decoder_from: float = 1.0
    decoder_rate: float = 0.15
    word_share: float = 0.2
    hidden_features: float = 0.5
    nameless: float = 0.5
    max_minutes: float = 0.0


@dataclass(frozen=True)
class SceneSettings:
    """Filmed scenes.

    count: to be filmed for training, held_out: of names that training never meets, for validation; what lies
    in the folders already is not filmed again, and all of it is used.
    folder, held_out_folder: where they lie; "": in the run's folder.
    """

    count: int = 1800
    held_out: int = 50
    folder: str = ""
    held_out_folder: str = ""


@dataclass(frozen=True)
class AdamSettings:
    """AdamW but for its learning rate, which is a stage's. clip: largest norm of a gradient; 0: any."""

    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    eps: float = 1e-8
    clip: float = 1.0


@dataclass(frozen=True)
class GlueValidationSettings:
    """every: steps between validations; 0: none. scenes: of those held out. masks: whether they are drawn."""

    every: int = 150
    scenes: int = 40
    masks: bool = False


@dataclass(frozen=True)
class ReadingSettings:
    """workers: processes that draw examples; 0: none, the run draws for itself. prefetch: batches that each
    draws ahead. broken_share: the run stops when a larger share of what was read is broken."""

    workers: int = 1
    prefetch: int = 2
    broken_share: float = 0.01


@dataclass(frozen=True)
class TrackerSettings:
    """steps: of the small XMem's training, over ``clips`` filmed ones; 0: the shipped weights are taken."""

    clips: int = 150
    steps: int = 1500


@dataclass(frozen=True)
class EmbeddedSettings:
    """A whole run.

    out: its folder, in the end one for `visa.load`. seed: of everything that is drawn.
    start: glue to begin with, a file; "": fresh weights.
    precision: of forward and backward; weights and their moments are float32.
    keep: which weights a stage hands on, its "last" or those with the "best" validation.
    """

    out: str
    words: StageSettings
    pictures: StageSettings
    seed: int = 0
    start: str = ""
    precision: Literal["bf16", "fp32"] = "bf16"
    keep: Literal["last", "best"] = "last"
    scenes: SceneSettings = SceneSettings()
    loss: LossWeights = LossWeights()
    optimiser: AdamSettings = AdamSettings()
    checkpoints: CheckpointSettings = CHECKPOINTS
    validation: GlueValidationSettings = GlueValidationSettings()
    reading: ReadingSettings = ReadingSettings()
    deepspeed: DeepSpeedSettings = DEEPSPEED
    report: ReportSettings = REPORT
    max_bad_steps: int = 5
    tracker: TrackerSettings = TrackerSettings()

    def __post_init__(self) -> None:
        if self.deepspeed.stage == 3:
            raise InputError("deepspeed.stage=3 is not for the embedded system, whose glue is small: 1 or 2")
        if not (self.words.steps or self.pictures.steps or self.start):
            raise InputError("nothing to do: words.steps and pictures.steps are 0, and there is no start")
        for name, stage in self.stages.items():
            for share in ("decoder_from", "word_share", "hidden_features", "nameless"):
                if not 0 <= getattr(stage, share) <= 1:
                    raise InputError(f"{name}.{share} must be from 0 to 1, got {getattr(stage, share)}")

    @property
    def stages(self) -> dict[str, StageSettings]:
        """In their order."""
        return {"words": self.words, "pictures": self.pictures}

    @property
    def needs_scenes(self) -> bool:
        """Whether any stage sees filmed ones."""
        return any(stage.steps and stage.word_share < 1 for stage in self.stages.values())

    @property
    def scene_folder(self) -> Path:
        return Path(self.scenes.folder or Path(self.out) / "scenes")

    @property
    def held_out_folder(self) -> Path:
        return Path(self.scenes.held_out_folder or Path(self.out) / "held_out_scenes")

    def run_settings(self, name: str, start: str, ranks: int) -> "GlueRunSettings":
        """What the engine is told of a stage.

        Args:
            start: tells the glue that it begins with from others, wherever the file lies; "": fresh weights.
        """
        stage, adam = self.stages[name], self.optimiser
        return GlueRunSettings(
            out=str(Path(self.out) / name),
            seed=self.seed,
            model=GlueStart(start, self.precision),
            data=GlueData(name, stage.word_share, stage.hidden_features, stage.nameless),
            trained=GlueTrained(stage.decoder_from, stage.decoder_rate),
            loss=self.loss,
            optimiser=OptimiserSettings(
                stage.learning_rate, adam.betas, adam.weight_decay, adam.eps, adam.clip
            ),
            schedule=ScheduleSettings("cosine", stage.warmup, stage.steps, 0.05, stage.max_minutes),
            batch=BatchSettings(stage.batch, stage.micro_batch or max(1, stage.batch // ranks)),
            checkpoints=self.checkpoints,
            deepspeed=self.deepspeed,
            report=self.report,
            max_bad_steps=self.max_bad_steps,
            validation=self.validation,
        )


@dataclass(frozen=True)
class GlueStart:
    """start: see `EmbeddedSettings.run_settings`. precision: of forward and backward."""

    start: str
    precision: Literal["bf16", "fp32"]


@dataclass(frozen=True)
class GlueData:
    """stage: whose examples are drawn; the rest as in `StageSettings`."""

    stage: str
    word_share: float
    hidden_features: float
    nameless: float


@dataclass(frozen=True)
class GlueTrained:
    """See `StageSettings`."""

    decoder_from: float
    decoder_rate: float


@dataclass(frozen=True, kw_only=True)
class GlueRunSettings(RunSettings):
    """One stage, as the engine is told of it."""

    model: GlueStart
    data: GlueData
    trained: GlueTrained
    loss: LossWeights
    validation: GlueValidationSettings

    BATCH_NAMES: ClassVar[tuple[str, str]] = ("batch", "micro_batch")

    @property
    def validate_every(self) -> int:
        return self.validation.every


def read_embedded(config: str, overrides: Sequence[str] = ()) -> EmbeddedSettings:
    """Settings of a run.

    Args:
        config: a preset such as ``train/embedded``, or a YAML file.
        overrides: ``key=value``; a dot reaches into a section (``pictures.steps=100``).

    Raises:
        InputError: no such preset, an unknown key (the nearest one is named), or a value of another type.
    """
    return build_settings(EmbeddedSettings, changed_recipe(config, overrides))
