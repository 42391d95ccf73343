"""SAM as a whole: published layouts, parity with the `segment-anything` package, prompts, sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from model.prompt import BoxPrompt, EmbeddingPrompt, MaskPrompt, PointPrompt
from model.sam import FrameFeatures, Sam, SamSegmenter, build_sam, fastest_encoder_dtype
from model.sam.import_segment_anything import builders, modeling
from tests.golden.fill import fill

GOLDEN = Path(__file__).parent / "golden"
SIDE = 256  # a quarter of SAM's, so that decoding takes milliseconds


class PooledEncoder(nn.Module):
    """Stands in for an image encoder: the embedding is made of the frame's pooled colours."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 256, 1)

    def forward(self, images):
        return self.mix(nn.functional.avg_pool2d(images, 16))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sam() -> Sam:
    network = build_sam("vit_t", image_size=SIDE)
    network.load_state_dict(fill(network.state_dict()))
    # Unit normal frequencies, as SAM draws them.
    network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(2**0.5)
    return network


@pytest.fixture(scope="module")
def segmenter(sam) -> SamSegmenter:
    return SamSegmenter(sam)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 48, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(segmenter, frames) -> FrameFeatures:
    with torch.no_grad():
        return segmenter.encode(frames)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def package_decode(sam, embedding, *, points=None, boxes=None, masks=None, multimask=False):
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    return sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )


# Building and loading


def test_keys_and_shapes_are_those_of_mobile_sam():
    listed = json.loads((GOLDEN / "mobile_sam/keys.json").read_text())["keys"]
    assert len(listed) == 439
    with torch.device("meta"):
        state = build_sam("vit_t").state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == listed


@pytest.mark.parametrize(
    ("name", "num_keys", "width", "depth", "head_width"),
    [("vit_b", 314, 768, 12, 64), ("vit_l", 482, 1024, 24, 64), ("vit_h", 594, 1280, 32, 80)],
)
def test_larger_encoders_have_the_published_layout(name, num_keys, width, depth, head_width):
    with torch.device("meta"):
        state = build_sam(name).state_dict()
        package = builders.sam_model_registry[name]().state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes == {key: tuple(value.shape) for key, value in package.items()}
    assert len(shapes) == num_keys
    assert shapes["image_encoder.pos_embed"] == (1, 64, 64, width)
    assert shapes[f"image_encoder.blocks.{depth - 1}.attn.qkv.weight"] == (3 * width, width)
    # The last block attends globally, so its relative positions span the whole grid.
    assert shapes[f"image_encoder.blocks.{depth - 1}.attn.rel_pos_h"] == (127, head_width)


def test_checkpoint_is_loaded_strictly(sam, tmp_path):
    state = sam.state_dict()
    torch.save(state, tmp_path / "sam.pt")
    loaded = build_sam("vit_t", tmp_path / "sam.pt", image_size=SIDE)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in state.items())
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(RuntimeError, match=r"iou_token"):
        build_sam("vit_t", tmp_path / "broken.pt", image_size=SIDE)


def test_wrong_builds_say_what_is_possible():
    with pytest.raises(ValueError, match="vit_t, vit_b, vit_l, vit_h"):
        build_sam("vit_x")
    with pytest.raises(ValueError, match="use 1024$"):
        build_sam("vit_b", image_size=512)
    with pytest.raises(ValueError, match="pad_input=False needs vit_t"):
        SamSegmenter(Sam(PooledEncoder(), SIDE), pad_input=False)


def test_package_is_imported_without_torchvision_and_leaves_no_shell():
    script = (
        "import sys; sys.modules['torchvision'] = None\n"  # makes `import torchvision` fail
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torchvision' else find(name, *a)\n"
        "from model.sam.import_segment_anything import modeling\n"
        "assert modeling.MaskDecoder and 'segment_anything' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_package_is_imported_normally_with_torchvision(tmp_path):
    # Only as much of torchvision as the package's __init__ asks for.
    for module, text in {
        "torchvision/__init__.py": "",
        "torchvision/ops/__init__.py": "",
        "torchvision/ops/boxes.py": "batched_nms = box_area = None",
        "torchvision/transforms/__init__.py": "",
        "torchvision/transforms/functional.py": "resize = to_pil_image = None",
    }.items():
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).write_text(text)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from model.sam.import_segment_anything import modeling\n"
        "import segment_anything\n"
        "assert segment_anything.SamPredictor and segment_anything.modeling is modeling\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_prompt_encoder_keeps_float32_when_sam_is_cast():
    network = Sam(PooledEncoder(), SIDE)
    before = network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.clone()
    nn.ModuleList([network]).to(torch.bfloat16)
    assert {value.dtype for value in network.prompt_encoder.state_dict().values()} == {torch.float32}
    assert next(network.mask_decoder.parameters()).dtype == torch.bfloat16
    assert torch.equal(network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix, before)


# Frames in, masks out


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (1080, 1920), (1, 1), (17, 9), (1, 3000)])
def test_input_size_is_sams(size):
    segmenter = SamSegmenter(Sam(PooledEncoder()))
    scale = 1024 / max(size)
    expected = tuple(max(1, int(side * scale + 0.5)) for side in size)
    assert segmenter.input_size(size) == expected
    assert max(expected) == 1024


def test_preprocessing_is_sams(sam, segmenter, frames):
    images, size = segmenter.preprocess(frames)
    resized = np.asarray(Image.fromarray(frames[1]).resize((256, 154), Image.Resampling.BILINEAR))
    package = modeling.Sam(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
    sam.image_encoder.img_size = SIDE
    expected = package.preprocess(torch.from_numpy(resized.copy()).permute(2, 0, 1))
    assert size == (154, 256)
    assert torch.equal(images[1], expected[:, :154, :256])
    assert expected[:, 154:].eq(0).all()


def test_encoder_sees_the_frame_padded_below(sam, segmenter, frames, features):
    images, (height, width) = segmenter.preprocess(frames)
    padded = torch.zeros(2, 3, SIDE, SIDE)
    padded[:, :, :height, :width] = images
    with torch.no_grad():
        expected, levels = sam.image_encoder.forward_levels(padded)
    torch.testing.assert_close(features.embedding, expected, rtol=1e-4, atol=1e-4)
    assert [tuple(level.shape) for level in features.levels] == [
        (2, 64, 39, 64),
        (2, 128, 20, 32),
        (2, 160, 10, 16),
    ]
    torch.testing.assert_close(features.levels[2], levels[2][:, :, :10], rtol=1e-4, atol=1e-4)


def test_frames_are_encoded_alike_alone_and_together(segmenter, frames, features):
    with torch.no_grad():
        together = segmenter.encode(torch.from_numpy(frames), chunk=2, levels=False)
    assert together.levels == ()
    assert (features.embedding[0] - features.embedding[1]).abs().max() > 0.1
    torch.testing.assert_close(together.embedding, features.embedding, rtol=1e-4, atol=1e-4)


def test_postprocessing_is_sams(sam, segmenter, features):
    package = modeling.Sam(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
    sam.image_encoder.img_size = SIDE
    logits = random(3, 2, SIDE // 4, SIDE // 4)
    expected = package.postprocess_masks(logits, features.input_size, features.original_size)
    assert expected.shape == (3, 2, 48, 80)
    assert torch.equal(segmenter.to_frame(logits, features), expected)
    assert segmenter.to_frame(logits.bfloat16(), features).dtype == torch.float32


@pytest.mark.parametrize("pad_input", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (1, 400), (301, 2)])
def test_tiny_and_extreme_frames(sam, size, pad_input):
    segmenter = SamSegmenter(sam, pad_input=pad_input)
    with torch.no_grad():
        features = segmenter.encode(np.zeros((1, *size, 3), np.uint8))
        prediction = segmenter.decode(features, EmbeddingPrompt(random(2, 1, 256)))
    logits = segmenter.to_frame(prediction.mask_logits, features)
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


def test_4k_frame(sam):
    segmenter = SamSegmenter(sam, pad_input=False, encoder_dtype=torch.bfloat16)
    with torch.no_grad():
        features = segmenter.encode(np.zeros((1, 2160, 4096, 3), np.uint8), levels=False)
        prediction = segmenter.decode(features, EmbeddingPrompt(random(1, 1, 256)))
    assert features.input_size == (135, 256)
    assert segmenter.to_frame(prediction.mask_logits, features).shape == (1, 1, 2160, 4096)


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 8, 8, 4), np.uint8), np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)],
)
def test_wrong_frames_are_refused(segmenter, frames):
    with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\]"):
        segmenter.encode(frames)


def test_no_frames_are_refused(segmenter):
    with pytest.raises(ValueError, match="at least one frame"):
        segmenter.encode(np.zeros((0, 8, 8, 3), np.uint8))


# Prompts


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", ["points", "box", "points and box", "mask", "box and mask"])
def test_prompts_give_the_packages_masks(sam, segmenter, features, kind, multimask):
    points = torch.tensor([[[40.0, 30.0], [9.5, 80.0]], [[200.0, 140.0], [3.0, 4.0]]])
    labels = torch.tensor([[1, 0], [1, -1]])
    boxes = torch.tensor([[10.0, 20.0, 90.0, 110.0], [0.0, 0.0, 255.0, 150.0]])
    masks = random(2, 1, SIDE // 4, SIDE // 4)
    prompts, named = [], {}
    if "mask" in kind:
        prompts.append(MaskPrompt(masks))
        named["masks"] = masks
    if "box" in kind:
        prompts.append(BoxPrompt(boxes))
        named["boxes"] = boxes
    if "points" in kind:
        prompts.append(PointPrompt(points, labels))
        named["points"] = (points, labels)
    with torch.no_grad():
        prediction = segmenter.decode(features, prompts, frame_index=1, multimask=multimask)
        logits, iou = package_decode(sam, features.embedding[1:], multimask=multimask, **named)
    assert logits.shape == (2, 3 if multimask else 1, SIDE // 4, SIDE // 4)
    assert logits.std() > 0.01
    torch.testing.assert_close(prediction.mask_logits, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prediction.iou, iou, rtol=1e-5, atol=1e-5)


def test_package_forward_gives_the_same_masks(sam, segmenter, frames, features):
    package = modeling.Sam(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
    sam.image_encoder.img_size = SIDE
    resized = np.array(Image.fromarray(frames[0]).resize((256, 154), Image.Resampling.BILINEAR))
    box = torch.tensor([[10.0, 5.0, 60.0, 40.0]])
    record = {
        "image": torch.from_numpy(resized).permute(2, 0, 1),
        "original_size": (48, 80),
        "boxes": features.to_input(box),
    }
    expected = package([record], multimask_output=False)[0]
    with torch.no_grad():
        prediction = segmenter.decode(features, BoxPrompt(features.to_input(box)))
    torch.testing.assert_close(prediction.mask_logits, expected["low_res_logits"], rtol=1e-4, atol=1e-4)
    masks = segmenter.to_frame(prediction.mask_logits, features) > 0
    assert (masks == expected["masks"]).float().mean() > 0.999


def test_coordinates_are_scaled_per_axis(features):
    assert features.to_input(torch.tensor([[80, 48]])).tolist() == [[256.0, 154.0]]
    assert features.to_input(torch.tensor([40.0, 24.0, 80.0, 48.0])).tolist() == [128.0, 77.0, 256.0, 154.0]
    with pytest.raises(ValueError, match="2 or 4"):
        features.to_input(torch.zeros(3))


def test_embeddings_follow_the_points_and_define_the_batch(sam, segmenter):
    embeddings = random(3, 2, 256)
    sparse, dense = segmenter.embed_prompts(EmbeddingPrompt(embeddings))
    assert torch.equal(sparse, embeddings)
    assert torch.equal(dense[2, :, 5, 7], sam.prompt_encoder.no_mask_embed.weight[0])
    points = PointPrompt(torch.full((3, 1, 2), 7.0), torch.ones(3, 1))
    mixed, _ = segmenter.embed_prompts([EmbeddingPrompt(embeddings), points])
    alone, _ = segmenter.embed_prompts(points)
    # A click, SAM's filler after clicks without a box, then the embeddings.
    assert mixed.shape == (3, 4, 256)
    assert torch.equal(mixed, torch.cat([alone, embeddings], dim=1))


def test_objects_are_decoded_alike_alone_and_together(segmenter, features):
    embeddings = random(3, 1, 256)
    with torch.no_grad():
        together = segmenter.decode(features, EmbeddingPrompt(embeddings)).mask_logits
        alone = [segmenter.decode(features, EmbeddingPrompt(one[None])).mask_logits for one in embeddings]
    assert (together[0] - together[1]).abs().max() > 0.05
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_each_object_can_have_its_own_frame(segmenter, features):
    embeddings = random(2, 1, 256)
    with torch.no_grad():
        mixed = segmenter.decode(features, EmbeddingPrompt(embeddings), frame_index=torch.tensor([1, 0]))
        first = segmenter.decode(features, EmbeddingPrompt(embeddings[:1]), frame_index=1)
        second = segmenter.decode(features, EmbeddingPrompt(embeddings[1:]), frame_index=0)
        expected = torch.cat([first.mask_logits, second.mask_logits])
        wrong = segmenter.decode(features, EmbeddingPrompt(embeddings), frame_index=0).mask_logits
    torch.testing.assert_close(mixed.mask_logits, expected, rtol=1e-4, atol=1e-5)
    assert (wrong[0] - expected[0]).abs().max() > 0.01
    with pytest.raises(ValueError, match="one frame per object"):
        segmenter.decode(features, EmbeddingPrompt(embeddings), frame_index=torch.tensor([1]))


def test_prompts_that_do_not_fit_are_refused(segmenter, features):
    box = BoxPrompt(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"same objects, got \[1, 2\]"):
        segmenter.decode(features, [box, EmbeddingPrompt(torch.zeros(1, 1, 256))])
    with pytest.raises(ValueError, match="one box"):
        segmenter.decode(features, [box, box])
    with pytest.raises(ValueError, match="at least one prompt"):
        segmenter.decode(features, [])
    with pytest.raises(ValueError, match=r"labels must have shape \[1, 2\]"):
        PointPrompt(torch.zeros(1, 2, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"boxes must have shape \[N, 4\]"):
        BoxPrompt(torch.zeros(4))
    with pytest.raises(ValueError, match="embeddings"):
        EmbeddingPrompt(torch.zeros(1, 256))
    with pytest.raises(ValueError, match="mask_logits"):
        MaskPrompt(torch.zeros(1, 3, 64, 64))


# Gradients, precision, unpadded input


def test_decoding_is_differentiable(sam, segmenter, features):
    embeddings = random(2, 1, 256).requires_grad_()
    sam.mask_decoder.zero_grad()
    prediction = segmenter.decode(features, EmbeddingPrompt(embeddings))
    segmenter.to_frame(prediction.mask_logits, features).square().mean().backward()
    assert (embeddings.grad.flatten(1).norm(dim=1) > 0).all()
    assert sam.mask_decoder.output_hypernetworks_mlps[0].layers[0].weight.grad.norm() > 0
    sam.mask_decoder.zero_grad()


def test_bfloat16_autocast_ends_in_float32(segmenter, features):
    points = PointPrompt(torch.tensor([[[201.0, 33.0]]]), torch.ones(1, 1))
    prompts = [EmbeddingPrompt(random(1, 1, 256).requires_grad_()), points]
    exact = segmenter.decode(features, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        sparse, _ = segmenter.embed_prompts(prompts)
        prediction = segmenter.decode(features, prompts)
    assert sparse.dtype == prediction.mask_logits.dtype == prediction.iou.dtype == torch.float32
    assert torch.equal(sparse, segmenter.embed_prompts(prompts)[0])
    difference = (prediction.mask_logits - exact.mask_logits).abs().max()
    assert 0 < difference < 0.1 * exact.mask_logits.abs().max()
    prediction.mask_logits.sum().backward()
    assert prompts[0].embeddings.grad.isfinite().all()


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, None)],
)
def test_bfloat16_is_advised_where_the_processor_has_it(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert fastest_encoder_dtype(torch.device("cpu")) == expected
    assert fastest_encoder_dtype(torch.device("meta")) is None


def test_sam_cast_to_bfloat16_still_encodes_and_decodes(sam, features, frames):
    cast = build_sam("vit_t", image_size=SIDE)
    cast.load_state_dict(sam.state_dict())
    segmenter = SamSegmenter(cast.to(torch.bfloat16))
    with torch.no_grad():
        rounded = segmenter.encode(frames)
        prediction = segmenter.decode(rounded, BoxPrompt(torch.tensor([[3.0, 4.0, 99.0, 88.0]])))
    assert rounded.embedding.dtype == torch.bfloat16
    error = (rounded.embedding.float() - features.embedding).norm() / features.embedding.norm()
    assert error < 0.1
    assert prediction.mask_logits.dtype == torch.float32


def test_unpadded_frame_is_decoded_on_its_own_grid(sam, segmenter, frames, features):
    direct = SamSegmenter(sam, pad_input=False)
    with torch.no_grad():
        own = direct.encode(frames)
        prediction = direct.decode(own, EmbeddingPrompt(random(2, 1, 256)))
        square = direct.encode(np.ascontiguousarray(np.broadcast_to(frames[:1, :1, :1], (1, 20, 20, 3))))
        padded_square = segmenter.encode(np.broadcast_to(frames[:1, :1, :1], (1, 20, 20, 3)))
    assert own.embedding.shape == (2, 256, 10, 16)
    assert features.embedding.shape == (2, 256, 16, 16)
    assert [level.shape for level in own.levels] == [level.shape for level in features.levels]
    assert prediction.mask_logits.shape == (2, 1, SIDE // 4, SIDE // 4)
    # What lies below the frame repeats the last row, so that it cannot bleed into the frame.
    below, last_row = prediction.mask_logits[:, :, 40:], prediction.mask_logits[:, :, 39:40]
    assert torch.equal(below, last_row.expand_as(below))
    assert direct.to_frame(prediction.mask_logits, own).shape == (2, 1, 48, 80)
    # A square frame has no padding either way.
    torch.testing.assert_close(square.embedding, padded_square.embedding, rtol=0, atol=0)


def test_encoder_without_levels_fits(frames):
    segmenter = SamSegmenter(Sam(PooledEncoder(), SIDE).eval())
    with torch.no_grad():
        features = segmenter.encode(frames)
        prediction = segmenter.decode(features, EmbeddingPrompt(random(1, 1, 256)), multimask=True)
    assert features.levels == ()
    assert prediction.mask_logits.shape == (1, 3, SIDE // 4, SIDE // 4)
    assert len(features) == 2
