"""Weights into an empty model, tensor by tensor: in memory are the model and the one on its way."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from tqdm import tqdm

from visa.checkpoints.lora import read_whole
from visa.checkpoints.published_names import Source
from visa.checkpoints.quantisation import as_parameter
from visa.checkpoints.tensor_files import TensorFiles


def fill(
    module: nn.Module,
    sources: Mapping[str, Source],
    files: TensorFiles,
    *,
    device: Callable[[str], torch.device],
    dtype: Callable[[str], torch.dtype],
    alpha: float | None = None,
    label: str | None = None,
) -> None:
    """Fill a module whose parameters stand on the meta device; they come without gradients.

    Args:
        sources: for every tensor of the module's state dict where it is stored.
        device, dtype: for a tensor's name where it goes and what it becomes.
        alpha: LoRA's α, where factors are to be merged.
        label: of the progress bar, drawn on a terminal only; None draws none.
    """
    for name, source in tqdm(
        sources.items(), desc=label, unit="tensor", disable=None if label else True, leave=False
    ):
        owner_name, _, own = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        value = read_whole(files, source, alpha)
        # A copy always: what was read may be a view of the file.
        value = value.to(dtype(name), copy=True)
        if own in owner._parameters:
            owner._parameters[own] = as_parameter(owner._parameters[own], value, device(name))
        else:
            owner._buffers[own] = value.to(device(name))


def settle(module: nn.Module, device: Callable[[str], torch.device]) -> None:
    """Move the buffers that no checkpoint holds (angles, patch numbers) to their places.

    Raises:
        RuntimeError: a parameter is still empty.
    """
    for name, parameter in module.named_parameters():
        if parameter.is_meta:
            raise RuntimeError(f"{name} was not filled")
    for name, buffer in module.named_buffers():
        owner_name, _, own = name.rpartition(".")
        module.get_submodule(owner_name)._buffers[own] = buffer.to(device(name))
