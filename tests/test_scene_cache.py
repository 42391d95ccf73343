"""Cached scenes: what is read back is what was encoded, and masks lie where SAM's padded input has them."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.synthetic.generate import film
from dataset.synthetic.library import open_library
from tests.tiny_training import TinyTower, tiny_sam
from visa.training import scene_cache
from visa.training.scene_cache import (
    CLIP_FRAMES,
    FRAME_SIZES,
    STILL_SHARE,
    build_cache,
    draw_spec,
    encode_scene,
    load_scene,
    masks_on_sam_input,
    scene_path,
)

SPRITES = Path(__file__).parent / "sprites"


@pytest.fixture(scope="module")
def parts():
    """Asset library, tower and SAM."""
    torch.manual_seed(0)
    return open_library([SPRITES]), TinyTower(), tiny_sam()


@pytest.fixture(autouse=True)
def small_frames(monkeypatch):
    monkeypatch.setattr(scene_cache, "FRAME_SIZES", (((96, 160), 1.0),))


@pytest.fixture(params=["still", "clip"])
def num_frames(request, monkeypatch):
    monkeypatch.setattr(scene_cache, "STILL_SHARE", 1.0 if request.param == "still" else 0.0)
    return 1 if request.param == "still" else CLIP_FRAMES


def assert_same(one, other):
    assert (one.percents, one.target, one.input_size) == (other.percents, other.target, other.input_size)
    assert torch.equal(one.sam_features, other.sam_features)
    assert torch.equal(one.object_masks, other.object_masks)
    assert len(one.frames) == len(other.frames)
    for mine, theirs in zip(one.frames, other.frames, strict=True):
        for field in fields(mine):
            here, there = getattr(mine, field.name), getattr(theirs, field.name)
            assert here.dtype == there.dtype
            assert torch.equal(here, there), field.name
    assert one.scene.num_frames == other.scene.num_frames
    for mine, theirs in zip(one.scene.objects, other.scene.objects, strict=True):
        for field in fields(mine):
            np.testing.assert_equal(getattr(mine, field.name), getattr(theirs, field.name))


def test_a_scene_read_back_equals_what_was_encoded(parts, tmp_path, num_frames):
    build_cache(tmp_path, range(3, 5), "train", *parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000003.pt", "0000004.pt"]
    for seed in (3, 4):
        assert_same(load_scene(scene_path(tmp_path, seed)), encode_scene(seed, "train", *parts))


def test_an_encoded_scene_is_the_filmed_one(parts, num_frames):
    assets, _, sam = parts
    cached = encode_scene(5, "train", *parts)
    made = film(5, draw_spec(np.random.default_rng([5, 7]), "train"), assets)
    last = num_frames - 1
    if num_frames == 1:
        assert (cached.target, cached.percents) == (0, (0,))
    else:
        places = tuple(round(100 * t / last) for t in range(num_frames))
        assert cached.percents == (*places, places[cached.target]), "the target frame last"
    order = [*range(num_frames), cached.target] if num_frames > 1 else [0]
    for cells, t in zip(cached.frames, order, strict=True):
        mean = made.frames[t].reshape(-1, 3).mean(0) / 127.5 - 1
        assert cells.colour.float().mean((0, 1)).numpy() == pytest.approx(mean, abs=0.01)
        assert cells.features.dtype == torch.float16
        assert cells.class_indices.dtype == torch.int16
    features = sam.encode(made.frames[cached.target : cached.target + 1])
    assert cached.input_size == features.input_size == (614, 1024)
    assert cached.sam_features.shape == (256, 39, 64)
    assert torch.allclose(cached.sam_features.float(), features.embedding[0, :, :39], atol=0.05)
    assert cached.object_masks.shape == (len(made.scene.objects), 256, 256)
    assert cached.object_masks.dtype == torch.uint8
    area = (cached.object_masks.float() / 255).sum((1, 2)).numpy() * (160 / 256) ** 2
    assert area == pytest.approx(made.masks[:, cached.target].sum((1, 2)), rel=0.1, abs=2)
    assert area.max() > 0, "the target frame shows something"


def test_building_goes_on_where_it_was_broken_off(parts, tmp_path, monkeypatch):
    encoded = []

    def encode(seed, *rest):
        encoded.append(seed)
        if seed == 2 and len(encoded) == 3:
            raise KeyboardInterrupt
        return f"scene {seed}"

    monkeypatch.setattr(scene_cache, "encode_scene", encode)
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "scenes", range(4), "train", *parts)
    (tmp_path / "scenes" / ".2.partial").write_bytes(b"half a scene")
    build_cache(tmp_path / "scenes", range(4), "train", *parts)
    assert encoded == [0, 1, 2, 2, 3]
    assert [load_scene(scene_path(tmp_path / "scenes", seed)) for seed in range(4)] == [
        f"scene {seed}" for seed in range(4)
    ]
    assert not list((tmp_path / "scenes").glob(".*"))


@pytest.mark.parametrize(
    ("size", "input_size", "box", "expected"),
    [
        ((288, 512), (576, 1024), (48, 96, 100, 200), (24, 48, 50, 100)),
        ((512, 288), (1024, 576), (100, 200, 48, 96), (50, 100, 24, 48)),
        ((64, 64), (1024, 1024), (0, 16, 48, 64), (0, 64, 192, 256)),
    ],
    ids=["wide", "tall", "square"],
)
def test_masks_lie_where_sams_padded_input_has_them(size, input_size, box, expected):
    masks = np.zeros((2, *size), bool)
    masks[0, box[0] : box[1], box[2] : box[3]] = True
    masks[1] = True
    placed = masks_on_sam_input(masks, input_size)
    assert placed.shape == (2, 256, 256)
    assert placed.dtype == torch.uint8
    truth = np.zeros((256, 256), bool)
    truth[expected[0] : expected[1], expected[2] : expected[3]] = True
    inside = placed[0].numpy() > 127
    assert (inside & truth).sum() / (inside | truth).sum() > 0.95
    assert placed[0].sum().item() / 255 == pytest.approx(truth.sum(), rel=0.02)
    height, width = input_size[0] // 4, input_size[1] // 4
    assert (placed[1, :height, :width] == 255).all()
    assert not placed[1, height:].any()
    assert not placed[1, :, width:].any()


def test_scenes_are_of_all_sizes_and_mostly_stills(monkeypatch):
    monkeypatch.setattr(scene_cache, "FRAME_SIZES", FRAME_SIZES)
    rng = np.random.default_rng(0)
    specs = [draw_spec(rng, "held-out") for _ in range(600)]
    assert {spec.split for spec in specs} == {"held-out"}
    assert {spec.num_frames for spec in specs} == {1, CLIP_FRAMES}
    assert np.mean([spec.num_frames == 1 for spec in specs]) == pytest.approx(STILL_SHARE, abs=0.07)
    for size, share in FRAME_SIZES:
        assert np.mean([(spec.height, spec.width) == size for spec in specs]) == pytest.approx(
            share, abs=0.07
        )
