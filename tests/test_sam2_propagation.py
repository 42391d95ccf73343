"""SAM 2 through a clip: XMem's walk, the library's masks, every frame encoded once; presets that name it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

import visa
from model.sam import SamSegmenter, build_sam
from model.sam2 import Sam2Network, Sam2Segmenter, Sam2Tracker
from model.sam2.images import stretched
from tests.tiny_sam2 import SIDE, LibrarySession, tiny_image_model, tiny_video_model
from visa.anchored_propagation import stream_anchored
from visa.carried_masks import Carrying
from visa.errors import DownloadError, InputError
from visa.propagation import Anchor, ClipFeatures
from visa.sam2_propagation import Sam2Propagator
from visa.sam_loading import build_propagator, build_segmenter
from visa.video import Video

CPU = torch.device("cpu")
NUM_FRAMES, HEIGHT, WIDTH = 8, 60, 100


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> Sam2Network:
    """Whose objects never leave: that is another test's, and empty masks would show nothing here."""
    model = tiny_video_model()
    model.mask_decoder.pred_obj_score_head.proj_out.bias += 50
    return Sam2Network(model)


@pytest.fixture
def propagator(network) -> Sam2Propagator:
    return Sam2Propagator(network)


def clip(num_frames: int = NUM_FRAMES, height: int = HEIGHT, width: int = WIDTH) -> Video:
    rng = np.random.default_rng(0)
    return Video.from_frames(rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8))


def squares(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    masks = np.zeros((2, height, width), dtype=bool)
    masks[0, height // 6 : height // 2, width // 4 : width // 2] = True
    masks[1, height // 2 : -4, 4 : width // 3] = True
    return masks


class Counting:
    """An encoder that counts what it reads."""

    def __init__(self, encoder):
        self.encoder, self.calls = encoder, 0

    def __call__(self, frame):
        self.calls += 1
        return self.encoder(frame)


def bytes_of_all_tensors() -> int:
    gc.collect()
    return sum(each.nbytes for each in gc.get_objects() if type(each) is torch.Tensor)


# The walk


def test_masks_are_the_librarys_both_ways(network, propagator, monkeypatch) -> None:
    monkeypatch.setattr(torch, "bfloat16", torch.float32)  # memory: see test_sam2_tracker
    video, start, mask = clip(NUM_FRAMES, SIDE, SIDE), 3, squares(SIDE, SIDE)[:1]
    session = LibrarySession(network.model, stretched(video.frames(range(NUM_FRAMES)), SIDE, CPU))
    session.prompt(start, [{"mask": torch.from_numpy(mask[0])}])
    theirs = session.walk(start) | session.walk(start, reverse=True)
    ours = propagator.propagate(video, start, mask)
    for index in {*range(NUM_FRAMES)} - {start}:
        logits = torch.nn.functional.interpolate(theirs[index].pred_masks, (SIDE, SIDE), mode="bilinear")[
            0, 0
        ]
        sure = logits.abs() > 1e-3
        assert torch.equal(torch.from_numpy(ours[0, index])[sure], (logits > 0)[sure])
    assert np.array_equal(ours[0, start], mask[0])
    assert 0 < ours.mean() < 1


def test_order_overlap_and_empty_masks(propagator) -> None:
    video, masks = clip(), np.concatenate([squares(), np.zeros((1, HEIGHT, WIDTH), bool)])
    frames = list(propagator.stream(video, 3, masks))
    assert [index for index, _ in frames] == [3, 4, 5, 6, 7, 2, 1, 0]
    assert np.array_equal(frames[0][1], masks)
    for _, found in frames[1:]:
        assert found.shape == (3, HEIGHT, WIDTH)
        assert found.sum(0).max() <= 1
        assert not found[2].any()
    assert any(found.any() for _, found in frames[1:])


def test_questions_come_out_bit_by_bit_as_alone_and_share_every_frame(network) -> None:
    video = clip()
    anchors = [Anchor(0, squares()), Anchor(4, squares()[:1]), Anchor(4, squares()[1:]), Anchor(7, squares())]
    propagator = Sam2Propagator(network)
    propagator.encoder = Counting(propagator.encoder)
    together = propagator.propagate_many(video, anchors, features=propagator.features(video))
    assert propagator.encoder.calls == NUM_FRAMES
    for anchor, found in zip(anchors, together, strict=True):
        alone = propagator.propagate(video, anchor.target_frame, anchor.masks)
        assert np.array_equal(found, alone)


def test_drawn_frames_are_known_before_the_others_are_found(network, propagator) -> None:
    video, places = clip(), (2, 5)
    masks = np.stack([squares()[:1], np.roll(squares()[:1], 9, 2)], 1)
    found = dict(stream_anchored(propagator, video, places, masks))
    assert list(found) == list(range(NUM_FRAMES))
    segmenter, tracker = Sam2Segmenter(network), Sam2Tracker(network, NUM_FRAMES)
    with torch.inference_mode():
        features = [segmenter.encode(video.frames([index])) for index in range(NUM_FRAMES)]
    for row, place in enumerate(places):
        tracker.prompt_masks(place, features[place], torch.from_numpy(masks[:, row]))
        assert np.array_equal(found[place], masks[:, row])
    for index in range(NUM_FRAMES):
        if index not in places:
            logits = segmenter.to_frame(
                tracker.track(index, features[index]).mask_logits[None], features[index]
            )
            assert np.array_equal(found[index][0], (logits[0, 0] > 0).numpy())


def test_held_tensors_do_not_grow_with_the_clip(network) -> None:
    propagator = Sam2Propagator(network)
    one = propagator.encoder(clip(1)[0]).num_bytes
    sizes = {}
    features = ClipFeatures(clip(60), propagator.encoder, cache_bytes=3 * one)
    anchors = [Anchor(0, squares()[:1])]
    for _, index, _ in propagator.stream_many(features.video, anchors, features=features):
        if index in (35, 59):  # 15 pointers near the start and 15 of the last frames: full from the 30th on
            sizes[index] = bytes_of_all_tensors()
    assert sizes[35] == sizes[59]


# Presets


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("sam2")
    tiny_video_model().save_pretrained(where / "tiny")
    tiny_image_model().save_pretrained(where / "image")
    return where


def test_segment_and_propagate_may_name_the_same_sam2(folder) -> None:
    sam = build_segmenter({"sam2": "tiny", "dtype": "float32"}, folder, CPU)
    assert isinstance(sam, Sam2Segmenter)
    tracker = build_propagator({"sam2": "tiny"}, folder, sam)
    assert tracker.network is sam.network
    assert tracker.propagate(clip(2), 0, squares()).shape == (2, 2, HEIGHT, WIDTH)
    # Where the two are to compute in different dtypes, each has its own.
    other = build_propagator({"sam2": "tiny", "dtype": "bfloat16"}, folder, sam)
    assert (sam.network.dtype, other.network.dtype) == (None, torch.bfloat16)
    assert build_propagator({"sam2": "tiny", "dtype": "float32"}, folder, sam).network is sam.network


def test_sam2_may_follow_what_sam_draws(folder) -> None:
    sam = SamSegmenter(build_sam("vit_t", image_size=64))
    tracker = build_propagator({"sam2": str(folder / "tiny"), "dtype": "bfloat16"}, folder, sam)
    assert tracker.network.dtype == torch.bfloat16
    assert tracker.propagate(clip(2), 1, squares()).shape == (2, 2, HEIGHT, WIDTH)


def test_sam2_that_is_not_there_or_does_not_fit_is_told_in_one_line(folder, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sam = Sam2Segmenter(Sam2Network(tiny_image_model()))
    cases = [
        (lambda: build_segmenter({"sam2": "nowhere/at/all"}, folder, CPU), InputError, "there is no nowhere"),
        (
            lambda: build_segmenter({"sam2": "tiny", "dtype": "int8"}, folder, CPU),
            InputError,
            "bfloat16, not 'int8'",
        ),
        (lambda: build_segmenter({"sam2": "."}, folder, CPU), InputError, "no readable config"),
        (lambda: build_propagator({"tracker": "any"}, folder, sam), InputError, "MobileSAM's features"),
        (lambda: build_propagator({"sam2": "image"}, folder, sam), ValueError, "image part alone"),
    ]
    for build, kind, words in cases:
        with pytest.raises(kind, match=words) as told:
            build()
        assert "\n" not in str(told.value)


def test_a_repository_that_the_hub_does_not_give_is_told_in_one_line(folder, monkeypatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def absent(*args, **kwargs):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    with pytest.raises(DownloadError, match=r"facebook/sam2-hiera-large is not in the cache") as told:
        build_segmenter({"sam2": "facebook/sam2-hiera-large"}, folder, CPU)
    assert "\n" not in str(told.value)


def test_published_systems_may_have_their_masks_carried_on_by_sam2(folder) -> None:
    propagate = {"xmem": "XMem.pth", "sam2": "tiny"}
    carrying = Carrying.of(propagate, "target")
    assert isinstance(carrying.propagator(propagate, folder, folder, CPU, torch.float32), Sam2Propagator)
    assert Carrying.of(propagate, "target", xmem="other.pth").sam2 is None
    assert Carrying.of({"xmem": None}, "all", sam2=folder / "tiny").frames == "dense"


def test_the_embedded_system_draws_with_the_sam_its_glue_knows(folder) -> None:
    preset = folder / "other.yaml"
    preset.write_text("{segment: {sam2: tiny}, reason: {}, sample: {}, propagate: {sam2: tiny}}")
    with pytest.raises(InputError, match="trained on MobileSAM"):
        visa.load(preset, device="cpu")
