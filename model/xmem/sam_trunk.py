"""A key trunk that computes next to nothing: it takes the maps that SAM's image encoder has made already.

TinyViT's maps (Zhang et al. 2023, MobileSAM) are brought to the widths of a small XMem by one 1x1 convolution
each.
Shapes: B batch, h w the grid at stride 16, C channels, M tokens.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.xmem.blocks import ConvolutionalAttention, FeatureFusion, GroupResBlock
from model.xmem.network import XMem
from model.xmem.resnet import BasicBlock

# Width of SAM's embedding and of TinyViT's maps at strides 16, 8 and 4.
SAM_CHANNELS = (256, 160, 128, 64)

# Slope of the logit over the share of the object read from memory, of an untrained network.
SHARPNESS = 8.0
# Bias of a channel's gate that keeps it shut (the gate sums it twice).
CLOSED = -3.0


class SamFeatureTrunk(nn.Module):
    """SAM's maps to the trunk maps of XMem.

    Args:
        channels: of the trunk maps at strides 16, 8 and 4.
        sam_channels: of the embedding and of the encoder's maps at strides 16, 8 and 4.
    """

    def __init__(
        self, channels: tuple[int, int, int] = (128, 32, 16), sam_channels: Sequence[int] = SAM_CHANNELS
    ):
        super().__init__()
        self.channels = channels
        embedding, level16, level8, level4 = sam_channels
        # Two more for the place in the frame, so that what is near is preferred among what looks alike.
        self.project16 = nn.Conv2d(embedding + level16 + 2, channels[0], 1)
        self.project8 = nn.Conv2d(level8, channels[1], 1)
        self.project4 = nn.Conv2d(level4, channels[2], 1)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embedding and encoder maps, float [B, C_i, ...] -> maps at strides 16, 8, 4."""
        embedding, level16, level8, level4 = maps
        return (
            self.project16(torch.cat([self.join(embedding, level16), _places(level16)], 1)),
            self.project8(_standardised(level8.float())),
            self.project4(_standardised(level4.float())),
        )

    @staticmethod
    def join(embedding: Tensor, level16: Tensor) -> Tensor:
        """Both maps at stride 16, each of length 1 at every position, as one of length 1: float32."""
        both = [functional.normalize(each.float(), dim=1) for each in (embedding, level16)]
        return torch.cat(both, 1) / math.sqrt(2)


def _places(like: Tensor) -> Tensor:
    """(x, y) of every position of [B, C, h, w], in grid cells / 16, from the middle: float32 [B, 2, h, w]."""
    rows, columns = (
        (torch.arange(side, device=like.device, dtype=torch.float32) - (side - 1) / 2) / 16
        for side in like.shape[-2:]
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    return grid.expand(len(like), -1, -1, -1)


def _standardised(features: Tensor) -> Tensor:
    """Root mean square 1 over the channels at every position."""
    return features * torch.rsqrt(features.square().mean(1, keepdim=True) + 1e-6)


def build_sam_xmem() -> XMem:
    """The small XMem of the `embedded` preset: the published network's layers on SAM's maps, untrained."""
    return XMem(
        key_dim=64,
        value_dim=96,
        hidden_dim=32,
        trunk=SamFeatureTrunk((128, 32, 16)),
        value_stem=16,
        value_widths=(16, 32, 64),
        value_depths=(1, 1, 1),
        norm=nn.Identity,
        decoder_widths=(96, 32, 16),
        update_width=32,
    )


@torch.no_grad()
def start_as_feature_matcher(
    network: XMem,
    maps: Iterable[tuple[Tensor, Tensor]],
    temperature: float = 0.07,
    nearness: float = 12.0,
) -> None:
    """Make an untrained network follow objects by SAM's features as they are.

    Keys become the principal axes of the features, so that the similarity of two tokens is the cosine of
    their features over ``temperature``, up to the axes left out; the mask is passed on as it is. Training
    improves on a tracker that works.

    Args:
        network: of ``build_sam_xmem``.
        maps: embeddings and stride-16 maps of some frames.
        temperature: of the softmax over memory.
        nearness: distance in grid cells that makes a token e^-1/2 as likely to be read.
    """
    _compare_principal_axes(network, maps, temperature, nearness)
    pass_mask_on(network)


@torch.no_grad()
def pass_mask_on(network: XMem) -> None:
    """Let the first channel of every layer on the way from the mask to the logits pass the mask on.

    Averaged to stride 16 it is the first channel of the value, and what memory reads of it is enlarged to the
    prediction. All other channels stay as they are.
    """
    value_encoder, decoder = network.value_encoder, network.decoder
    frame_channels = network.key_encoder.channels[0]
    value_encoder.conv1.weight[0] = 0
    value_encoder.conv1.weight[0, 3, 2:5, 2:5] = 1 / 9
    for stage in (value_encoder.layer1, value_encoder.layer2, value_encoder.layer3):
        for block in stage:
            _average_first_channel(block)
    for fusion in (value_encoder.fuser, decoder.fuser):
        _pass_channel(fusion, frame_channels)
    for upsample in (decoder.up_16_8, decoder.up_8_4):
        upsample.skip_conv.weight[0], upsample.skip_conv.bias[0] = 0, 0
        _pass_channel(upsample.out_conv, 0)
    decoder.pred.weight.zero_()
    decoder.pred.weight[0, 0, 1, 1], decoder.pred.bias[0] = SHARPNESS, -SHARPNESS / 2


def _compare_principal_axes(
    network: XMem, maps: Iterable[tuple[Tensor, Tensor]], temperature: float, nearness: float
) -> None:
    tokens = torch.cat([SamFeatureTrunk.join(*pair).movedim(1, -1).flatten(0, -2) for pair in maps])
    trunk, keys = network.key_encoder, network.key_proj
    mean = tokens.mean(0)
    _, axes = torch.linalg.eigh((tokens - mean).T @ (tokens - mean))
    width = trunk.project16.out_channels
    axes = axes.flip(1)[:, : width - 2].T
    gain = width**0.5 / (tokens - mean).norm(dim=1).mean()
    # The first two channels are the place, the others the axes.
    trunk.project16.weight.zero_()
    trunk.project16.weight[[0, 1], [-2, -1]] = 1
    trunk.project16.weight[2:, :-2, 0, 0] = gain * axes
    trunk.project16.bias.zero_()
    trunk.project16.bias[2:] = -gain * axes @ mean
    for projection in (keys.d_proj, keys.e_proj):
        projection.weight.mul_(0.02)
        projection.bias.zero_()
    diagonal = torch.arange(network.key_dim)
    keys.key_proj.weight.zero_()
    keys.key_proj.bias.zero_()
    # With a selection of 1/2, exp(-|k - q|^2 / (2 sqrt(C))) is to be exp(cosine / temperature).
    keys.key_proj.weight[diagonal, diagonal, 1, 1] = network.key_dim**0.25 / temperature**0.5 / gain
    keys.key_proj.weight[[0, 1], [0, 1], 1, 1] = 16 * network.key_dim**0.25 / nearness


def _average_first_channel(block: BasicBlock) -> None:
    """First channel: the 3x3 mean of the first input channel where the block halves the map, else itself."""
    block.conv2.weight[0] = 0
    if block.downsample is not None:
        block.downsample[0].weight[0] = 0
        block.conv1.weight[0] = 0
        block.conv1.weight[0, 0] = 1 / 9
        block.conv2.weight[0, 0, 1, 1] = 1


def _pass_channel(layer: FeatureFusion | GroupResBlock | ConvolutionalAttention, source: int) -> None:
    """Make the first output channel the input channel ``source`` (for attention: nearly zero)."""
    if isinstance(layer, FeatureFusion):
        _pass_channel(layer.block1, source)
        _pass_channel(layer.attention, 0)
        _pass_channel(layer.block2, 0)
    elif isinstance(layer, ConvolutionalAttention):
        layer.ChannelGate.mlp[3].weight[0], layer.ChannelGate.mlp[3].bias[0] = 0, CLOSED
    else:
        layer.conv2.weight[0], layer.conv2.bias[0] = 0, 0
        if layer.downsample is not None:
            layer.downsample.weight[0], layer.downsample.bias[0] = 0, 0
            layer.downsample.weight[0, source, 1, 1] = 1
