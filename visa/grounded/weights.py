"""What training adds to a backbone, in a folder of its own: LoRA, [SEG] and its head, SAM's mask decoder.

The backbone itself, gigabytes that stay as they are, is named in ``preset.yaml`` and not copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.backbones.grounded import GroundedBackbone
from visa.checkpoints.configuration import read_json
from visa.checkpoints.lora import find_alpha
from visa.errors import InputError

WEIGHTS, ADAPTER, ADAPTER_CONFIG = "grounded.safetensors", "adapter_model.safetensors", "adapter_config.json"
# peft's names of the factors begin so; what follows is the layer's name in the model of transformers.
PEFT = "base_model.model."
PARTS = ("seg_embedding", "seg_output", "seg_head.", "visual_model.mask_decoder.")


@dataclass(frozen=True)
class Adapter:
    """LoRA on a backbone. rank, alpha: of all layers. layers: their names in the model of transformers."""

    rank: int
    alpha: float
    layers: Sequence[str]


def write_weights(
    folder: Path,
    model: GroundedBackbone,
    state: Mapping[str, Tensor],
    lora: Mapping[str, Tensor],
    adapter: Adapter | None,
) -> None:
    """Write both files.

    Args:
        folder: that is there.
        model: whose backbone these belong to.
        state: all tensors of `PARTS` by their names in the model.
        lora: the factors by the layers' names, ``<layer>.lora_A.weight`` and ``.lora_B.weight``.
        adapter: None: there is no LoRA.
    """
    belongs = {
        "format": "pt",
        "family": model.backbone.family,
        "width": str(model.backbone.width),
        "seg_token_id": str(model.seg_token_id),
    }
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS, belongs)
    if adapter is None:
        return
    factors = {f"{PEFT}{name}": value.contiguous() for name, value in lora.items()}
    save_file(factors, folder / ADAPTER, {"format": "pt"})
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(adapter.layers),
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def part_state(model: GroundedBackbone) -> dict[str, Tensor]:
    """The tensors of `PARTS`."""
    return {name: value for name, value in model.state_dict().items() if name.startswith(PARTS)}


def read_weights(folder: Path, model: GroundedBackbone, *, merge: bool = True) -> None:
    """Put a folder's weights into a model with its own backbone.

    Args:
        merge: add LoRA's products to the layers' weights; False, for quantised layers, leaves them beside.

    Raises:
        InputError: no such weights, damaged ones, or those of another backbone.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder} holds no trained [SEG] head: it has no {WEIGHTS}")
    state, belongs = _read(path)
    own = {
        "family": model.backbone.family,
        "width": str(model.backbone.width),
        "seg_token_id": str(model.seg_token_id),
    }
    for name, value in own.items():
        if belongs.get(name) != value:
            raise InputError(
                f"{path} was trained on a backbone of {name} {belongs.get(name)}, not {value}; load it with "
                "the backbone that its preset.yaml names"
            )
    expected = part_state(model)
    if strange := sorted(expected.keys() ^ state.keys()):
        raise InputError(f"{path} does not fit this system: {strange[0]} is on one side only")
    if other := [name for name, value in expected.items() if value.shape != state[name].shape]:
        raise InputError(f"{path} does not fit this system: {other[0]} has another shape")
    model.load_state_dict(state, strict=False)
    if (folder / ADAPTER).is_file():
        _put_lora(folder, model, merge)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes of a safetensors file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:160]}") from error


@torch.no_grad()
def _put_lora(folder: Path, model: GroundedBackbone, merge: bool) -> None:
    path = folder / ADAPTER
    factors = {name.removeprefix(PEFT): value for name, value in _read(path)[0].items()}
    inner, alpha = model.backbone.model, find_alpha(folder, None)
    layers = sorted({name.partition(".lora_")[0] for name in factors})
    known = dict(inner.named_modules())
    if strange := [layer for layer in layers if layer not in known]:
        raise InputError(f"{path} does not fit this backbone: it has no layer {strange[0]}")
    if not merge:
        fields = read_json(folder / ADAPTER_CONFIG)
        config = LoraConfig(r=fields["r"], lora_alpha=alpha, target_modules=layers, bias="none")
        inject_adapter_in_model(config, inner)
    for layer in layers:
        first, second = (factors[f"{layer}.lora_{side}.weight"] for side in "AB")
        if merge:
            weight = known[layer].weight
            product = (alpha / len(first)) * (second.float() @ first.float())
            weight.copy_(weight.float() + product.to(weight.device))
        else:
            module = inner.get_submodule(layer)
            module.lora_A["default"].weight.copy_(first)
            module.lora_B["default"].weight.copy_(second)
