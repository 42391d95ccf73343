"""How many floating point operations a micro-batch asks for, and how many a device can do.

Counted are the products of linear layers and convolutions, 2 for each weight and place; what gradient
checkpointing computes a second time is not, as usual for model FLOPs utilisation (Chowdhery et al. 2022,
arXiv 2204.02311, appendix B). Attention's own products, a few per cent here, are left out.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class FlopCount:
    """flops: so far."""

    flops: float = 0.0


@contextmanager
def counted_flops(model: nn.Module) -> Iterator[FlopCount]:
    """Count what forward passes within the block ask for, with the backward passes that belong to them."""
    count = FlopCount()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # ZeRO-3 leaves an empty weight behind; its true size is kept beside it.
        size = getattr(module.weight, "ds_numel", module.weight.numel())
        if isinstance(module, nn.Linear):
            forward = 2 * size * (output.numel() // max(1, output.shape[-1]))
        elif isinstance(module, nn.Conv2d):
            forward = 2 * size * output.shape[0] * output.shape[-1] * output.shape[-2]
        else:
            forward = 2 * size * inputs[0].shape[0] * inputs[0].shape[-1] * inputs[0].shape[-2]
        wanted = 1 + int(inputs[0].requires_grad) + int(module.weight.requires_grad)
        count.flops += forward * (wanted if torch.is_grad_enabled() else 1)

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [one.register_forward_hook(note) for one in model.modules() if isinstance(one, kinds)]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def measured_peak(device: torch.device, dtype: torch.dtype, side: int = 8192, repeats: int = 20) -> float:
    """FLOPs per second of a large matrix product on a GPU; 0 on a CPU, where other processes share it."""
    if device.type != "cuda":
        return 0.0
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        left @ right
    torch.cuda.synchronize(device)
    return repeats * 2 * side**3 / (time.perf_counter() - begin)
