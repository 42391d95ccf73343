"""The small tracker on SAM's features: reading frames, redrawing masks, training, weights."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from model.sam.build import build_sam
from model.sam.segmenter import SamSegmenter
from model.xmem import XMemTracker
from model.xmem.sam_trunk import SAM_CHANNELS, build_sam_xmem, start_as_feature_matcher
from model.xmem.similarity import anisotropic_similarity
from visa.tracking import SamRefiner, load_tracker, tracking_size
from visa.training.tracker import TrackerRecipe, draw_clip, follow, mask_loss, save_tracker, train_tracker
from visa.training.tracker_clips import TrackerClip, read_clip
from visa.video import Video


@pytest.fixture(scope="module")
def sam() -> SamSegmenter:
    torch.manual_seed(0)
    return SamSegmenter(build_sam("vit_t").eval())


def made_clip(num_frames: int = 4, scale: int = 1) -> TrackerClip:
    """Two squares that move over noise, with features that tell them apart."""
    generator = torch.Generator().manual_seed(0)
    height, width = 64 * scale, 96 * scale
    frames = torch.randint(0, 120, (num_frames, height, width, 3), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(2, num_frames, height, width, dtype=torch.bool)
    for t in range(num_frames):
        masks[0, t, 8 * scale : 40 * scale, 16 * scale + 8 * t : 48 * scale + 8 * t] = True
        masks[1, t, 44 * scale : 60 * scale, 60 * scale - 8 * t : 84 * scale - 8 * t] = True
    frames[masks[0]] += 100
    features = []
    for channels, stride in zip(SAM_CHANNELS, (16, 16, 8, 4), strict=True):
        axes = torch.randn(3, channels, generator=generator)
        shares = torch.nn.functional.avg_pool2d(masks.movedim(0, 1).float(), stride)
        shares = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1)
        noise = 0.2 * torch.randn(num_frames, channels, *shares.shape[-2:], generator=generator)
        features.append((torch.einsum("tkhw,kc->tchw", shares, axes) + noise).to(torch.bfloat16))
    return TrackerClip(frames, masks, tuple(features))


def test_tracking_size_needs_no_padding() -> None:
    assert tracking_size(480, 854, 1024) == (576, 1024)
    assert tracking_size(854, 480, 1024) == (1024, 576)
    assert tracking_size(1, 1, 1024) == (1024, 1024)
    assert tracking_size(1, 900, 1024) == (16, 1024)


def test_untrained_keys_compare_features_as_they_are() -> None:
    network = build_sam_xmem()
    clip = made_clip()
    start_as_feature_matcher(network, [clip.features[:2]], temperature=0.1)
    frame = network.encode_key(clip.features)
    assert (frame.shrinkage - 1).max() < 0.5
    assert (frame.selection - 0.5).abs().max() < 0.2
    key = frame.key[0].flatten(1).T
    half = torch.full_like(key, 0.5)
    scores = anisotropic_similarity(key, None, key, half)
    unit = network.key_encoder.join(*clip.features[:2])[0].flatten(1).T
    expected = (unit @ unit.T - 1) / 0.1
    # Distances along the 64 axes kept, of 416; the features of this clip hardly need more than three.
    assert torch.corrcoef(torch.stack([scores.flatten(), expected.flatten()]))[0, 1] > 0.9
    assert (scores - expected).abs().mean() < 0.2 * expected.abs().mean()


def test_untrained_network_already_follows() -> None:
    network = build_sam_xmem()
    clip = made_clip(3, scale=4)
    start_as_feature_matcher(network, [clip.features[:2]])
    labels, predicted = [], []
    with torch.no_grad():
        for mask_logits, truth in follow(network, clip, 1.0, random.Random(0)):
            labels.append(truth)
            predicted.append(mask_logits.argmax(1))
    labels, predicted = torch.stack(labels), torch.stack(predicted)
    for label in (1, 2):
        overlap = ((labels == label) & (predicted == label)).sum() / (
            (labels == label) | (predicted == label)
        ).sum()
        assert overlap > 0.5


def test_loss_counts_the_worst_pixels_and_falls_to_zero() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, 2:6, 2:6] = 1
    right = 40 * (torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float() - 0.5)
    assert mask_loss(right, labels, 1.0) < 1e-3
    wrong = right.clone()
    wrong[:, :, 0, 0] *= -1
    assert mask_loss(wrong, labels, 0.1) > 5 * mask_loss(wrong, labels, 1.0) > 0.5


def test_the_recipe_learns_and_its_weights_load(tmp_path: Path, sam: SamSegmenter) -> None:
    clip = made_clip()
    for name in ("0", "1"):
        torch.save(
            {"frames": clip.frames, "masks": clip.masks, "features": clip.features},
            tmp_path / f"{name}.pt",
        )
    assert torch.equal(read_clip(tmp_path / "0.pt").masks, clip.masks)
    recipe = TrackerRecipe(
        steps=30, frames=3, warmup=5, learning_rate=2e-3, hard_share=1.0, bfloat16=False, report_every=10
    )
    weights, curve_path = tmp_path / "tracker.safetensors", tmp_path / "curve.json"
    network = train_tracker(tmp_path, weights, recipe, curve_path)
    curve = json.loads(curve_path.read_text())["curve"]
    assert [point["step"] for point in curve] == [10, 20, 30]
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert curve[-1]["overlap"] > curve[0]["overlap"]
    loaded = load_tracker(weights, sam).network
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
    (tmp_path / "wrong.safetensors").unlink(missing_ok=True)
    save_tracker(torch.nn.Linear(2, 2), tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="small tracker"):
        load_tracker(tmp_path / "wrong.safetensors", sam)
    with pytest.raises(ValueError, match="found none"):
        train_tracker(tmp_path / "empty", weights, recipe)


def test_clips_are_followed_as_in_tracking() -> None:
    """Training and tracking are two ways through one network: both give the same masks."""
    torch.manual_seed(0)
    network = build_sam_xmem().eval()
    clip = made_clip(2)
    with torch.no_grad():
        ((_, _, trained),) = [
            (logits, labels, logits.softmax(1))
            for logits, labels in follow(network, clip, 1.0, random.Random(0))
        ]
    from model.xmem.framing import normalise

    images = normalise(clip.frames)
    tracker = XMemTracker(network)
    for t in range(2):
        frame_key = network.encode_key(tuple(each[t : t + 1] for each in clip.features))
        probs = tracker.step(images[t], clip.masks[:, 0] if t == 0 else None, frame_key=frame_key, end=t == 1)
    torch.testing.assert_close(trained[0], probs, rtol=1e-3, atol=1e-4)


def test_drawn_clips_keep_masks_and_features_together() -> None:
    recipe = TrackerRecipe(frames=3)
    clip = made_clip(6)
    for seed in range(8):
        drawn = draw_clip(clip, recipe, random.Random(seed))
        assert drawn.frames.shape[0] == 3
        assert 1 <= len(drawn.masks) <= 2
        bright = drawn.frames.float().mean(-1) > 100
        assert bright.any()
        # The bright square is the first object: where it is followed, its mask lies on it.
        overlaps = (drawn.masks & bright).sum((2, 3)) / drawn.masks.sum((2, 3)).clamp(min=1)
        assert ((overlaps > 0.9) | (overlaps < 0.1)).all()


def test_a_wide_video_is_tracked_on_sam_features(tmp_path: Path, sam: SamSegmenter) -> None:
    torch.manual_seed(0)
    save_tracker(build_sam_xmem(), tmp_path / "tracker.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (3, 12, 480, 3), dtype=np.uint8)
    masks = np.zeros((1, 12, 480), bool)
    masks[0, 2:9, 100:300] = True
    for refine in (False, True):
        propagator = load_tracker(tmp_path / "tracker.safetensors", sam, refine=refine)
        result = propagator.propagate(Video.from_frames(frames), 1, masks)
        assert result.shape == (1, 3, 12, 480)
        assert np.array_equal(result[:, 1], masks)


@torch.inference_mode()
def test_redrawn_masks_stay_where_xmem_sees_nothing(sam: SamSegmenter) -> None:
    size = (64, 1024)
    refiner = SamRefiner(sam.sam, torch.randn(1, 256, 4, 64), size)
    nothing = torch.stack([torch.ones(size), torch.zeros(size)])
    assert refiner(nothing) is nothing
    object_probs = torch.full((2, *size), 0.01)
    object_probs[0, 10:40, 200:300] = 0.95
    mask_probs = torch.cat([(1 - object_probs).prod(0, keepdim=True), object_probs])
    redrawn = refiner(mask_probs)
    assert redrawn.shape == mask_probs.shape
    torch.testing.assert_close(redrawn.sum(0), torch.ones(size))
    assert redrawn[2].max() < 0.5
