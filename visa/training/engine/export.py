"""From a checkpoint to what others take: a merged folder for `visa.load`, and the adapter by itself.

The folder holds ``model.safetensors`` (in shards where it is large) under the published names, vision tower
and SAM in it, tokenizer, ``config.json`` and ``preset.yaml``; its ``adapter`` holds LoRA's factors as peft
writes them, and beside them the weights that were trained in full.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import save_torch_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from visa.checkpoints.options import DTYPES
from visa.training.engine.driver import TrainState, put_weights
from visa.training.engine.settings import TrainedSettings, TrainSettings
from visa.training.engine.start import Start, build_start
from visa.training.engine.trainables import LORA, choose_trained, lora_layers

# Our prefixes and the published ones.
PUBLISHED = {
    "language.": "",
    "tower.vision.": "model.vision_tower.vision_tower.vision_model.",
    "projector.": "model.mm_projector.",
    "seg_head.": "model.text_hidden_fcs.0.",
    "visual_model.": "model.visual_model.",
}
ADAPTER = "default"


def export(settings: TrainSettings, where: Path, state: TrainState, folder: Path) -> Path:
    """Write the merged folder; one that is there already is replaced when the new one is whole.

    The start is loaded again, on the CPU: what trained may be spread over many ranks.

    Args:
        where: what was trained from.

    Returns:
        ``folder``.
    """
    start = build_start(settings.model, where, "cpu")
    layers = lora_layers(start.model.language, settings.trained) if settings.trained.lora_rank else []
    choose_trained(start.model, settings.trained)
    model = start.model
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    # Those trained in full go out as they were trained, in float32, before they are rounded with the rest.
    put_weights(trained, state)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    merged = merged_state(model, state, DTYPES[settings.model.precision])
    save_torch_state_dict(merged, partial, max_shard_size="5GB", metadata={"format": "pt"})
    start.tokenizer.save_pretrained(partial)
    _write_configuration(start, settings.model.precision, partial)
    _write_adapter(settings.trained, layers, state, partial / "adapter")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


@torch.no_grad()
def merged_state(model: nn.Module, state: TrainState, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a system under their published names, LoRA's product added to its layers in float32.

    Args:
        model: with LoRA on it, the state's weights in it. dtype: of what is written, but SAM keeps its own.
    """
    lora = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    tensors = {}
    for name, value in model.state_dict().items():
        if LORA in name:
            continue
        owner = name.removesuffix(".base_layer.weight")
        if owner != name and owner in lora:
            factors = [state.weights[f"{owner}.lora_{side}.{ADAPTER}.weight"] for side in "BA"]
            scale = lora[owner].scaling[ADAPTER]
            value = (value.float() + scale * (factors[0].float() @ factors[1].float())).to(value.dtype)
        name = name.replace(".base_layer.", ".")
        prefix = next(prefix for prefix in PUBLISHED if name.startswith(prefix))
        kept = value if name.startswith("visual_model.") or not value.is_floating_point() else value.to(dtype)
        tensors[PUBLISHED[prefix] + name.removeprefix(prefix)] = kept.contiguous()
    return tensors


def _write_configuration(start: Start, precision: str, folder: Path) -> None:
    """config.json, the tower's beside it, and a preset that points at its own folder."""
    fields: dict[str, Any] = {
        **start.fields,
        "vocab_size": start.model.language.config.vocab_size,
        "mm_vision_tower": "clip",
        "vision_tower": "clip",
        "train_mask_decoder": True,
        "out_dim": start.model.seg_head[-1].out_features,
    }
    (folder / "config.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    (folder / "clip").mkdir()
    tower = {**start.config.tower.to_dict(), "model_type": "clip_vision_model"}
    (folder / "clip" / "config.json").write_text(json.dumps(tower, indent=1) + "\n", encoding="utf-8")
    load = {**(start.preset.get("load") or {}), "dtype": precision}
    preset = {**start.preset, "checkpoint": ".", "load": load}
    (folder / "preset.yaml").write_text(yaml.safe_dump(preset, sort_keys=False), encoding="utf-8")


def _write_adapter(trained: TrainedSettings, layers: list[str], state: TrainState, folder: Path) -> None:
    """LoRA's factors in peft's own layout, and the rest of the trained weights."""
    folder.mkdir()
    factors, whole = {}, {}
    for name, value in state.weights.items():
        if LORA in name:
            plain = name.removeprefix("language.").replace(f".{ADAPTER}.", ".")
            factors[f"base_model.model.{plain}"] = value.contiguous()
        else:
            whole[name] = value.contiguous()
    save_file(whole, folder / "trained_in_full.safetensors")
    if not layers:
        return
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": trained.lora_rank,
        "lora_alpha": trained.lora_alpha,
        "lora_dropout": trained.lora_dropout,
        "bias": "none",
        "target_modules": layers,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
