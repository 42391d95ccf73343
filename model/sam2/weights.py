"""SAM 2 from a folder: `facebook/sam2-hiera-large`, `facebook/sam2.1-hiera-*`, or one trained further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from model.sam2.network import Sam2Network

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# `model_type` of config.json: of the image part alone, and of the whole, which is what was published.
KINDS = ("sam2", "sam2_video")


def load_sam2(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    weights_dtype: torch.dtype = torch.float32,
    dtype: torch.dtype | None = None,
) -> Sam2Network:
    """The network that a folder holds.

    Args:
        folder: with `config.json` and weights.
        device: where to run.
        weights_dtype: of the weights in memory.
        dtype: autocast to it, see `Sam2Network`.

    Raises:
        ValueError: no SAM 2 there, or weights that lack something or have other shapes.
    """
    # Nobody else waits for the library to look for its models.
    from transformers import Sam2Model, Sam2VideoModel

    folder = Path(folder)
    config = _read_config(folder)
    try:
        kind = Sam2Model if config.model_type == KINDS[0] else Sam2VideoModel
        model, report = kind.from_pretrained(
            folder, config=config, dtype=weights_dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: SAM 2's weights cannot be read: {_one_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{folder}: {len(missing)} of SAM 2's tensors are missing, such as {missing[0]}")
    return Sam2Network(model.eval().requires_grad_(False).to(device), dtype=dtype, source=folder)


def _read_config(folder: Path) -> PreTrainedConfig:
    from transformers import Sam2Config, Sam2VideoConfig
    from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoMaskDecoderConfig

    try:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = fields.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder} holds no SAM 2: it has no readable config.json") from error
    if kind not in KINDS:
        raise ValueError(f"{folder} holds no SAM 2: its config.json is of a {kind!r}, not of a sam2_video")
    try:
        if kind == KINDS[0]:
            return Sam2Config.from_dict(fields)
        # transformers 5.17 takes a dict in this place for a prompt encoder's configuration.
        decoder = Sam2VideoMaskDecoderConfig(**(fields.pop("mask_decoder_config", None) or {}))
        return Sam2VideoConfig.from_dict({**fields, "mask_decoder_config": decoder})
    except (ValueError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ValueError(f"{folder}: its config.json describes no SAM 2: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
