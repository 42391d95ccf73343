"""The building blocks of XMem's value encoder and decoder, applied to every object alike.

What a frame adds to a layer is the same for all its objects, so every block that takes both computes the
frame's part apart, once, and adds it to each object's part.

Feature maps of objects are float [X, C, h, w] with X = B N, the N objects of a frame one after another; maps
shared by all objects of a frame are float [B, C, h, w]. Module names are those of the public XMem weights
(``ChannelGate`` and ``SpatialGate`` included).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def add_frame(frame: Tensor, objects: Tensor) -> Tensor:
    """Add each frame's map [B, C, h, w] to the maps of its objects [X, C, h, w], in place."""
    objects.unflatten(0, (len(frame), -1)).add_(frame.unsqueeze(1))
    return objects


class GroupResBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions (the paper's supplement, "decoder").

    The first convolution and the shortcut are linear: what they make of joined maps is the sum of what they
    make of each (``part``), which ``join`` takes on.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        same = in_channels == out_channels
        self.downsample = None if same else nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """float [B, in, h, w] -> float [B, out, h, w]."""
        return self.join(*self.part(features))

    def part(self, features: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """What some of the input channels add to the first convolution and to the shortcut.

        Args:
            features: float [B, C, h, w], the input's channels from ``start`` on. The first channels bring the
                biases.

        Returns:
            Two float [B, out, h, w].
        """
        missing = self.conv1.in_channels - start - features.shape[1]
        inner = _convolve_part(self.conv1, functional.relu(features), start)
        if self.downsample is None:
            return inner, functional.pad(features, (0, 0, 0, 0, start, missing))
        return inner, _convolve_part(self.downsample, features, start)

    def join(self, inner: Tensor, shortcut: Tensor) -> Tensor:
        """The block's result from the sums of all parts, float [B, out, h, w] each; ``inner`` is used up."""
        return self.conv2(functional.relu(inner, inplace=True)).add_(shortcut)


def _convolve_part(convolution: nn.Conv2d, features: Tensor, start: int) -> Tensor:
    if features.shape[1] == convolution.in_channels:
        return convolution(features)
    weight = convolution.weight[:, start : start + features.shape[1]]
    bias = None if start else convolution.bias
    return functional.conv2d(features, weight, bias, padding=convolution.padding)


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
        self.frame_channels = frame_channels
        self.block1 = GroupResBlock(frame_channels + object_channels, out_channels)
        self.attention = ConvolutionalAttention(out_channels)
        self.block2 = GroupResBlock(out_channels, out_channels)

    def frame_part(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """What ``forward`` needs of the frame: float [B, frame, h, w] -> two float [B, out, h, w]."""
        return self.block1.part(frame)

    def forward(self, frame: Tensor | tuple[Tensor, Tensor], objects: Tensor) -> Tensor:
        """The frame's map or its ``frame_part``, and float [X, object, h, w] -> float [X, out, h, w]."""
        if isinstance(frame, Tensor) and len(frame) == len(objects):
            # One object: nothing is shared, and one convolution rounds once, which counts in bfloat16.
            joined = self.block1(torch.cat([frame, objects], 1))
        else:
            frame_part = self.frame_part(frame) if isinstance(frame, Tensor) else frame
            object_part = self.block1.part(objects, self.frame_channels)
            joined = self.block1.join(*map(add_frame, frame_part, object_part))
        return self.block2(joined + self.attention(joined))


class UpsampleBlock(nn.Module):
    """Doubles the size of the objects' maps and adds the frame's map of that size."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int):
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_channels, in_channels, 3, padding=1)
        self.out_conv = GroupResBlock(in_channels, out_channels)

    def forward(self, frame_part: Tensor, objects: Tensor) -> Tensor:
        """``skip_conv`` of the frame [B, in, 2h, 2w] and float [X, in, h, w] -> float [X, out, 2h, 2w]."""
        objects = functional.interpolate(objects, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out_conv(add_frame(frame_part, objects))


def gated_update(gates: Tensor, sensory: Tensor) -> Tensor:
    """The gated recurrent update of sensory memory (XMem section 3.5).

    Unlike Cho et al. 2014 the candidate value does not pass the forget gate; public weights are trained this
    way.

    Args:
        gates: float [X, 3 C, h, w]: forget, update and candidate, before their non-linearities.
        sensory: float [X, C, h, w].

    Returns:
        The new sensory state, float [X, C, h, w] in the dtype of ``sensory``.
    """
    forget, update, candidate = gates.to(sensory.dtype).chunk(3, dim=1)
    update = update.sigmoid()
    return forget.sigmoid() * sensory * (1 - update) + update * candidate.tanh()


class SensoryReinforcer(nn.Module):
    """Deep update of sensory memory, from a new value (on memory frames)."""

    def __init__(self, value_channels: int, sensory_channels: int):
        super().__init__()
        self.transform = nn.Conv2d(value_channels + sensory_channels, 3 * sensory_channels, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, value: Tensor, sensory: Tensor) -> Tensor:
        """float [X, V, h, w] and [X, C, h, w] -> new sensory state [X, C, h, w]."""
        return gated_update(self.transform(torch.cat([value, sensory.to(value.dtype)], 1)), sensory)


class SensoryUpdater(nn.Module):
    """Update of sensory memory from the decoder's maps at strides 16, 8 and 4, the last with its logits."""

    def __init__(self, channels: tuple[int, int, int], inner_channels: int, sensory_channels: int):
        super().__init__()
        self.g16_conv = nn.Conv2d(channels[0], inner_channels, 1)
        self.g8_conv = nn.Conv2d(channels[1], inner_channels, 1)
        self.g4_conv = nn.Conv2d(channels[2], inner_channels, 1)
        self.transform = nn.Conv2d(inner_channels + sensory_channels, 3 * sensory_channels, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, mask_logits: Tensor, sensory: Tensor) -> Tensor:
        """Maps [X, C_i, ...], logits [X, 1, ...] at stride 4 and state [X, C, h, w] -> new sensory state."""
        # Joined when they are small.
        g4 = torch.cat([_shrink(g4, 4), _shrink(mask_logits, 4)], 1)
        inner = self.g16_conv(g16) + self.g8_conv(_shrink(g8, 2)) + self.g4_conv(g4)
        return gated_update(self.transform(torch.cat([inner, sensory.to(inner.dtype)], 1)), sensory)


def _shrink(features: Tensor, factor: int) -> Tensor:
    """Mean over squares of ``factor`` positions."""
    return functional.interpolate(features, scale_factor=1 / factor, mode="area")
