"""Decoder layers that forget what they made and make it again in the backward pass."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_layers(decoder: nn.Module) -> None:
    """Turn gradient checkpointing on in a decoder stack that stays in evaluation mode.

    transformers checkpoints only layers in training mode, and that mode turns dropout on. Here the layers
    themselves are put into it but nothing inside them, so that a frozen model computes what it computes in
    use. The kind of checkpointing is the one that lets gradients through queries and keys caught on the way.

    Raises:
        ValueError: the layers are not of the kind that can be checkpointed.
    """
    for layer in decoder.layers:
        if not isinstance(layer, GradientCheckpointingLayer):
            raise ValueError(f"layers of {type(decoder).__name__} cannot be checkpointed")
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        layer.training = True
