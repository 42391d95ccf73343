"""8- and 4-bit weights for the language model's layers, and for nothing else.

Dettmers et al. 2022, "LLM.int8()" (arXiv 2208.07339) and 2023, "QLoRA" (arXiv 2305.14314), through
bitsandbytes.
"""

import logging

import torch
from torch import Tensor, nn

# Bytes a weight takes, with its scales: one float32 for 64 (NF4), one for each row of thousands (int8).
BYTES = {8: 1.0, 4: 0.5 + 4 / 64}


def quantisable(language: nn.Module) -> list[str]:
    """Names of the linear layers that are quantised: those inside the decoder's layers."""
    return [
        name
        for name, module in language.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("model.layers.")
    ]


def prepare(language: nn.Module, bits: int, dtype: torch.dtype) -> None:
    """Put bitsandbytes' layers, still empty, in the place of the linear ones.

    Args:
        language: the causal LM, on the meta device. bits: 8 or 4. dtype: of the arithmetic in 4 bits.
    """
    from bitsandbytes import nn as quantised

    # It would say for every product that int8 arithmetic goes through float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for name in quantisable(language):
        linear = language.get_submodule(name)
        sizes = (linear.in_features, linear.out_features, linear.bias is not None)
        with torch.device("meta"):
            if bits == 8:
                layer = quantised.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=6.0)
            else:
                layer = quantised.Linear4bit(
                    *sizes, compute_dtype=dtype, quant_type="nf4", compress_statistics=False
                )
        language.set_submodule(name, layer.requires_grad_(False))


def as_parameter(old: nn.Parameter, value: Tensor, device: torch.device) -> nn.Parameter:
    """A parameter of the same kind as the empty one, with a value, on its device; quantised on the way there.

    Args:
        old: the place's parameter on the meta device.
        value: on the CPU, in the dtype it is to have if it is not quantised.
    """
    kind = type(old)
    if kind is nn.Parameter:
        return nn.Parameter(value.to(device), requires_grad=False)
    # bitsandbytes quantises on the move to a device, with the settings of the empty parameter.
    settings = {name: setting for name, setting in old.__dict__.items() if name in _SETTINGS[kind.__name__]}
    return kind(value.contiguous(), requires_grad=False, **settings).to(device)


_SETTINGS = {
    "Params4bit": ("blocksize", "compress_statistics", "quant_type", "quant_storage", "module"),
    "Int8Params": ("has_fp16_weights",),
}
