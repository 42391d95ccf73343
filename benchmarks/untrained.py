"""Trackers with random weights that follow what looks alike: time and memory do not depend on weights."""

from __future__ import annotations


def follow_looks(network, encode, frame, noise: float) -> None:
    """Let an untrained XMem pass masks on to what looks alike, in place.

    Args:
        network: in evaluation mode, without gradients.
        encode: the network's `visa.propagation.ImageEncoder`, or what reads frames for it.
        frame: uint8 [H, W, 3] of the kind to be tracked.
        noise: how much the channels beside the mask's have a say.
    """
    from model.xmem.sam_trunk import pass_mask_on

    pass_mask_on(network)
    network.decoder.pred.weight[:, 1:].normal_(std=noise)
    key = encode(frame).frame_key.key
    # Keys of one frame spread so far that a query reads what looks alike and not everything.
    network.key_proj.key_proj.weight *= 3 / key.std()
    network.key_proj.key_proj.bias.zero_()
    network.key_proj.d_proj.weight *= 0.02
