"""The two residual trunks of XMem, cut after stride 16: ResNet-50 for keys, ResNet-18 for values.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1. Module names are those of the
public XMem weights. Widths, depths and the normalisation are arguments, so that smaller trunks are the same
code.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """Normalisation for trunks trained from scratch with few images a step (Wu & He, ECCV 2018)."""
    groups = max(group for group in (1, 2, 4, 8) if channels % group == 0)
    return nn.GroupNorm(groups, channels)


def _projection(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.relu = nn.ReLU()
        self.downsample = _projection(in_channels, width, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        return self.relu(self.bn2(self.conv2(features)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions and a shortcut; four times wider out than inside."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.relu = nn.ReLU()
        self.downsample = _projection(in_channels, out_channels, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.relu(self.bn2(self.conv2(features)))
        return self.relu(self.bn3(self.conv3(features)) + shortcut)


def residual_stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    width: int,
    depth: int,
    stride: int,
    norm: Norm = nn.BatchNorm2d,
) -> nn.Sequential:
    """``depth`` blocks, the first with ``stride``; out channels are ``width * block.expansion``."""
    blocks = [block(in_channels, width, stride, norm)]
    blocks += [block(width * block.expansion, width, 1, norm) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class ResNetKeyTrunk(nn.Module):
    """ResNet up to stride 16, giving the maps at strides 16, 8 and 4.

    Args:
        stem: channels after the first convolution.
        widths: inner widths of the three stages; ``channels`` are four times that.
        depths: blocks of the three stages. (3, 4, 6) is ResNet-50.
    """

    def __init__(
        self, stem: int = 64, widths: Sequence[int] = (64, 128, 256), depths: Sequence[int] = (3, 4, 6)
    ):
        super().__init__()
        out4, out8, out16 = (width * Bottleneck.expansion for width in widths)
        self.channels = (out16, out8, out4)
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.res2 = residual_stage(Bottleneck, stem, widths[0], depths[0], 1)
        self.layer2 = residual_stage(Bottleneck, out4, widths[1], depths[1], 2)
        self.layer3 = residual_stage(Bottleneck, out8, widths[2], depths[2], 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float [B, 3, H, W] -> maps at strides 16, 8, 4, channels as in ``self.channels``."""
        f4 = self.res2(self.maxpool(self.relu(self.bn1(self.conv1(image)))))
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4
