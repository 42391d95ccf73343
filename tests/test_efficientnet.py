"""EfficientNet-Lite0: the published layout, TensorFlow's padding, classification by cells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.efficientnet import EfficientNetLite0, _SameConv, normalise
from tests.golden.fill import fill

ROOT = Path(__file__).parent


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    network = EfficientNetLite0().eval()
    network.load_state_dict(fill(network.state_dict()))
    return network


def test_keys_and_shapes_are_those_of_the_public_file():
    expected = json.loads((ROOT / "golden/efficientnet_lite0/keys.json").read_text())["keys"]
    assert len(expected) == 296
    with torch.device("meta"):
        state = EfficientNetLite0().state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == expected


@pytest.mark.parametrize(("height", "width"), [(224, 224), (288, 512), (100, 65), (1, 1)])
def test_maps_have_strides_16_and_32(network, height, width):
    with torch.inference_mode():
        features, mid = network.features_and_mid(torch.randn(1, 3, height, width))
    assert features.shape == (1, 1280, -(-height // 32), -(-width // 32))
    assert mid.shape == (1, 112, -(-height // 16), -(-width // 16))
    assert features.amin() >= 0
    assert features.amax() <= 6


def test_mean_of_the_cells_is_the_classification(network):
    images = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cells = network.classify_cells(network.features(images))
        logits = network(images)
    assert cells.shape == (2, 1000, 3, 5)
    assert logits.std() > 1e-3
    torch.testing.assert_close(cells.mean(dim=(2, 3)), logits, rtol=1e-4, atol=1e-5)


def test_strided_convolution_pads_below_and_right():
    convolution = _SameConv(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = 1
    # With the odd row and column of padding at the end, the first window starts at the corner pixel.
    assert convolution(image)[0, 0].tolist() == [[1, 0], [0, 0]]
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 2, 2] = 1
    assert convolution(image)[0, 0].tolist() == [[1, 1], [1, 1]]


def test_normalise_maps_bytes_to_about_minus_one_to_one():
    frames = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 1, 3, 1).expand(1, 1, 3, 3)
    images = normalise(frames)
    assert images.shape == (1, 3, 1, 3)
    assert images[0, 0, 0].tolist() == [-127 / 128, 0, 1]
    assert normalise(frames, (32, 64)).shape == (1, 3, 32, 64)
    with pytest.raises(ValueError, match=r"\[T, H, W, 3\]"):
        normalise(torch.zeros(3, 8, 8))


def test_class_names_are_in_the_classifier_order():
    lines = (ROOT.parent / "visa/presets/embedded/imagenet_classes.txt").read_text().splitlines()
    names = [line.split("\t") for line in lines if not line.startswith("#")]
    assert len(names) == 1000
    assert [synset for synset, _ in names] == sorted(synset for synset, _ in names)
    assert names[100] == ["n01860187", "black swan, Cygnus atratus"]
