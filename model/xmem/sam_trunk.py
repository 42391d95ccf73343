"""A key trunk that computes next to nothing: it takes the maps that SAM's image encoder has made already.

The `embedded` preset encodes a frame once, for SAM and for the tracker. TinyViT's maps (Zhang et al. 2023,
MobileSAM) are brought to the widths of a small XMem by one 1x1 convolution each.
Shapes: B batch, h w the grid at stride 16, C channels, M tokens.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.xmem.network import XMem
from model.xmem.resnet import group_norm

# Width of SAM's embedding and of TinyViT's maps at strides 16, 8 and 4.
SAM_CHANNELS = (256, 160, 128, 64)


class SamFeatureTrunk(nn.Module):
    """SAM's maps to the trunk maps of XMem.

    Args:
        channels: of the trunk maps at strides 16, 8 and 4.
        sam_channels: of the embedding and of the encoder's maps at strides 16, 8 and 4.
    """

    def __init__(
        self, channels: tuple[int, int, int] = (128, 64, 32), sam_channels: Sequence[int] = SAM_CHANNELS
    ):
        super().__init__()
        self.channels = channels
        embedding, level16, level8, level4 = sam_channels
        self.project16 = nn.Conv2d(embedding + level16, channels[0], 1)
        self.project8 = nn.Conv2d(level8, channels[1], 1)
        self.project4 = nn.Conv2d(level4, channels[2], 1)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embedding and encoder maps, float [B, C_i, ...] -> maps at strides 16, 8, 4."""
        embedding, level16, level8, level4 = maps
        return (
            self.project16(self.join(embedding, level16)),
            self.project8(_standardised(level8.float())),
            self.project4(_standardised(level4.float())),
        )

    @staticmethod
    def join(embedding: Tensor, level16: Tensor) -> Tensor:
        """Both maps at stride 16, each of length 1 at every position, as one of length 1: float32."""
        both = [functional.normalize(each.float(), dim=1) for each in (embedding, level16)]
        return torch.cat(both, 1) / math.sqrt(2)


def _standardised(features: Tensor) -> Tensor:
    """Zero mean and unit variance over the channels at every position."""
    variance, mean = torch.var_mean(features, dim=1, keepdim=True, correction=0)
    return (features - mean) * torch.rsqrt(variance + 1e-5)


def build_sam_xmem() -> XMem:
    """The small XMem of the `embedded` preset: the published network's layers on SAM's maps, untrained."""
    return XMem(
        key_dim=64,
        value_dim=96,
        hidden_dim=32,
        trunk=SamFeatureTrunk((128, 64, 32)),
        value_stem=16,
        value_widths=(16, 32, 64),
        value_depths=(1, 1, 1),
        norm=group_norm,
        decoder_widths=(96, 64, 32),
        update_width=48,
    )


@torch.no_grad()
def start_as_feature_matcher(
    network: XMem, maps: Iterable[tuple[Tensor, Tensor]], temperature: float = 0.07
) -> None:
    """Make an untrained network's keys compare SAM's features as they are.

    The projections become the principal axes of the features, so that before any training the similarity of
    two tokens is the cosine of their features over ``temperature``, up to the axes left out. What is left to
    learn is small.

    Args:
        network: of ``build_sam_xmem``.
        maps: embeddings and stride-16 maps of some frames.
        temperature: of the softmax over memory.
    """
    tokens = torch.cat([SamFeatureTrunk.join(*pair).movedim(1, -1).flatten(0, -2) for pair in maps])
    trunk, keys = network.key_encoder, network.key_proj
    width = trunk.project16.out_channels
    mean = tokens.mean(0)
    _, axes = torch.linalg.eigh((tokens - mean).T @ (tokens - mean))
    axes = axes.flip(1)[:, :width].T
    gain = width**0.5 / (tokens - mean).norm(dim=1).mean()
    trunk.project16.weight.copy_(gain * axes[:, :, None, None])
    trunk.project16.bias.copy_(-gain * axes @ mean)
    # exp(-|k - q|^2 / (2 sqrt(C))), selection being 1/2, must be exp(cosine / temperature).
    scale = (network.key_dim**0.5 / temperature) ** 0.5 / gain
    for projection in (keys.key_proj, keys.d_proj, keys.e_proj):
        projection.weight.mul_(0.05 * scale if projection is keys.key_proj else 0.02)
        projection.bias.zero_()
    diagonal = torch.arange(network.key_dim)
    keys.key_proj.weight.zero_()
    keys.key_proj.weight[diagonal, diagonal, 1, 1] = scale
