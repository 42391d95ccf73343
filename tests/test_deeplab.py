"""DeepLab: the shipped weights fit, and the network gives TensorFlow Lite's own numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.deeplab import VOC_CLASSES, DeepLabMobileNetV2, _HalvingConv, normalise
from visa.weights_conversion.deeplab_from_tflite import our_layout, our_name

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "visa/presets/embedded/deeplab_voc.safetensors"
# Logits [21, 5, 5] of cells 2, 9, 16, 23 and 30 of each axis for `picture()`: the public TensorFlow Lite
# file run by ai-edge-litert 2.3.0, tensor logits/semantic/BiasAdd.
GOLDEN = ROOT / "tests/golden/deeplab/tflite_logits.npz"


@pytest.fixture(scope="module")
def network() -> DeepLabMobileNetV2:
    network = DeepLabMobileNetV2().eval()
    network.load_state_dict(load_file(WEIGHTS))
    return network


def picture(height: int = 257, width: int = 257) -> torch.Tensor:
    """uint8 [1, H, W, 3]: a television on its foot, before a wall and on a table."""
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    rows, cols = rows / height, cols / width
    frame = np.full((height, width, 3), 170.0, np.float32)
    frame[rows > 0.7] = (120, 80, 50)
    case = (abs(rows - 0.45) < 0.25) & (abs(cols - 0.5) < 0.36)
    screen = (abs(rows - 0.45) < 0.21) & (abs(cols - 0.5) < 0.32)
    neck = (abs(rows - 0.73) < 0.03) & (abs(cols - 0.5) < 0.05)
    foot = (abs(rows - 0.775) < 0.015) & (abs(cols - 0.5) < 0.17)
    frame[case | neck | foot] = 25
    shine = np.stack([60 + 80 * cols, 90 + 100 * rows, np.full_like(rows, 150)], axis=2)
    frame[screen] = shine[screen]
    return torch.from_numpy(frame.astype(np.uint8))[None]


def test_shipped_weights_are_the_whole_network_in_half_precision():
    state = load_file(WEIGHTS)
    with torch.device("meta"):
        expected = DeepLabMobileNetV2().state_dict()
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in expected.items()
    }
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert sum(value.numel() for value in state.values()) == 688_357
    assert all(value.isfinite().all() for value in state.values())


def test_a_missing_key_is_refused(network):
    state = load_file(WEIGHTS)
    del state["blocks.7.depthwise.bias"]
    with pytest.raises(RuntimeError, match=r"blocks\.7\.depthwise\.bias"):
        network.load_state_dict(state)


def test_logits_are_those_of_tensorflow_lite(network):
    expected = torch.from_numpy(np.load(GOLDEN)["logits"])
    with torch.inference_mode():
        logits = network.logits(normalise(picture()))
    assert logits.shape == (1, 21, 33, 33)
    assert expected.std() > 1
    # What half-precision weights change; in full precision the two agree to 1e-4.
    torch.testing.assert_close(logits[0, :, 2::7, 2::7], expected, rtol=0, atol=0.1)


def test_it_sees_the_television(network):
    with torch.inference_mode():
        classes = network.logits(normalise(picture()))[0].argmax(dim=0)
    assert VOC_CLASSES[classes[15, 16]] == "television"
    assert VOC_CLASSES[classes[2, 2]] == VOC_CLASSES[classes[30, 16]] == "background"
    assert set(classes.unique().tolist()) == {0, VOC_CLASSES.index("television")}


@pytest.mark.parametrize(("height", "width"), [(257, 257), (193, 345), (100, 65), (64, 96), (7, 1)])
def test_any_size_gives_stride_8(network, height, width):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        both, first = network(images), network(images[:1])
    assert both.shape == (2, len(VOC_CLASSES), -(-height // 8), -(-width // 8))
    torch.testing.assert_close(both[:1], first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "first_seen"), [(4, [0, 1, 2]), (5, [0, 1])])
def test_halving_pads_as_tensorflow(side, first_seen):
    convolution = _HalvingConv(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    seen = []
    for col in range(side):
        image = torch.zeros(1, 1, side, side)
        image[0, 0, 0, col] = 1
        if convolution(image)[0, 0, 0, 0] == 1:
            seen.append(col)
    assert seen == first_seen


def test_normalise():
    frames = torch.tensor([0, 255, 51], dtype=torch.uint8).expand(2, 4, 6, 3)
    images = normalise(frames, (9, 17))
    assert images.shape == (2, 3, 9, 17)
    torch.testing.assert_close(images[1, :, 3, 3], torch.tensor([-1, 1, -0.6]))
    with pytest.raises(ValueError, match=r"\[T, H, W, 3\], got \[2, 3, 4, 6\]"):
        normalise(frames.permute(0, 3, 1, 2))


def test_conversion_names_and_layout():
    assert our_name("MobilenetV2/Conv/Conv2D_bias") == "stem.bias"
    assert our_name("MobilenetV2/expanded_conv/depthwise/depthwise_weights") == "blocks.0.depthwise.weight"
    assert our_name("MobilenetV2/expanded_conv_16/expand/weights") == "blocks.16.expand.weight"
    assert our_name("logits/semantic/weights") == "classify.weight"
    with pytest.raises(ValueError, match="got 'ResizeBilinear_1/size'"):
        our_name("ResizeBilinear_1/size")
    assert our_layout("a/weights", np.zeros((8, 3, 3, 4))).shape == (8, 4, 3, 3)
    assert our_layout("a/depthwise_weights", np.zeros((1, 3, 3, 4))).shape == (4, 1, 3, 3)
