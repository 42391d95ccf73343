"""What a run starts from: a preset of a [SEG] system on a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from model.backbones.grounded import GroundedBackbone
from visa.checkpoints.options import LoadOptions
from visa.errors import InputError
from visa.grounded.loading import load_grounded
from visa.grounded.weights import Adapter
from visa.preset_files import find_preset
from visa.reasoning.backbone import Showing
from visa.training.engine.settings import ModelSettings, TrainedSettings
from visa.training.engine.trainables import LORA, lora_layers, part_of

# Parts as settings and table call them, and how their parameters' names begin; the first that fits counts.
_LANGUAGE = (
    "backbone.model.model.language_model.",
    "backbone.model.model.text_model.",
    "backbone.model.lm_head.",
)
PARTS = {
    "language": _LANGUAGE,
    "vision": ("backbone.",),
    "seg_token": ("seg_embedding", "seg_output"),
    "seg_head": ("seg_head.",),
    "image_encoder": ("visual_model.image_encoder.",),
    "prompt_encoder": ("visual_model.prompt_encoder.",),
    "mask_decoder": ("visual_model.mask_decoder.",),
}
# What an export holds, and so all that may be trained besides LoRA.
IN_FULL = ("seg_token", "seg_head", "mask_decoder")


@dataclass(frozen=True)
class GroundedStart:
    """A system about to be trained.

    model: without gradients, in evaluation mode. showing: how frames are shown, in training as afterwards.
    name: of the preset. preset: its fields. folder: of its file.
    """

    model: GroundedBackbone
    showing: Showing
    name: str
    preset: Mapping[str, Any]
    folder: Path


def backbone_preset(start: str) -> Path | None:
    """The preset of a [SEG] system on a backbone that ``model.start`` means; None: it means another start."""
    try:
        path = find_preset(start)
    except InputError:
        return None
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    return path if isinstance(fields, dict) and "backbone" in fields else None


def build_start(settings: ModelSettings, device: str) -> GroundedStart:
    """Load what is trained from, in the run's precision.

    Raises:
        InputError: the preset is one of a finished training, lacks something, or its parts are not as they
            should be. DownloadError.
    """
    path = backbone_preset(settings.start)
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    if preset.get("weights") is not None:
        raise InputError(
            f"model.start: {settings.start} is what a training wrote; a new one starts from the backbone's "
            "own preset, and a run that was broken off goes on by itself"
        )
    options = LoadOptions(
        dtype=settings.precision,
        device=device,
        attention=settings.attention,
        sam=settings.sam or (preset.get("load") or {}).get("sam"),
    )
    try:
        showing = Showing(preset["reason"]["stream"], preset["reason"]["max_tokens"])
        model = load_grounded(path.stem, preset, path.parent, options)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path} does not say {error}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return GroundedStart(model.eval().requires_grad_(False), showing, path.stem, preset, path.parent)


def choose_trained(model: GroundedBackbone, trained: TrainedSettings) -> Adapter | None:
    """Put LoRA on the language model's layers and mark what is trained; everything else is frozen.

    Raises:
        InputError: a part that no export would hold, or LoRA finds no layer of the given names.
    """
    if strange := sorted(set(trained.in_full) - set(IN_FULL)):
        raise InputError(
            f"trained.in_full: {strange[0]} of a backbone is not trained in full; expected "
            f"{', '.join(IN_FULL)}, and LoRA for its language model"
        )
    adapter = None
    if trained.lora_rank:
        adapter = Adapter(trained.lora_rank, trained.lora_alpha, _layers(model, trained))
        config = LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=trained.lora_dropout,
            bias="none",
            target_modules=list(adapter.layers),
        )
        inject_adapter_in_model(config, model.backbone.model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(LORA in name or part_of(name, PARTS) in trained.in_full)
    return adapter


def _layers(model: GroundedBackbone, trained: TrainedSettings) -> list[str]:
    """The language model's linear layers that LoRA goes on, by their names in the model of transformers."""
    language: nn.Module = model.backbone.language_model
    prefix = next(name for name, module in model.backbone.model.named_modules() if module is language)
    return [f"{prefix}.{name}" for name in lora_layers(language, trained)]
