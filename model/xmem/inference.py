"""A copy of XMem that computes the same faster, for tracking only.

Batch normalisation becomes part of the convolution before it, weights lie channels-last, and what runs for
each object may run in bfloat16. The key encoder stays in float32, and with it similarity and sensory memory:
which tokens a query reads hangs on small differences of keys (in bfloat16 they cost the masks 1 to 3% IoU),
and sensory memory would carry its rounding from frame to frame. It runs once for all objects of a frame.
"""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.xmem.network import XMem


def for_tracking(network: XMem, dtype: torch.dtype | None = None) -> XMem:
    """The network as it tracks fastest; not for training, and its state dict is no longer XMem's.

    Args:
        network: in evaluation mode; left as it is.
        dtype: of value encoder and decoder; None: as they are.

    Raises:
        ValueError: the network is in training mode, where batch statistics would count.
    """
    if network.training:
        raise ValueError("for_tracking expects a network in evaluation mode: call network.eval() first")
    fast = copy.deepcopy(network).requires_grad_(False)
    _fold_normalisation(fast)
    if dtype is not None:
        fast.map_dtype = dtype
        fast.value_encoder.to(dtype)
        fast.decoder.to(dtype)
    return fast.to(memory_format=torch.channels_last)


def _fold_normalisation(module: nn.Module) -> None:
    """Fold every batch normalisation into the convolution that stands right before it, in order of names."""
    before = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            folded = fuse_conv_bn_eval(before, child)
            before.weight, before.bias = folded.weight, folded.bias
            setattr(module, name, nn.Identity())
        else:
            _fold_normalisation(child)
        before = child
