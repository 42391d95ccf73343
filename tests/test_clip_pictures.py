"""CLIP's image tower: points of pictures, points of places, and the public ONNX file it comes from."""

import sys

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional
from transformers import CLIPVisionConfig

from model.clip_pictures import ClipPictures
from model.name_table import NameTable
from tests.test_name_table import SHIPPED
from visa import clip_loading
from visa.clip_loading import load_clip_pictures
from visa.public_files import FILES
from visa.second_look import SecondLook

SIDE, PATCH, WIDTH = 32, 8, 6


def tiny_config(image_size=SIDE, patch_size=PATCH):
    return CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, projection_dim=WIDTH, num_hidden_layers=3,
        num_attention_heads=4, patch_size=patch_size, image_size=image_size,
    )  # fmt: skip


def tiny_pictures(seed=0, config=None, **options):
    torch.manual_seed(seed)
    pictures = ClipPictures(config or tiny_config(), **options).eval()
    with torch.no_grad():
        for parameter in pictures.parameters():
            parameter.normal_(0, 0.2)
    return pictures


def random_frames(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_pictures_reach_the_network_as_clip_was_trained():
    pictures, given = tiny_pictures(), []
    pictures.network.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs), with_kwargs=True
    )
    flat = np.stack([np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 255)])
    points = pictures(flat)
    assert points.shape == (2, WIDTH)
    # (0 - .4814…) / .2686… and (1 - .4814…) / .2686…, as in CLIP's published preprocessing
    assert given[0]["pixel_values"][:, 0, 0, 0].tolist() == pytest.approx([-1.79226, 1.93033], abs=1e-4)
    assert pictures(flat[:0]).shape == (0, WIDTH)
    for wrong in (flat.astype(np.float32), flat[:, 1:], flat[0]):
        with pytest.raises(ValueError, match="uint8"):
            pictures(wrong)


def test_a_place_draws_from_what_is_like_it():
    """The last layer, written out: places mix values by the likeness of queries, and of values."""
    pictures = tiny_pictures(frame_area=SIDE * SIDE)
    frames = random_frames(2, SIDE, SIDE)
    network = pictures.network.vision_model
    with torch.inference_mode():
        states = network(pixel_values=pictures._normalised(frames), output_hidden_states=True).hidden_states[
            -2
        ]
        last = network.encoder.layers[-1]
        tokens = last.layer_norm1(states)
        expected = []
        for sequence in tokens:
            drawn = torch.zeros(len(sequence), 24)
            for name in ("q_proj", "v_proj"):
                like = getattr(last.self_attn, name)(sequence).view(-1, 4, 6)
                values = last.self_attn.v_proj(sequence).view(-1, 4, 6)
                mixed = [(like[:, h] @ like[:, h].T / 6**0.5).softmax(1) @ values[:, h] for h in range(4)]
                drawn += last.self_attn.out_proj(torch.cat(mixed, 1))
            expected.append(pictures.network.visual_projection(network.post_layernorm(drawn))[1:])
        expected = functional.normalize(torch.stack(expected), dim=-1)
    places = pictures.places(frames)
    assert places.shape == (2, WIDTH, 4, 4)
    assert torch.allclose(places.flatten(2).mT, expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 96), (1, 1), (17, 9), (9, 400), (300, 200)])
def test_frames_of_any_size_have_places(height, width):
    pictures = tiny_pictures(frame_area=2048)
    places = pictures.places(random_frames(1, height, width))
    rows, cols = pictures.grid(height, width)
    assert places.shape == (1, WIDTH, rows, cols)
    assert rows * cols * PATCH**2 == pytest.approx(2048, rel=0.5)
    assert torch.allclose(places.norm(dim=1), torch.ones(1, rows, cols), atol=1e-5)
    assert max(rows, cols) <= 9 * min(rows, cols)


def quantised_file(path, pictures):
    """The tower as its public file holds it: biases by name, matrices as 8-bit steps from a zero point."""
    initialisers, nodes = [], []
    for name, value in pictures.network.state_dict().items():
        if value.ndim != 2 or "position_embedding" in name:
            initialisers.append(numpy_helper.from_array(value.numpy(), name))
            continue
        matrix, number = value.numpy().T, len(nodes)
        low, high = matrix.min(0), matrix.max(0)
        scale = ((high - low) / 255).astype(np.float32)
        zero = np.clip(np.round(-low / scale), -128, 127).astype(np.int8)
        steps = np.clip(np.round(matrix / scale) + zero, -128, 127).astype(np.int8)
        base = f"onnx::MatMul_{number}"
        for suffix, stored in (("quantized", steps), ("scale", scale), ("zero_point", zero)):
            initialisers.append(numpy_helper.from_array(stored, f"{base}_{suffix}"))
        place = "/" + name.removesuffix(".weight").replace(".", "/").replace("layers/", "layers.")
        nodes.append(
            helper.make_node(
                "MatMulInteger",
                [f"in{number}", f"{base}_quantized"],
                [f"out{number}"],
                name=f"{place}/MatMul_quant",
            )
        )
        pictures.network.get_parameter(name).data = torch.from_numpy(
            ((steps.astype(np.float32) - zero) * scale).T.copy()
        )
    inputs = [helper.make_tensor_value_info(f"in{n}", TensorProto.INT8, None) for n in range(len(nodes))]
    graph = helper.make_graph(nodes, "tower", inputs, [], initialisers)
    onnx.save(helper.make_model(graph), str(path))
    return path


def test_the_public_files_matrices_become_plain_ones(tmp_path, monkeypatch):
    pictures = tiny_pictures()
    path = quantised_file(tmp_path / "tower.onnx", pictures)
    monkeypatch.setattr(clip_loading, "ClipPictures", lambda: ClipPictures(tiny_config()))
    loaded, shown = load_clip_pictures(path), random_frames(2, SIDE, SIDE)
    assert torch.equal(loaded(shown), pictures(shown))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    low = load_clip_pictures(path, torch.bfloat16)
    assert torch.cosine_similarity(low(shown), pictures(shown)).min() > 0.98


def test_what_is_no_tower_is_said(tmp_path, monkeypatch):
    (tmp_path / "tower.onnx").write_bytes(b"not onnx")
    with pytest.raises(ValueError, match=r"tower.onnx cannot be read as an ONNX network"):
        load_clip_pictures(tmp_path / "tower.onnx")
    onnx.save(helper.make_model(helper.make_graph([], "boxes", [], [])), str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match=r"other.onnx is no CLIP image tower"):
        load_clip_pictures(tmp_path / "other.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="pip install onnx"):
        load_clip_pictures(tmp_path / "tower.onnx")


def test_the_public_tower_knows_what_the_shipped_names_mean():
    """With the real file, where it was fetched before: drawn things by their names."""
    path = FILES["clip_vit_b16_image.int8.onnx"].path
    if not path.is_file():
        pytest.skip("CLIP's image tower is not in the cache")
    look = SecondLook(load_clip_pictures(path), NameTable.load(SHIPPED))
    for file, accepted in (
        ("car", {"car", "taxi", "car (automobile)", "automobile"}),
        ("dog", {"dog"}),
        ("umbrella", {"umbrella"}),
        ("banana", {"banana"}),
    ):
        picture = cv2.imread(str(SHIPPED.parents[3] / "tests/sprites" / f"{file}.webp"), cv2.IMREAD_UNCHANGED)
        likely = look.seen(np.ascontiguousarray(picture[..., 2::-1]), picture[..., 3] > 127)
        best = look.names.names[int(likely.argmax())]
        kinds = look.names.kinds[int(likely.argmax())]
        assert {best, *kinds} & accepted, (file, best)
