"""The building blocks of XMem's value encoder and decoder, applied to every object alike.

Feature maps of objects are float [B, N, C, h, w]; maps shared by all objects of a frame are float [B, C, h,
w]. Module names are those of the public XMem weights (``ChannelGate`` and ``SpatialGate`` included).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def per_object(module: nn.Module, features: Tensor) -> Tensor:
    """Apply a network for [B, C, h, w] to every object of [B, N, C, h, w]."""
    result = module(features.flatten(0, 1))
    return result.unflatten(0, features.shape[:2])


def resize_objects(features: Tensor, scale: float, mode: str) -> Tensor:
    """Resize maps [B, N, C, h, w] by ``scale`` ("bilinear" with half-pixel centres, or "area")."""
    align = False if mode == "bilinear" else None
    flat = functional.interpolate(features.flatten(0, 1), scale_factor=scale, mode=mode, align_corners=align)
    return flat.unflatten(0, features.shape[:2])


class GroupResBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions (the paper's supplement, "decoder")."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        same = in_channels == out_channels
        self.downsample = None if same else nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """float [B, in, h, w] -> float [B, out, h, w]."""
        inner = self.conv2(functional.relu(self.conv1(functional.relu(features))))
        return inner + (features if self.downsample is None else self.downsample(features))


class _ChannelGate(nn.Module):
    def __init__(self, channels: int, reduction: int):
        super().__init__()
        inner = max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        gate = self.mlp(features.mean((-2, -1))) + self.mlp(features.amax((-2, -1)))
        return features * gate.sigmoid()[..., None, None]


class _SpatialGate(nn.Module):
    def __init__(self, kernel_size: int):
        super().__init__()
        self.spatial = nn.Module()
        self.spatial.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, features: Tensor) -> Tensor:
        pooled = torch.cat([features.amax(1, keepdim=True), features.mean(1, keepdim=True)], 1)
        return features * self.spatial.conv(pooled).sigmoid()


class ConvolutionalAttention(nn.Module):
    """CBAM: a gate per channel, then a gate per position (Woo et al., ECCV 2018)."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7):
        super().__init__()
        self.ChannelGate = _ChannelGate(channels, reduction)
        self.SpatialGate = _SpatialGate(kernel_size)

    def forward(self, features: Tensor) -> Tensor:
        """float [B, C, h, w] -> the same shape."""
        return self.SpatialGate(self.ChannelGate(features))


class FeatureFusion(nn.Module):
    """Joins the frame's map with each object's map: residual block, attention, residual block."""

    def __init__(self, frame_channels: int, object_channels: int, out_channels: int):
        super().__init__()
        self.block1 = GroupResBlock(frame_channels + object_channels, out_channels)
        self.attention = ConvolutionalAttention(out_channels)
        self.block2 = GroupResBlock(out_channels, out_channels)

    def forward(self, frame: Tensor, objects: Tensor) -> Tensor:
        """float [B, frame, h, w] and [B, N, object, h, w] -> float [B, N, out, h, w]."""
        shared = frame.unsqueeze(1).expand(-1, objects.shape[1], -1, -1, -1)
        joined = torch.cat([shared, objects], 2).flatten(0, 1)
        joined = self.block1(joined)
        joined = self.block2(joined + self.attention(joined))
        return joined.unflatten(0, objects.shape[:2])


class UpsampleBlock(nn.Module):
    """Doubles the size of the objects' maps and adds the frame's map of that size."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int):
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_channels, in_channels, 3, padding=1)
        self.out_conv = GroupResBlock(in_channels, out_channels)

    def forward(self, skip: Tensor, objects: Tensor) -> Tensor:
        """float [B, skip, 2h, 2w] and [B, N, in, h, w] -> float [B, N, out, 2h, 2w]."""
        objects = resize_objects(objects, 2, "bilinear")
        return per_object(self.out_conv, objects + self.skip_conv(skip).unsqueeze(1))


def gated_update(gates: Tensor, sensory: Tensor) -> Tensor:
    """The gated recurrent update of sensory memory (XMem section 3.5).

    Unlike Cho et al. 2014 the candidate value does not pass the forget gate; public weights are trained this
    way.

    Args:
        gates: float [B, N, 3 C, h, w]: forget, update and candidate, before their non-linearities.
        sensory: float [B, N, C, h, w].

    Returns:
        The new sensory state, float [B, N, C, h, w].
    """
    forget, update, candidate = gates.chunk(3, dim=2)
    update = update.sigmoid()
    return forget.sigmoid() * sensory * (1 - update) + update * candidate.tanh()


class SensoryReinforcer(nn.Module):
    """Deep update of sensory memory, from a new value (on memory frames)."""

    def __init__(self, value_channels: int, sensory_channels: int):
        super().__init__()
        self.transform = nn.Conv2d(value_channels + sensory_channels, 3 * sensory_channels, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, value: Tensor, sensory: Tensor) -> Tensor:
        """float [B, N, V, h, w] and [B, N, C, h, w] -> new sensory state [B, N, C, h, w]."""
        return gated_update(per_object(self.transform, torch.cat([value, sensory], 2)), sensory)


class SensoryUpdater(nn.Module):
    """Update of sensory memory from the decoder's maps at strides 16, 8 and 4 (the last with its logits)."""

    def __init__(self, channels: tuple[int, int, int], inner_channels: int, sensory_channels: int):
        super().__init__()
        self.g16_conv = nn.Conv2d(channels[0], inner_channels, 1)
        self.g8_conv = nn.Conv2d(channels[1], inner_channels, 1)
        self.g4_conv = nn.Conv2d(channels[2], inner_channels, 1)
        self.transform = nn.Conv2d(inner_channels + sensory_channels, 3 * sensory_channels, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, sensory: Tensor) -> Tensor:
        """Maps [B, N, C_i, ...] and sensory state [B, N, C, h, w] -> new sensory state."""
        inner = per_object(self.g16_conv, g16)
        inner = inner + per_object(self.g8_conv, resize_objects(g8, 1 / 2, "area"))
        inner = inner + per_object(self.g4_conv, resize_objects(g4, 1 / 4, "area"))
        return gated_update(per_object(self.transform, torch.cat([inner, sensory], 2)), sensory)
