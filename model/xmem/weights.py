"""Loading the public XMem weights, strictly."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.xmem.network import XMem

MASK_CONVOLUTION = "value_encoder.conv1.weight"


def load_xmem(weights: Mapping[str, Tensor] | str | Path) -> XMem:
    """Build the published network and fill it.

    key_dim, value_dim and hidden_dim are read off the weights. Weights trained with a single object lack the
    channel of the other objects' masks; they get one of zeros.

    Args:
        weights: a flat state dict, or the path of a file that holds one (``XMem.pth``).

    Returns:
        XMem in evaluation mode, float32, on the CPU.

    Raises:
        ValueError: keys or shapes are not those of XMem.
    """
    if not isinstance(weights, Mapping):
        weights = torch.load(weights, map_location="cpu", weights_only=True)
    weights = dict(weights)
    mask_convolution = weights.get(MASK_CONVOLUTION)
    if mask_convolution is not None and mask_convolution.ndim == 4 and mask_convolution.shape[1] == 4:
        missing = mask_convolution.new_zeros(mask_convolution.shape[0], 1, *mask_convolution.shape[2:])
        weights[MASK_CONVOLUTION] = torch.cat([mask_convolution, missing], 1)
    try:
        key_dim = weights["key_proj.key_proj.weight"].shape[0]
        value_dim = weights["value_encoder.fuser.block2.conv2.weight"].shape[0]
        update = weights.get("decoder.hidden_update.transform.weight")
        network = XMem(key_dim, value_dim, 0 if update is None else update.shape[0] // 3)
        network.load_state_dict(weights, strict=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"these are not XMem weights (a flat state dict as in XMem.pth was expected): {error}"
        ) from error
    return network.eval()
