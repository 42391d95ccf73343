"""TinyViT-5M, the image encoder of MobileSAM (`vit_t`).

Wu et al. 2022, "TinyViT: Fast Pretraining Distillation for Small Vision Transformers"
(arXiv 2207.10666), section 3 and table 1; Zhang et al. 2023, "Faster Segment Anything: Towards
Lightweight SAM for Mobile Applications" (arXiv 2306.14289), section 3: the last stage is not
strided, and SAM's neck follows, so that the output has ViT-H's shape. Parameter names and shapes
are those of the published `mobile_sam.pt`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvBatchNorm(nn.Module):
    """Convolution without bias, then batch normalisation; one convolution when not training."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.c = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/stride, w/stride], rounded up."""
        if self.training:
            return self.bn(self.c(x))
        # Folding at every call costs a few thousand multiplications, spares a pass over the feature map
        # and leaves the state dict as published.
        scale = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        bias = self.bn.bias - self.bn.running_mean * scale
        weight = self.c.weight * scale[:, None, None, None]
        return functional.conv2d(x, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)


class PatchEmbedding(nn.Module):
    """Two strided 3x3 convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.seq = nn.Sequential(
            ConvBatchNorm(3, channels // 2, 3, stride=2),
            nn.GELU(),
            ConvBatchNorm(channels // 2, channels, 3, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, C, H/4, W/4], rounded up."""
        return self.seq(x)


class InvertedBottleneck(nn.Module):
    """MBConv: 1x1 expansion by four, 3x3 depth-wise, 1x1 projection, residual."""

    def __init__(self, channels: int, expansion: int = 4):
        super().__init__()
        hidden = channels * expansion
        self.conv1 = ConvBatchNorm(channels, hidden, 1)
        self.conv2 = ConvBatchNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvBatchNorm(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C, h, w]."""
        hidden = functional.gelu(self.conv1(x))
        hidden = functional.gelu(self.conv2(hidden))
        return functional.gelu(x + self.conv3(hidden))


class Downsample(nn.Module):
    """Changes the width and, with `stride` 2, halves the map: 1x1, 3x3 depth-wise, 1x1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = ConvBatchNorm(in_channels, out_channels, 1)
        self.conv2 = ConvBatchNorm(out_channels, out_channels, 3, stride=stride, groups=out_channels)
        self.conv3 = ConvBatchNorm(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h/stride, w/stride], rounded up."""
        x = functional.gelu(self.conv1(x))
        x = functional.gelu(self.conv2(x))
        return self.conv3(x)


class WindowAttention(nn.Module):
    """Multi-head attention in one window; a learned bias per head for every |row|, |col| offset.

    The fused projection holds query, key and value of head 0, then of head 1, and so on.
    """

    def __init__(self, width: int, num_heads: int, window: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))
        # Follows from the window alone, so it is not stored (mobile_sam.pt does not hold it either).
        self.register_buffer("bias_index", _offset_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Windows [B, L, D], L = window squared in row-major order, to [B, L, D]."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, self.num_heads, 3, width // self.num_heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        bias = self.attention_biases[:, self.bias_index].to(query.dtype)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return self.proj(attended.transpose(1, 2).reshape(batch, length, width))


def _offset_index(window: int) -> Tensor:
    """int64 [L, L]: |row offset| * window + |column offset| between two places of a window."""
    rows, cols = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    rows, cols = rows.flatten(), cols.flatten()
    return (rows[:, None] - rows).abs() * window + (cols[:, None] - cols).abs()


class FeedForward(nn.Module):
    """Normalisation and a two-layer perceptron with GELU."""

    def __init__(self, width: int, ratio: int = 4):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return self.fc2(functional.gelu(self.fc1(self.norm(x))))


class TransformerBlock(nn.Module):
    """Window attention, a 3x3 depth-wise convolution over the whole map, feed-forward."""

    def __init__(self, width: int, num_heads: int, window: int):
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, num_heads, window)
        self.local_conv = ConvBatchNorm(width, width, 3, groups=width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, D] to [B, h, w, D]."""
        x = x + self._attend(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        size = self.window
        # Zeros fill the last windows and are attended to like any other place: the public weights
        # were trained so.
        x = functional.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        rows, cols = x.shape[1] // size, x.shape[2] // size
        windows = x.view(batch, rows, size, cols, size, channels).transpose(2, 3)
        windows = self.attn(windows.reshape(-1, size * size, channels))
        x = windows.view(batch, rows, cols, size, size, channels).transpose(2, 3)
        return x.reshape(batch, rows * size, cols * size, channels)[:, :height, :width]


class ConvStage(nn.Module):
    """First stage: MBConv blocks, then a downsampling."""

    def __init__(self, channels: int, depth: int, downsample: nn.Module):
        super().__init__()
        self.blocks = nn.ModuleList(InvertedBottleneck(channels) for _ in range(depth))
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, w] to the stage's map and the next stage's input."""
        for block in self.blocks:
            x = block(x)
        return x, self.downsample(x)


class TransformerStage(nn.Module):
    """Later stages: transformer blocks, then a change of width unless it is the last."""

    def __init__(self, width: int, depth: int, num_heads: int, window: int, downsample: nn.Module | None):
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, window) for _ in range(depth))
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, w] to the stage's map and the next stage's input."""
        x = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2)
        return x, x if self.downsample is None else self.downsample(x)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [B, C, h, w]."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C, h, w]."""
        channels_last = functional.layer_norm(
            x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps
        )
        return channels_last.permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """TinyViT-5M with SAM's neck.

    Args:
        out_channels: width of the embedding, 256 in SAM.
        num_classes: rows of the classification head of the distilled ancestor. The head is part of the
            published file and so of the layout; segmentation never calls it.
    """

    widths = (64, 128, 160, 320)
    depths = (2, 2, 6, 2)
    num_heads = (2, 4, 5, 10)
    windows = (7, 7, 14, 7)
    level_strides = (4, 8, 16)

    def __init__(self, out_channels: int = 256, num_classes: int = 1000):
        super().__init__()
        self.patch_embed = PatchEmbedding(self.widths[0])
        stages: list[nn.Module] = []
        for stage, width in enumerate(self.widths):
            last = stage == len(self.widths) - 1
            # The third change of width keeps the resolution, so the last stage works at stride 16.
            downsample = None if last else Downsample(width, self.widths[stage + 1], 1 if stage == 2 else 2)
            if stage == 0:
                stages.append(ConvStage(width, self.depths[stage], downsample))
            else:
                stages.append(
                    TransformerStage(
                        width, self.depths[stage], self.num_heads[stage], self.windows[stage], downsample
                    )
                )
        self.layers = nn.ModuleList(stages)
        self.norm_head = nn.LayerNorm(self.widths[-1])
        self.head = nn.Linear(self.widths[-1], num_classes)
        self.neck = nn.Sequential(
            nn.Conv2d(self.widths[-1], out_channels, 1, bias=False),
            ChannelNorm(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            ChannelNorm(out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        """SAM's image embedding.

        Args:
            images: float [B, 3, H, W], normalised; any size (1024x1024 in SAM).

        Returns:
            float [B, 256, ceil(H/16), ceil(W/16)].
        """
        return self.forward_levels(images)[0]

    def forward_levels(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The embedding and the maps of the first three stages.

        Args:
            images: float [B, 3, H, W], normalised.

        Returns:
            embedding [B, 256, H/16, W/16], and [B, 64, H/4, W/4], [B, 128, H/8, W/8],
            [B, 160, H/16, W/16] (all rounded up).
        """
        # Channels last spares the transformer stages a copy and is the faster layout for convolutions
        # (1024x576, one AVX-512 core: .60 s against .68 s, in bfloat16 .29 s against .33 s).
        x = self.patch_embed(images.contiguous(memory_format=torch.channels_last))
        levels = []
        for layer in self.layers:
            level, x = layer(x)
            levels.append(level)
        return self.neck(x), (levels[0], levels[1], levels[2])
