"""Reading a weight whole: as it is stored, or with LoRA's factors merged into it.

Hu et al. 2021, "LoRA" (arXiv 2106.09685), section 4.1: W + (α / r) B A.
"""

from pathlib import Path

import torch
from torch import Tensor

from visa.checkpoints.configuration import read_json
from visa.checkpoints.published_names import Source
from visa.checkpoints.tensor_files import TensorFiles
from visa.errors import InputError


def read_whole(files: TensorFiles, source: Source, alpha: float | None) -> Tensor:
    """One weight, on the CPU, in its stored dtype; merged in float32 where LoRA's factors lie beside it.

    Args:
        alpha: LoRA's α; r is the number of rows of A.
    """
    weight = files.read(source.stored)
    if source.lora is None:
        return weight
    first, second = (files.read(name).float() for name in source.lora)
    scale = alpha / first.shape[0]
    return torch.addmm(weight.float(), second, first, alpha=scale).to(weight.dtype)


def find_alpha(where: Path, default: float | None) -> float:
    """LoRA's α: of ``adapter_config.json`` beside the weights, else the preset's.

    Raises:
        InputError: neither says it, or the adapter scales in another way.
    """
    path = (where if where.is_dir() else where.parent) / "adapter_config.json"
    if path.is_file():
        fields = read_json(path)
        if fields.get("use_rslora") or fields.get("use_dora") or fields.get("alpha_pattern"):
            raise InputError(
                f"{path}: only plain LoRA is merged; use_rslora, use_dora and alpha_pattern are not"
            )
        return float(fields.get("lora_alpha", default))
    if default is None:
        raise InputError(
            f"{where} holds unmerged LoRA factors, but nothing says their alpha; give lora_alpha"
        )
    return float(default)
