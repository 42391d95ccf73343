"""SAM's gradients, and what bfloat16 changes."""

from __future__ import annotations

import pytest
import torch

from model.prompt import BoxPrompt, EmbeddingPrompt, PointPrompt
from model.sam import SamSegmenter, build_sam, fastest_encoder_dtype
from tests import small_sam
from tests.small_sam import SIDE, random

pytestmark = pytest.mark.usefixtures("one_thread")
sam = small_sam.sam
segmenter = small_sam.segmenter
frames = small_sam.frames
features = small_sam.features


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
