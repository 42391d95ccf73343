"""MobileSAM's image encoder: the published layout, the reference's numbers, any input size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.sam.tiny_vit import ConvBatchNorm, TinyViT, WindowAttention
from tests.golden.fill import fill

GOLDEN = "mobile_sam"


@pytest.fixture(scope="module")
def encoder() -> TinyViT:
    network = TinyViT().eval()
    network.load_state_dict(fill(network.state_dict()))
    return network


pytestmark = pytest.mark.usefixtures("one_thread")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        path = Path(metafunc.config.getoption("--golden")) / GOLDEN / "cases.json"
        cases = json.loads(path.read_text())["cases"] if path.exists() else []
        metafunc.parametrize("case", cases, ids=lambda case: case["name"])


def test_mobile_sam_golden(case, golden_root, encoder):
    rule = case["input"]
    images = np.random.default_rng(rule["seed"]).standard_normal(rule["shape"], dtype=np.float32)
    with torch.inference_mode():
        embedding = encoder(torch.from_numpy(images))[0]
    expected = np.load(golden_root / GOLDEN / case["array"])["embedding"]
    planes, rows, cols = case["step"]
    assert expected.std() > 0.5
    np.testing.assert_allclose(
        embedding[::planes, ::rows, ::cols].numpy(), expected, rtol=0, atol=case["absolute_tolerance"]
    )


def test_keys_and_shapes_are_those_of_mobile_sam():
    listed = json.loads((Path(__file__).parent / "golden/mobile_sam/keys.json").read_text())["keys"]
    prefix = "image_encoder."
    expected = {key[len(prefix) :]: shape for key, shape in listed.items() if key.startswith(prefix)}
    assert len(expected) == 302
    with torch.device("meta"):
        state = TinyViT().state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == expected


@pytest.mark.parametrize(("height", "width"), [(96, 160), (64, 224), (33, 17), (1, 1)])
def test_any_input_size(encoder, height, width):
    with torch.inference_mode():
        embedding, levels = encoder.forward_levels(torch.randn(2, 3, height, width))
    assert embedding.shape == (2, 256, -(-height // 16), -(-width // 16))
    for level, channels, stride in zip(levels, (64, 128, 160), encoder.level_strides, strict=True):
        assert level.shape == (2, channels, -(-height // stride), -(-width // stride))
    assert embedding.isfinite().all()


def test_folded_normalisation_equals_batch_norm():
    block = ConvBatchNorm(8, 12, 3, stride=2)
    block.load_state_dict(fill(block.state_dict()))
    images = torch.randn(2, 8, 9, 11)
    block.eval()
    torch.testing.assert_close(block(images), block.bn(block.c(images)), rtol=1e-4, atol=1e-5)


def test_attention_bias_depends_on_the_absolute_offset():
    attention = WindowAttention(32, 2, 3)
    index = attention.bias_index
    assert index.shape == (9, 9)
    # (row 0, col 1) and (row 2, col 0): two rows, one column apart.
    assert index[1, 6] == index[6, 1] == 2 * 3 + 1
    assert index.diagonal().eq(0).all()


def test_gradients_reach_every_used_parameter(encoder):
    network = TinyViT().eval()
    network(torch.randn(1, 3, 64, 64)).square().mean().backward()
    idle = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert idle == {"norm_head.weight", "norm_head.bias", "head.weight", "head.bias"}
