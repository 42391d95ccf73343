"""A vision-language model of the hub becomes a backbone: found, told apart, weighed, and read in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel

from model.backbones.families import backbone_for, family_names
from model.backbones.transformers_backbone import TransformersBackbone
from visa.checkpoints.configuration import read_json
from visa.checkpoints.location import locate
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.quantisation import BYTES
from visa.errors import InputError
from visa.memory_estimate import MemoryEstimate, Need

# Positions whose keys and values are kept while a question is answered: a dozen frames and text.
POSITIONS = 6144


def find_backbone(where: str | Path, folder: Path | None = None) -> Path:
    """The folder of a vision-language model that there is an adapter for.

    Args:
        where: a folder, or a repository of the hub, fetched into its cache where need be.
        folder: in which a relative path is looked for first.

    Raises:
        InputError: no such folder, or another architecture. DownloadError.
    """
    path = locate(where, folder)
    config = path / "config.json"
    if not config.is_file():
        raise InputError(f"{path} holds no model of transformers: it has no config.json")
    family = read_json(config).get("model_type")
    if family not in family_names():
        raise InputError(f"{path} is a {family}; expected one of {', '.join(family_names())}")
    return path


def load_backbone(
    where: str | Path,
    options: LoadOptions,
    *,
    name: str = "the model",
    beside: Mapping[str, float] | None = None,
) -> TransformersBackbone:
    """Load a vision-language model, in evaluation mode and without gradients.

    Args:
        where: of `find_backbone`.
        options: how and where; ``tower``, ``sam`` and ``lora_alpha`` do not concern it.
        name: what to call it when its memory is told, on stderr.
        beside: bytes that other parts of the system take on the same device, by name.

    Raises:
        InputError: configuration or weights missing or damaged, no tokenizer of such a model, or not enough
            memory. DownloadError.
    """
    path = find_backbone(where)
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"{path / 'config.json'} describes no model: {_one_line(error)}") from error
    need = estimate(name, config, options, beside or {})
    print(f"visa: {need}", file=sys.stderr)
    if options.check_memory:
        need.check()
    model = _read(path, config, options)
    try:
        known = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{path} has no tokenizer that can be read: {_one_line(error)}") from error
    try:
        return backbone_for(model.eval().requires_grad_(False), known, **pixel_settings(path))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def pixel_settings(path: Path) -> dict[str, Any]:
    """What a model's folder says of how pixels are made ready; nothing where it says nothing."""
    if (path / "preprocessor_config.json").is_file():
        return read_json(path / "preprocessor_config.json")
    if (path / "processor_config.json").is_file():
        return read_json(path / "processor_config.json").get("image_processor") or {}
    return {}


def estimate(name: str, config: Any, options: LoadOptions, beside: Mapping[str, float]) -> MemoryEstimate:
    """What a backbone takes: its weights, the keys and values of a conversation, and what is beside it."""
    with init_empty_weights(include_buffers=False):
        model = AutoModelForImageTextToText.from_config(config)
    totals = {"language": 0.0, "vision": 0.0}
    quantised = set(_quantised(model)) if options.bits else set()
    for tensor_name, tensor in model.named_parameters():
        part = "language" if _is_language(tensor_name) else "vision"
        small = tensor_name.removesuffix(".weight") in quantised
        totals[part] += tensor.numel() * (BYTES[options.bits] if small else options.torch_dtype.itemsize)
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    positions = min(POSITIONS, text.max_position_embeddings)
    totals["keys and values"] = 2 * text.num_hidden_layers * width * positions * options.torch_dtype.itemsize
    device = str(options.torch_device)
    needs = {**totals, **beside}
    return MemoryEstimate(name, tuple(Need(part, device, total) for part, total in needs.items()))


def _read(path: Path, config: Any, options: LoadOptions) -> PreTrainedModel:
    """The weights, on the device.

    Raises:
        InputError: some are missing, of other shapes, or damaged.
    """
    place: Any = options.device_map or {"": str(options.torch_device)}
    if isinstance(place, Mapping) and not options.device_map and options.torch_device.type == "cpu":
        place = None
    try:
        model, told = AutoModelForImageTextToText.from_pretrained(
            path,
            config=config,
            dtype=options.torch_dtype,
            attn_implementation=options.attention,
            device_map=place,
            output_loading_info=True,
            **({"quantization_config": _quantisation(options)} if options.bits else {}),
        )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {_one_line(error)}") from error
    if missing := sorted(told["missing_keys"]):
        raise InputError(
            f"{path} does not fit this model: it lacks {len(missing)} tensors, such as {missing[0]}"
        )
    return model


def _quantisation(options: LoadOptions) -> Any:
    """For bitsandbytes: the language model's layers alone."""
    from transformers import BitsAndBytesConfig

    kept = ["visual", "vision_tower", "vision_model", "multi_modal_projector", "connector", "lm_head"]
    if options.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=options.torch_dtype,
        llm_int8_skip_modules=kept,
    )


def _quantised(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _is_language(name) and ".layers." in name
    ]


def _is_language(name: str) -> bool:
    return any(part in name for part in ("language_model.", "text_model.", "lm_head")) and not any(
        part in name for part in ("visual.", "vision_tower.", "vision_model.")
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
