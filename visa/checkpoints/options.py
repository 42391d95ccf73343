"""How a published model is to be loaded: precision, place, quantisation, attention."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from visa.errors import InputError

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
ATTENTIONS = ("eager", "sdpa", "flash_attention_2")


@dataclass(frozen=True)
class LoadOptions:
    """Options on load; the defaults are a preset's to change.

    dtype: "float32", "bfloat16" or "float16" (or fp32, bf16, fp16) of language model, vision tower, projector
        and [SEG] head. SAM's mask decoder stays in float32, and its image encoder with float16.
    device: where to run.
    device_map: None puts all on ``device``; "auto" spreads the language model's layers over all GPUs; a
        mapping gives devices to "language", "tower" and "sam", or to all modules of the language model
        ("model.embed_tokens", "model.layers.0", ..., "model.norm", "lm_head").
    bits: 8 or 4 quantises the language model's layers through bitsandbytes; embeddings, lm_head, projector,
        [SEG] head, vision tower and SAM are kept out of it. Quantised, they give blank masks.
    attention: "eager", "sdpa" or "flash_attention_2", of the language model.
    tower: a CLIP folder or repository in place of the one that config.json names.
    sam: SAM's weights (``.pth``) for a checkpoint without them, such as Chat-UniVi itself.
    lora_alpha: LoRA's α where nothing beside the weights says it.
    untrained: let a [SEG] head that the checkpoint lacks keep initial weights, to train it.
    check_memory: refuse what cannot fit.

    Raises:
        InputError: an option that does not exist, or cannot be had on this machine.
    """

    dtype: str = "bfloat16"
    device: str | torch.device = "cpu"
    device_map: str | Mapping[str, str | int] | None = None
    bits: int | None = None
    attention: str = "sdpa"
    tower: str | Path | None = None
    sam: str | Path | None = None
    lora_alpha: float | None = None
    untrained: bool = False
    check_memory: bool = True

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.bits not in (None, 4, 8):
            raise InputError(f"bits must be 4 or 8, or None for no quantisation, not {self.bits!r}")
        if self.attention not in ATTENTIONS:
            raise InputError(f"attention must be one of {', '.join(ATTENTIONS)}, not {self.attention!r}")
        if isinstance(self.device_map, str) and self.device_map != "auto":
            raise InputError(
                f"device_map must be 'auto' or name parts and their devices, not {self.device_map!r}"
            )
        if self.bits and find_spec("bitsandbytes") is None:
            raise InputError(
                f"{self.bits} bits need the package bitsandbytes: pip install -r requirements-gpu.txt, "
                "or load without quantisation"
            )
        if self.attention == "flash_attention_2":
            self._check_flash_attention()
        if self.torch_device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device {self.device} is asked for, but torch sees no GPU; use device='cpu'")

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` as torch calls it."""
        return DTYPES[self.dtype]

    @property
    def torch_device(self) -> torch.device:
        """``device`` as torch calls it."""
        try:
            return torch.device(self.device)
        except RuntimeError as error:
            raise InputError(f"there is no device {self.device!r}; use 'cpu', 'cuda' or 'cuda:1'") from error

    def _check_flash_attention(self) -> None:
        if find_spec("flash_attn") is None:
            raise InputError(
                "attention 'flash_attention_2' needs the package flash-attn: pip install flash-attn "
                "--no-build-isolation, or use attention 'sdpa'"
            )
        if self.torch_dtype == torch.float32 or self.torch_device.type != "cuda":
            raise InputError(
                "attention 'flash_attention_2' runs on a GPU in bfloat16 or float16; use attention 'sdpa'"
            )
