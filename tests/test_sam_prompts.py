"""SAM's prompts: the masks that the package draws, objects together and alone, what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from model.prompt import BoxPrompt, EmbeddingPrompt, MaskPrompt, PointPrompt
from model.sam.import_segment_anything import modeling
from tests import small_sam
from tests.small_sam import SIDE, package_decode, random

pytestmark = pytest.mark.usefixtures("one_thread")
sam = small_sam.sam
segmenter = small_sam.segmenter
frames = small_sam.frames
features = small_sam.features


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
