"""The settings of training soft prompts: a preset or YAML file, changed by ``key=value``.

Nothing here needs torch, so that a mistyped key is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from visa.errors import InputError
from visa.training.embedded_settings import ReadingSettings
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

STREAMS = ("frame", "video")
OPTIMISER, SCHEDULE = OptimiserSettings(1e-3, (0.9, 0.999)), ScheduleSettings("cosine", 10, 400, 0.0)
BATCH, CHECKPOINTS = BatchSettings(8, 1), CheckpointSettings(every=100, keep=2)
READING, DEEPSPEED, REPORT = ReadingSettings(), DeepSpeedSettings(), ReportSettings()


@dataclass(frozen=True)
class BackboneSettings:
    """The frozen model.

    start: "embedded" or a folder of its kind, for ``data.source: scenes``; otherwise a vision-language model:
        a folder or a repository of the hub.
    precision: of its weights. attention: "sdpa", "eager" or "flash_attention_2".
    gradient_checkpointing: compute activations again in the backward pass in place of keeping them.
    """

    start: str
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = True


@dataclass(frozen=True)
class PromptSettings:
    """n: tokens. position: where they stand, see `model.steering.soft_prompt.SoftPlace`."""

    n: int = 64
    position: Literal["before_vision", "before_text"] = "before_vision"


@dataclass(frozen=True)
class AttentionSettings:
    """As `model.steering.rollout.RolloutSettings`; first_layer: -1 is the middle one."""

    first_layer: int = -1
    head_weights: Literal["vmax", "mean"] = "vmax"
    residual: float = 0.5
    chunk: int = 256

    def rollout(self) -> dict[str, Any]:
        """Its fields as `RolloutSettings` takes them."""
        first = None if self.first_layer < 0 else self.first_layer
        return {
            "first_layer": first,
            "head_weights": self.head_weights,
            "residual": self.residual,
            "chunk": self.chunk,
        }


@dataclass(frozen=True)
class StreamSettings:
    """What one stream is shown.

    frames: of a clip; of the frame stream, how many frames of it are read, each alone.
    max_tokens: the most visual tokens of one frame; 0: as the backbone does it.
    """

    frames: int
    max_tokens: int = 0


FRAME, VIDEO = StreamSettings(2), StreamSettings(8)


@dataclass(frozen=True)
class AttributeSettings:
    """What is said of a thing beside the expression.

    file: JSON lines that the frozen backbone wrote earlier, or writes at the run's start; "": none. Scenes
        need none, their descriptions tell.
    dropout: share of the questions that come without [0, 1], so that the prompt serves without them too.
    max_new_tokens, at_most: as the pipeline's, when the backbone writes them.
    """

    file: str = ""
    dropout: float = 0.3
    max_new_tokens: int = 128
    at_most: int = 3


@dataclass(frozen=True)
class SteeringData:
    """What is read.

    source: "scenes", a folder of filmed scenes that the embedded system's training has cached; or
        "ref_youtube_vos", the folder of that data set. held_out: folder of other scenes, for validation; of
        Ref-YouTube-VOS, a share of the videos is held out.
    questions: at most, about one item.
    wording: "grounding" asks as the pipeline does; "bare" puts the expression alone.
    """

    source: Literal["scenes", "ref_youtube_vos"]
    folder: str
    held_out: str = ""
    held_out_share: float = 0.02
    questions: int = 1
    wording: Literal["grounding", "bare"] = "grounding"
    attributes: AttributeSettings = AttributeSettings()


@dataclass(frozen=True)
class SteeringValidation:
    """every: steps between validations; 0: none. items: how many are looked at, each time the same."""

    every: int = 100
    items: int = 40


@dataclass(frozen=True)
class SteeringSettings:
    """A whole run: one soft prompt after the other.

    out: its folder, in the end with a safetensors file for each stream. seed: of everything that is drawn.
    streams: whose prompts are trained.
    """

    out: str
    backbone: BackboneSettings
    data: SteeringData
    seed: int = 0
    streams: tuple[Literal["frame", "video"], ...] = STREAMS
    prompt: PromptSettings = PromptSettings()
    rollout: AttentionSettings = AttentionSettings()
    frame: StreamSettings = FRAME
    video: StreamSettings = VIDEO
    optimiser: OptimiserSettings = OPTIMISER
    schedule: ScheduleSettings = SCHEDULE
    batch: BatchSettings = BATCH
    checkpoints: CheckpointSettings = CHECKPOINTS
    validation: SteeringValidation = SteeringValidation()
    reading: ReadingSettings = READING
    deepspeed: DeepSpeedSettings = DEEPSPEED
    report: ReportSettings = REPORT
    max_bad_steps: int = 5

    def __post_init__(self) -> None:
        if not self.streams or len(set(self.streams)) < len(self.streams):
            raise InputError(f"streams: expected frame, video or both, got {list(self.streams)}")
        for name, share in {
            "data.attributes.dropout": self.data.attributes.dropout,
            "data.held_out_share": self.data.held_out_share,
            "rollout.residual": self.rollout.residual,
        }.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} must be from 0 to 1, got {share}")
        for name, count in {
            "prompt.n": self.prompt.n,
            "data.questions": self.data.questions,
            "frame.frames": self.frame.frames,
            "video.frames": self.video.frames,
        }.items():
            if count < 1:
                raise InputError(f"{name} must be at least 1, got {count}")
        for stream in STREAMS:
            if (most := self.stream(stream).max_tokens) < 0:
                raise InputError(f"{stream}.max_tokens must be at least 1, or 0 for all, got {most}")
        if not self.data.folder:
            raise InputError("data.folder must say where the data lies: data.folder=...")
        if self.deepspeed.stage == 3:
            raise InputError("deepspeed.stage=3 is not for a soft prompt, which is small: 1 or 2")

    def stream(self, name: str) -> StreamSettings:
        """What a stream is shown."""
        return self.frame if name == "frame" else self.video

    def run_settings(self, stream: Literal["frame", "video"]) -> SteeringRunSettings:
        """What the engine is told of one stream's training."""
        return SteeringRunSettings(
            out=f"{self.out}/{stream}",
            seed=self.seed,
            model=self.backbone,
            # Which files they are, the reader's fingerprint tells.
            data={
                "stream": stream,
                "shown": self.stream(stream),
                "read": replace(self.data, folder="", held_out=""),
            },
            trained={"prompt": self.prompt, "rollout": self.rollout},
            optimiser=self.optimiser,
            schedule=self.schedule,
            batch=self.batch,
            checkpoints=self.checkpoints,
            deepspeed=self.deepspeed,
            report=self.report,
            max_bad_steps=self.max_bad_steps,
            validate_every_steps=self.validation.every,
        )


@dataclass(frozen=True, kw_only=True)
class SteeringRunSettings(RunSettings):
    """One stream's training, as the engine is told of it."""

    model: BackboneSettings
    data: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)
    validate_every_steps: int = 0

    @property
    def validate_every(self) -> int:
        return self.validate_every_steps

    def memory_savers(self) -> list[str]:
        ways = super().memory_savers()
        if not self.model.gradient_checkpointing:
            ways.append("backbone.gradient_checkpointing=true")
        return [*ways, "video.frames=4", "video.max_tokens=128"]


def is_steering_recipe(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe trains soft prompts: only such a one has a ``backbone``."""
    return "backbone" in recipe


def read_steering(config: str, overrides: Sequence[str] = ()) -> SteeringSettings:
    """Settings of a run.

    Args:
        config: ``train/steerseg``, ``train/steerseg-embedded`` or a YAML file.
        overrides: ``key=value``; a dot reaches into a section (``prompt.n=32``).

    Raises:
        InputError: no such preset, an unknown key (the nearest one is named), or a value of another type.
    """
    return build_settings(SteeringSettings, changed_recipe(config, overrides))
