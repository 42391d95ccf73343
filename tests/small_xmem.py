"""A tiny XMem, and clips for it."""

from __future__ import annotations

import numpy as np
import torch

from model.xmem import XMem
from model.xmem.resnet import Norm, ResNetKeyTrunk, group_norm
from visa.propagation import ImageEncoder
from visa.video import Video


def small_network(hidden_dim: int = 8, seed: int = 0, norm: Norm = group_norm) -> XMem:
    torch.manual_seed(seed)
    network = XMem(
        key_dim=8,
        value_dim=16,
        hidden_dim=hidden_dim,
        trunk=ResNetKeyTrunk(stem=8, widths=(4, 6, 8), depths=(1, 1, 1)),
        value_stem=8,
        value_widths=(8, 8, 16),
        value_depths=(1, 1, 1),
        norm=norm,
        decoder_widths=(16, 12, 8),
        update_width=8,
    )
    with torch.no_grad():
        # Masks must matter to untrained weights for these tests to see anything.
        network.value_encoder.conv1.weight[:, 3:] *= 8
        network.decoder.pred.weight *= 50
    return network.eval()


def moving_square(
    num_frames: int, height: int, width: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num_frames, 3, height, width, generator=generator) * 0.3
    masks = torch.zeros(num_frames, height, width)
    for t in range(num_frames):
        left = t % max(1, width // 2)
        masks[t, height // 4 : height // 4 + height // 2 + 1, left : left + width // 3 + 1] = 1
    return images + 2 * masks[:, None], masks


class CountingEncoder:
    def __init__(self, network: XMem):
        self.encoder, self.calls = ImageEncoder(network, None), 0

    def __call__(self, frame: np.ndarray):
        self.calls += 1
        return self.encoder(frame)


def clip(num_frames: int, height: int = 40, width: int = 56) -> Video:
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
    return Video.from_frames(frames)
