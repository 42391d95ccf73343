"""The settings of a training run: a preset or YAML file, changed by ``key=value``.

`RunSettings` are those that the loop asks, whatever is trained; `TrainSettings` are a published system's.

Nothing here needs torch, so that a mistyped key is told at once.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dataset.counting import count_of
from visa.errors import InputError
from visa.training.engine.fields import build_settings
from visa.training.recipe import changed_recipe


@dataclass(frozen=True)
class ModelSettings:
    """What is trained from.

    start: a checkpoint as `visa.load` takes it: folder, file, or hub repository of Chat-UniVi, LLaVA-Phi-3,
        VISA or VideoLISA; "tiny" makes a random one of a few thousand numbers, with SAM and tokenizer.
    base: of the tokenizer, where ``start`` has none.
    sam: SAM's weights, where ``start`` has none. tower: a CLIP in place of the one that ``start`` names.
    precision: of forward and backward; the trained weights and their moments are float32 in any case.
    attention: "sdpa", "eager" or "flash_attention_2".
    gradient_checkpointing: compute activations again in the backward pass in place of keeping them.
    merging_noise: breaks ties of Chat-UniVi's merging at random, 1e-6 as released; VISA only.
    """

    start: str
    base: str | None = None
    sam: str | None = None
    tower: str | None = None
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = True
    merging_noise: float = 0.0


@dataclass(frozen=True)
class TrainedSettings:
    """What is trained.

    lora_rank, lora_alpha, lora_dropout: of LoRA on linear layers of the language model; rank 0: none.
    lora_targets: what these layers are called. lora_match: "exact" by their whole last name; "substring", as
        in the released code, where ``v_proj`` also means Phi-3's ``qkv_proj``.
    in_full: the parts that are trained themselves.
    """

    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    lora_match: Literal["exact", "substring"] = "exact"
    in_full: tuple[str, ...] = ("embeddings", "lm_head", "seg_head", "mask_decoder")


@dataclass(frozen=True)
class LossSettings:
    """What the parts of the loss count, and over what they are averaged.

    average: "micro_batch", as released: within each micro-batch, then over these; "step": over all words and
        all masks of a step, so that it does not matter how these were dealt out.
    """

    text: float = 1.0
    bce: float = 2.0
    dice: float = 0.5
    average: Literal["micro_batch", "step"] = "step"


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW. clip: largest norm of a step's gradient; 0: any."""

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    eps: float = 1e-8
    clip: float = 1.0


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate's course over ``steps`` optimiser steps; see `learning_rate_share`.

    floor: what "cosine" ends at, relative to the peak.
    max_minutes: of training, over all starts, after which the run ends, the learning rate having fallen as it
        would over all steps; 0: any. Such a run is not the same step for step when it is made again.
    """

    name: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = 100
    steps: int = 15000
    floor: float = 1e-4
    max_minutes: float = 0.0

    def share(self, step: int, minutes: float) -> float:
        """How much of the run is over, [0, 1], after so many steps and so much time."""
        spent = minutes / self.max_minutes if self.max_minutes else 0.0
        return min(1.0, max(step / self.steps, spent))


@dataclass(frozen=True)
class BatchSettings:
    """total: videos of a step over all ranks. videos: of a micro-batch. The rest is gradient accumulation."""

    total: int = 128
    videos: int = 1


@dataclass(frozen=True)
class CheckpointSettings:
    """every: steps between checkpoints. keep: how many of the last ones stay, beside the best."""

    every: int = 500
    keep: int = 3


@dataclass(frozen=True)
class BenchmarkSettings:
    """root: of a data set; "": none. dataset: its name in `dataset.registry`. split: "" for the one that is
    evaluated on. videos, frames: only the first ones, and the first of each; 0: all. xmem: XMem's weights, or
    sam2: SAM 2's, one of which VISA needs."""

    root: str = ""
    dataset: str = "revos"
    split: str = ""
    videos: int = 20
    frames: int = 0
    xmem: str = ""
    sam2: str = ""


@dataclass(frozen=True)
class ValidationSettings:
    """every: steps between validations; 0: none. batches: how many are drawn from the validation's reader,
    each time the same. pictures: how many predictions are drawn each time. data: as the run's ``data``.
    benchmark: whose J&F then tells which checkpoint is the best."""

    every: int = 0
    batches: int = 32
    pictures: int = 4
    data: dict[str, Any] = field(default_factory=dict)
    benchmark: BenchmarkSettings = BenchmarkSettings()


@dataclass(frozen=True)
class DeepSpeedSettings:
    """What matters under ``deepspeed`` alone.

    stage: of ZeRO. offload: where the optimiser's numbers live. bucket: elements that travel at once.
    extra: goes into DeepSpeed's configuration as it is.
    """

    stage: Literal[1, 2, 3] = 2
    offload: Literal["none", "cpu"] = "none"
    bucket: int = 500_000_000
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportSettings:
    """every: steps between lines. tensorboard, wandb: where figures go besides (Weights & Biases if it is
    installed and wanted). peak_teraflops: of one device, for the share of it that is used; 0: measured on a
    GPU, unknown on a CPU."""

    every: int = 1
    tensorboard: bool = True
    wandb: bool = False
    peak_teraflops: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What the loop, the drivers and the report ask.

    out: the run's folder. seed: of everything that is drawn.
    max_bad_steps: steps in a row whose loss or gradient is not finite, before the run gives up.
    """

    out: str
    seed: int = 0
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    batch: BatchSettings = BatchSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    deepspeed: DeepSpeedSettings = DeepSpeedSettings()
    report: ReportSettings = ReportSettings()
    max_bad_steps: int = 5

    # How a person calls the two sizes of a batch.
    BATCH_NAMES: ClassVar[tuple[str, str]] = ("batch.total", "batch.videos")

    def __post_init__(self) -> None:
        total, size = self.BATCH_NAMES
        counts = {
            total: self.batch.total,
            size: self.batch.videos,
            "schedule.steps": self.schedule.steps,
            "checkpoints.every": self.checkpoints.every,
            "checkpoints.keep": self.checkpoints.keep,
            "report.every": self.report.every,
            "max_bad_steps": self.max_bad_steps,
        }
        for name, value in counts.items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")

    def accumulation(self, ranks: int) -> int:
        """Micro-batches of a rank in each step.

        Raises:
            InputError: the step's samples cannot be dealt out evenly.
        """
        total, size = self.BATCH_NAMES
        share = ranks * self.batch.videos
        if self.batch.total % share:
            raise InputError(
                f"{total}={self.batch.total} cannot be dealt out to {count_of(ranks, 'rank')} in "
                f"micro-batches of {self.batch.videos}: set {total} to a multiple of {share}, or {size} to "
                "a divisor"
            )
        return self.batch.total // share

    @property
    def weights_precision(self) -> str:
        """What the network holds its weights in: "bf16", "fp16" or "fp32"."""
        return "fp32"

    @property
    def average(self) -> Literal["micro_batch", "step"]:
        """Over what losses are averaged, see `LossSettings`."""
        return "micro_batch"

    @property
    def validate_every(self) -> int:
        """Steps between validations; 0: none."""
        return 0

    def memory_savers(self) -> list[str]:
        """Settings that take less memory, as they are written on the command line."""
        ways = []
        if self.batch.videos > 1:
            ways.append(f"{self.BATCH_NAMES[1]}={max(1, self.batch.videos // 2)}")
        return ways


@dataclass(frozen=True, kw_only=True)
class TrainSettings(RunSettings):
    """A whole run of a published system.

    data: what the reader of batches is told. export: write a loadable folder at the end.
    """

    model: ModelSettings
    data: dict[str, Any] = field(default_factory=dict)
    trained: TrainedSettings = TrainedSettings()
    loss: LossSettings = LossSettings()
    validation: ValidationSettings = ValidationSettings()
    export: bool = True

    @property
    def weights_precision(self) -> str:
        return self.model.precision

    @property
    def average(self) -> Literal["micro_batch", "step"]:
        return self.loss.average

    @property
    def validate_every(self) -> int:
        return self.validation.every

    def memory_savers(self) -> list[str]:
        ways = super().memory_savers()
        if not self.model.gradient_checkpointing:
            ways.append("model.gradient_checkpointing=true")
        if self.model.precision == "fp32":
            ways.append("model.precision=bf16")
        if self.deepspeed.stage < 3:
            ways.append(f"deepspeed.stage={self.deepspeed.stage + 1}")
        if self.deepspeed.offload == "none":
            ways.append("deepspeed.offload=cpu")
        return ways


# What a run that goes on must have as it was: everything that changes the losses.
IDENTITY = ("seed", "model", "data", "trained", "loss", "optimiser", "schedule", "batch.total")
# Parts of these which do not; what was read is told by the reader's fingerprint.
INCIDENTAL = (
    *("model.attention", "model.gradient_checkpointing"),
    *("data.workers", "data.prefetch", "data.root", "data.roots", "data.broken_share"),
    "schedule.max_minutes",
)


def is_engine_recipe(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe is one of ours: the embedded system's has no ``model``."""
    return "model" in recipe


def read_settings(config: str, overrides: Sequence[str] = ()) -> TrainSettings:
    """Settings of a run.

    Args:
        config: a preset such as ``train/visa-7b``, or a YAML file.
        overrides: ``key=value``; a dot reaches into a section (``optimiser.learning_rate=1e-5``).

    Raises:
        InputError: no such preset, an unknown key (the nearest one is named), or a value of another type.
    """
    return build_settings(TrainSettings, changed_recipe(config, overrides))


def plain(settings: Any) -> dict[str, Any]:
    """The settings as nested dicts of plain values, all defaults filled in, for YAML and JSON."""

    def simple(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: simple(inner) for key, inner in value.items()}
        return [simple(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    return simple(dataclasses.asdict(settings))


def identity(settings: RunSettings) -> dict[str, Any]:
    """What a checkpoint's settings must agree in with those of the run that goes on, by dotted names."""
    flat = dict(_flatten(plain(settings)))
    return {
        name: value for name, value in flat.items() if _under(name, IDENTITY) and not _under(name, INCIDENTAL)
    }


def _under(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def _flatten(tree: Mapping[str, Any], prefix: str = ""):
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
