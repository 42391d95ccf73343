"""SAM 2 as the segmenter against transformers' `Sam2Model`; its preprocessing; its weights."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.prompt import BoxPrompt, EmbeddingPrompt, MaskPrompt, PointPrompt
from model.sam.images import PIXEL_MEAN, PIXEL_STD
from model.sam2 import Sam2Network, Sam2Segmenter, load_sam2
from model.sam2.images import stretched
from tests.tiny_sam2 import SIDE, tiny_image_model, tiny_video_model

CPU = torch.device("cpu")
SIZE = (48, 80)
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return tiny_image_model()


@pytest.fixture(scope="module")
def segmenter(model) -> Sam2Segmenter:
    return Sam2Segmenter(Sam2Network(model))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(segmenter, frames):
    with torch.no_grad():
        return segmenter.encode(frames)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


POINTS = torch.tensor([[[30.0, 40.5], [100, 20]], [[64, 64], [5, 120.25]]])
LABELS = torch.tensor([[1, 0], [1, 1]])
BOXES = torch.tensor([[10.0, 20, 60, 90], [70, 5, 120, 50.5]])


# Against the library


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("kind", ["points", "boxes", "points and boxes"])
def test_two_objects_prompted_by(kind, multimask, model, segmenter, frames, features) -> None:
    asked, prompts = {}, []
    if "points" in kind:
        asked |= {"input_points": POINTS[None], "input_labels": LABELS[None]}
        prompts.append(PointPrompt(POINTS, LABELS))
    if "boxes" in kind:
        asked["input_boxes"] = BOXES[None]
        prompts.append(BoxPrompt(BOXES))
    with torch.no_grad():
        theirs = model(stretched(frames[1:], SIDE, CPU), **asked, multimask_output=multimask)
        ours = segmenter.decode(features, prompts, frame_index=1, multimask=multimask)
    torch.testing.assert_close(ours.mask_logits, theirs.pred_masks[0], **TOLERANCE)
    torch.testing.assert_close(ours.iou, theirs.iou_scores[0], **TOLERANCE)
    torch.testing.assert_close(ours.presence, theirs.object_score_logits[0, :, 0], atol=1e-3, rtol=1e-4)
    assert ours.mask_logits.shape == (2, 3 if multimask else 1, SIDE // 4, SIDE // 4)


def test_a_mask_as_prompt(model, segmenter, frames, features) -> None:
    mask_logits = 5 * random(1, 1, SIDE // 4, SIDE // 4)
    with torch.no_grad():
        theirs = model(stretched(frames[:1], SIDE, CPU), input_masks=mask_logits, multimask_output=False)
        ours = segmenter.decode(features, MaskPrompt(mask_logits))
        several = segmenter.decode(features, MaskPrompt(mask_logits.repeat(3, 1, 1, 1)))
    torch.testing.assert_close(ours.mask_logits, theirs.pred_masks[0], **TOLERANCE)
    torch.testing.assert_close(several.mask_logits[2], ours.mask_logits[0], **TOLERANCE)


def test_the_video_models_image_part_is_the_same(model, frames) -> None:
    whole = tiny_video_model()
    missing = whole.load_state_dict(model.state_dict(), strict=False)
    assert not missing.unexpected_keys
    with torch.no_grad():
        answers = []
        for each in (model, whole):
            segmenter = Sam2Segmenter(Sam2Network(each))
            answers.append(
                segmenter.decode(segmenter.encode(frames), PointPrompt(POINTS, LABELS)).mask_logits
            )
    assert torch.equal(*answers)


# Our own


def test_an_embedding_joins_the_sparse_tokens_and_carries_gradients(segmenter, features) -> None:
    embeddings = random(2, 3, 256).requires_grad_()
    alone, _ = segmenter.network.embed_prompts(EmbeddingPrompt(embeddings))
    # Two tokens that say "no point", as the library gives where there is none.
    assert alone.shape == (2, 2 + 3, 256)
    assert torch.equal(alone[:, 2:], embeddings)
    prompts = [EmbeddingPrompt(embeddings), PointPrompt(POINTS, LABELS)]
    with_points, _ = segmenter.network.embed_prompts(prompts)
    assert torch.equal(with_points[:, 3:], embeddings)
    drawn = segmenter.decode(features, EmbeddingPrompt(embeddings), frame_index=torch.tensor([0, 1]))
    drawn.mask_logits.sum().backward()
    assert embeddings.grad.abs().amax((1, 2)).gt(0).all()


def test_each_object_on_its_own_frame(segmenter, features) -> None:
    prompt = PointPrompt(POINTS, LABELS)
    with torch.no_grad():
        together = segmenter.decode(features, prompt, frame_index=torch.tensor([1, 0])).mask_logits
        apart = [segmenter.decode(features, prompt, frame_index=k).mask_logits for k in (1, 0)]
    torch.testing.assert_close(together[0], apart[0][0], **TOLERANCE)
    torch.testing.assert_close(together[1], apart[1][1], **TOLERANCE)
    assert not torch.allclose(together[0], apart[1][0], atol=1e-3)


def test_frames_in_chunks_and_no_objects(segmenter, frames, features) -> None:
    with torch.no_grad():
        whole = segmenter.encode(frames, chunk=2)
    torch.testing.assert_close(whole.embedding, features.embedding, **TOLERANCE)
    assert [tuple(level.shape) for level in whole.levels] == [(2, 32, 32, 32), (2, 64, 16, 16)]
    none = segmenter.decode(features, BoxPrompt(torch.zeros(0, 4)), multimask=True)
    assert none.mask_logits.shape == (0, 3, SIDE // 4, SIDE // 4)
    assert segmenter.to_frame(none.mask_logits[:, :1], features).shape == (0, 1, *SIZE)


def test_coordinates_of_the_video_become_those_of_the_square(segmenter, features) -> None:
    corners = torch.tensor([[0.0, 0], [80, 48], [40, 12]])
    expected = torch.tensor([[0.0, 0], [SIDE, SIDE], [SIDE / 2, SIDE / 4]])
    assert torch.equal(features.to_input(corners), expected)
    flat = torch.zeros(1, 1, SIDE // 4, SIDE // 4)
    flat[..., SIDE // 16 : SIDE // 8, SIDE // 8 : SIDE // 4] = 1  # a quarter down, half to the right
    rows, columns = (segmenter.to_frame(flat, features)[0, 0] > 0.5).nonzero().T
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (12, 24, 40, 80)


def test_bad_prompts_and_frames_are_told(segmenter, features, frames) -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        segmenter.decode(features, [])
    with pytest.raises(ValueError, match="one box and one mask"):
        segmenter.decode(features, [BoxPrompt(BOXES)] * 2)
    with pytest.raises(ValueError, match=r"frame_index must have shape \[2\]"):
        segmenter.decode(features, BoxPrompt(BOXES), frame_index=torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one frame"):
        segmenter.encode(frames[:0])
    with pytest.raises(ValueError, match="uint8"):
        segmenter.encode(frames.astype(np.float32))


# Preprocessing


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    side=st.sampled_from([16, 64, 100]),
    seed=st.integers(0, 99),
)
def test_stretching_is_pillows_within_one_level(size, side, seed) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    ours = stretched(frame, side, CPU)
    levels = ours * torch.tensor(PIXEL_STD).view(3, 1, 1) + torch.tensor(PIXEL_MEAN).view(3, 1, 1)
    pillows = np.asarray(Image.fromarray(frame[0]).resize((side, side), Image.Resampling.BILINEAR))
    assert (levels - levels.round()).abs().max() < 1e-3  # whole values, as the library rounds to
    difference = (levels[0].permute(1, 2, 0).round() - torch.from_numpy(pillows.copy()).float()).abs()
    assert difference.max() <= 1


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="the library's need torchvision")
def test_preprocessing_is_the_librarys(frames) -> None:
    from transformers import Sam2ImageProcessor

    processor = Sam2ImageProcessor(size={"height": SIDE, "width": SIDE})
    theirs = processor(list(frames), return_tensors="pt")["pixel_values"]
    assert (stretched(frames, SIDE, CPU) - theirs).abs().max() <= 1.01 / min(PIXEL_STD)


# Weights


@pytest.mark.parametrize("make", [tiny_image_model, tiny_video_model])
def test_weights_are_loaded_as_saved(make, tmp_path, frames) -> None:
    saved = make(seed=3)
    saved.save_pretrained(tmp_path)
    loaded = load_sam2(tmp_path)
    assert loaded.can_track == (make is tiny_video_model)
    assert loaded.source == tmp_path
    state = saved.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items())
    assert not loaded.model.training
    assert type(loaded.model.config.mask_decoder_config).__name__.endswith("MaskDecoderConfig")


def test_what_is_no_sam2_is_told_in_one_line(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no readable config\.json"):
        load_sam2(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="of a 'llama'"):
        load_sam2(tmp_path)
    tiny_video_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be read") as told:
        load_sam2(tmp_path)
    assert "\n" not in str(told.value)


def test_weights_that_lack_something_or_are_broken(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    tiny_video_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["memory_attention.layer_norm.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 of SAM 2's tensors.*memory_attention\.layer_norm\.weight"):
        load_sam2(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        load_sam2(tmp_path)
