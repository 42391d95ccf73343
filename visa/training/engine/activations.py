"""How much memory a forward pass keeps for the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


@dataclass
class KeptMemory:
    """num_bytes: kept so far."""

    num_bytes: int = 0


@contextmanager
def kept_memory(model: nn.Module, device: torch.device) -> Iterator[KeptMemory]:
    """Measure what forward passes within the block keep.

    On a GPU, what is allocated more than before. On a CPU, the tensors that autograd saves, without weights;
    there, what gradient checkpointing keeps itself is not seen.
    """
    kept = KeptMemory()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        yield kept
        kept.num_bytes = torch.cuda.memory_allocated(device) - before
        return
    seen = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept.num_bytes += storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept
