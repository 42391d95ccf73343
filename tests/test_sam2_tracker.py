"""SAM 2's tracker against transformers' own video API, frame for frame, and what it holds.

The library's side is `Sam2VideoModel.forward` and `propagate_in_video_iterator` over a
`Sam2VideoInferenceSession`; ours calls the model's public modules only: `get_image_features`,
`prompt_encoder`, `mask_decoder`, `memory_attention`, `memory_encoder`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.prompt import BoxPrompt, EmbeddingPrompt, PointPrompt
from model.sam2 import Sam2Network, Sam2Segmenter, Sam2Tracker
from model.sam2.images import stretched
from model.sam2.memory import Memory, MemoryBank
from model.sam2.tracker import ABSENT_LOGIT
from tests.tiny_sam2 import PRESENCE_GAIN, SIDE, LibrarySession, tiny_image_model, tiny_video_model

NUM_FRAMES = 20
TOLERANCE = 3e-5


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def exact(monkeypatch) -> None:
    """Both sides keep memory in bfloat16, where a difference in a number's last bit may become one in its
    eighth. In float32 it can be seen that nothing else differs.
    """
    monkeypatch.setattr(torch, "bfloat16", torch.float32)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return tiny_video_model()


def encoded(model, frames: np.ndarray) -> list:
    segmenter = Sam2Segmenter(Sam2Network(model))
    with torch.inference_mode():
        return [segmenter.encode(frame[None]) for frame in frames]


@pytest.fixture(scope="module")
def features(model, frames):
    return encoded(model, frames)


def squares() -> torch.Tensor:
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[0, 20:60, 30:70] = True
    masks[1, 80:120, 5:50] = True
    return masks


def library(model, frames: np.ndarray) -> LibrarySession:
    return LibrarySession(model, stretched(frames, SIDE, torch.device("cpu")))


def assert_same(ours: dict, theirs: dict, tolerance: float = TOLERANCE) -> None:
    assert ours.keys() == theirs.keys()
    for index, expected in theirs.items():
        pairs = (
            (ours[index].mask_logits, expected.pred_masks[:, 0]),
            (ours[index].presence / PRESENCE_GAIN, expected.object_score_logits.flatten() / PRESENCE_GAIN),
        )
        for got, wanted in pairs:
            worst = (got - wanted).abs().max()
            assert worst < tolerance, f"frame {index} differs by {worst:.1e}"


def both_ways(tracker: Sam2Tracker, features: list, start: int) -> dict:
    ahead = {i: tracker.track(i, features[i]) for i in range(start + 1, len(features))}
    return {**ahead, **{i: tracker.track(i, features[i], -1) for i in range(start - 1, -1, -1)}}


# Against the library


def test_masks_of_two_objects_are_followed_both_ways_as_by_the_library(
    exact, model, frames, features
) -> None:
    start, masks = 8, squares()
    session = library(model, frames)
    theirs = {start: session.prompt(start, [{"mask": mask} for mask in masks])}
    theirs |= session.walk(start) | session.walk(start, reverse=True)
    tracker = Sam2Tracker(Sam2Network(model), NUM_FRAMES)
    ours = {start: tracker.prompt_masks(start, features[start], masks)}
    ours |= both_ways(tracker, features, start)
    assert_same(ours, theirs)
    # The clip shows all that can happen: objects that are there, and objects that are not.
    presence = torch.stack([tracked.presence for tracked in ours.values()])
    assert (presence > 1).any()
    assert (presence < -1).any()
    absent = [tracked.mask_logits[tracked.presence <= 0] for tracked in ours.values()]
    assert all((logits == ABSENT_LOGIT).all() for logits in absent)


def test_with_memory_in_bfloat16_as_it_is_kept(model, frames, features) -> None:
    start, masks = 8, squares()
    session = library(model, frames)
    theirs = {start: session.prompt(start, [{"mask": mask} for mask in masks])}
    theirs |= session.walk(start) | session.walk(start, reverse=True)
    tracker = Sam2Tracker(Sam2Network(model), NUM_FRAMES)
    ours = {start: tracker.prompt_masks(start, features[start], masks)}
    ours |= both_ways(tracker, features, start)
    assert {memory.maps.dtype for memory in tracker.bank.prompted.values()} == {torch.bfloat16}
    assert_same(ours, theirs, 1e-3)


@pytest.mark.parametrize("num_points", [1, 3])
def test_points_are_followed_as_by_the_library(exact, model, frames, features, num_points) -> None:
    points = torch.tensor([[40.0, 50.5], [60, 22], [100.25, 90]])[:num_points]
    labels = torch.tensor([1, 1, 0])[:num_points]
    session = library(model, frames[:6])
    theirs = {0: session.prompt(0, [{"points": points, "labels": labels}])} | session.walk(0)
    tracker = Sam2Tracker(Sam2Network(model), 6)
    ours = {0: tracker.prompt(0, features[0], PointPrompt(points[None], labels[None]))}
    ours |= {i: tracker.track(i, features[i]) for i in range(1, 6)}
    assert_same(ours, theirs)


def test_a_box_is_the_librarys_two_points(exact, model, frames, features) -> None:
    box = torch.tensor([20.0, 30, 70, 90])
    session = library(model, frames[:4])
    corners = {"points": box.view(2, 2), "labels": torch.tensor([2, 3])}
    theirs = {0: session.prompt(0, [corners])} | session.walk(0)
    tracker = Sam2Tracker(Sam2Network(model), 4)
    ours = {0: tracker.prompt(0, features[0], BoxPrompt(box[None]))}
    ours |= {i: tracker.track(i, features[i]) for i in range(1, 4)}
    assert_same(ours, theirs)


@pytest.mark.parametrize("most", [-1, 2])
def test_several_prompted_frames_apart_from_one_another(exact, frames, most) -> None:
    model = tiny_video_model(max_cond_frame_num=most)
    features, places = encoded(model, frames), (4, 7, 15)
    masks = squares()[:1]
    session = library(model, frames)
    theirs = {place: session.prompt(place, [{"mask": masks[0].roll(place, 1)}]) for place in places}
    theirs |= session.walk(4) | session.walk(4, reverse=True)
    tracker = Sam2Tracker(Sam2Network(model), NUM_FRAMES)
    ours = {place: tracker.prompt_masks(place, features[place], masks.roll(place, 2)) for place in places}
    walk = [i for i in range(5, NUM_FRAMES) if i not in places]
    ours |= {i: tracker.track(i, features[i]) for i in walk}
    ours |= {i: tracker.track(i, features[i], -1) for i in range(3, -1, -1)}
    assert_same(ours, theirs)
    assert len(tracker.bank.maps(12, 1)) > len(places)


@pytest.mark.parametrize(
    "changes",
    [
        {"enable_occlusion_spatial_embedding": False},
        {"enable_temporal_pos_encoding_for_object_pointers": False},
        {"multimask_output_for_tracking": False},
        {"num_maskmem": 3, "max_object_pointers_in_encoder": 5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_models_settings_count(exact, frames, changes) -> None:
    model = tiny_video_model(**changes)
    features, masks = encoded(model, frames[:9]), squares()
    session = library(model, frames[:9])
    theirs = {2: session.prompt(2, [{"mask": mask} for mask in masks])}
    theirs |= session.walk(2) | session.walk(2, reverse=True)
    tracker = Sam2Tracker(Sam2Network(model), 9)
    ours = {2: tracker.prompt_masks(2, features[2], masks)} | both_ways(tracker, features, 2)
    assert_same(ours, theirs)


def test_objects_do_not_know_of_one_another(model, features) -> None:
    masks = squares()
    together = Sam2Tracker(Sam2Network(model), NUM_FRAMES)
    together.prompt_masks(0, features[0], masks)
    alone = Sam2Tracker(Sam2Network(model), NUM_FRAMES)
    alone.prompt_masks(0, features[0], masks[1:])
    for index in range(1, 5):
        both, one = together.track(index, features[index]), alone.track(index, features[index])
        torch.testing.assert_close(both.mask_logits[1:], one.mask_logits, atol=TOLERANCE, rtol=0)


def test_masks_of_another_size_are_resized_as_by_the_librarys_processor(model, features) -> None:
    from types import SimpleNamespace

    from transformers import Sam2VideoProcessor

    masks = torch.from_numpy(np.random.default_rng(1).random((1, 45, 77)) > 0.6)
    session = library(model, np.zeros((1, SIDE, SIDE, 3), np.uint8))
    Sam2VideoProcessor.process_new_mask_for_video_frame(
        SimpleNamespace(target_size=SIDE), session.session, 0, [1], [masks[0]]
    )
    theirs = session.session.mask_inputs_per_obj[0][0][0]
    ours = Sam2Tracker(Sam2Network(model), 1).prompt_masks(0, features[0], masks).mask_logits
    expected = Sam2Tracker(Sam2Network(model), 1).prompt_masks(0, features[0], theirs > 0).mask_logits
    assert torch.equal(ours, expected)
    assert 0 < theirs.mean() < 1


# What is held


def test_memory_does_not_grow_with_the_video(model, features) -> None:
    tracker = Sam2Tracker(Sam2Network(model))
    tracker.prompt_masks(50, features[0], squares()[:1])
    sizes = []
    for index in range(51, 101):
        tracker.track(index, features[index % NUM_FRAMES])
        sizes.append(tracker.bank.num_bytes)
    assert len({*sizes[29:]}) == 1
    for index in range(49, 19, -1):
        tracker.track(index, features[index % NUM_FRAMES], -1)
        sizes.append(tracker.bank.num_bytes)
    bank = tracker.bank
    held = [memory for memory in bank.tracked.values() if memory.maps is not None]
    assert len(held) < 3 * bank.num_maps
    assert len(bank.tracked) < 3 * bank.num_pointers
    one_map, one_pointer = held[0].maps.nbytes, held[0].pointers.nbytes
    assert max(sizes) < one_map * (3 * bank.num_maps + 1) + one_pointer * (3 * bank.num_pointers + 1)


def test_what_a_frame_looks_at_is_never_forgotten() -> None:
    full, bank = MemoryBank(10_000, 10_000), MemoryBank(7, 16)
    note = torch.zeros(1)
    for each in (full, bank):
        each.prompted[30] = Memory(note, note)
    for step, walk in ((1, range(31, 80)), (-1, range(29, -1, -1))):
        for index in walk:
            expected = {i for i in full.tracked if 0 < (index - i) * step < 7}
            places = {index - step * offset for offset, _ in bank.maps(index, step) if offset}
            assert places == expected
            expected = {i for i in full.tracked if 0 < (index - i) * step < 16}
            pointers = {index - step * offset for offset, _ in bank.pointers(index, step)}
            assert pointers == expected | {30}
            for each in (full, bank):
                each.remember(index, Memory(note, note), start=30)


# Precision, and what cannot be done


def test_bfloat16_follows_nearly_as_float32(model, frames, features) -> None:
    network = Sam2Network(model, dtype=torch.bfloat16)
    segmenter = Sam2Segmenter(network)
    coarse, fine = Sam2Tracker(network, 4), Sam2Tracker(Sam2Network(model), 4)
    frame = segmenter.encode(frames[:1])
    assert frame.embedding.dtype == torch.bfloat16
    coarse.prompt_masks(0, frame, squares()[:1])
    fine.prompt_masks(0, features[0], squares()[:1])
    got = coarse.track(1, segmenter.encode(frames[1:2]))
    expected = fine.track(1, features[1])
    assert got.mask_logits.dtype == torch.float32
    assert (expected.presence > 0).all()
    agreement = ((got.mask_logits > 0) == (expected.mask_logits > 0)).float().mean()
    assert agreement > 0.9


def test_weights_in_bfloat16_run(frames) -> None:
    network = Sam2Network(tiny_video_model().to(torch.bfloat16))
    segmenter, tracker = Sam2Segmenter(network), Sam2Tracker(network, 3)
    tracker.prompt(
        0, segmenter.encode(frames[:1]), PointPrompt(torch.full((1, 1, 2), 40.0), torch.ones(1, 1))
    )
    tracker.prompt_masks(2, segmenter.encode(frames[2:3]), squares()[:1])
    assert tracker.track(1, segmenter.encode(frames[1:2])).mask_logits.isfinite().all()


def test_an_embedding_starts_a_track_too(model, features) -> None:
    tracker = Sam2Tracker(Sam2Network(model), 3)
    told = [torch.randn(1, 1, 256, generator=torch.Generator().manual_seed(seed)) * 5 for seed in (0, 1)]
    logits = [tracker.prompt(0, features[0], EmbeddingPrompt(each), multimask=False) for each in told]
    assert not torch.allclose(logits[0].presence, logits[1].presence)
    assert tracker.track(1, features[1]).mask_logits.shape == (1, SIDE // 4, SIDE // 4)


def test_tracking_needs_a_prompt_and_a_memory(features, model) -> None:
    with pytest.raises(RuntimeError, match="call prompt"):
        Sam2Tracker(Sam2Network(model)).track(0, features[0])
    with pytest.raises(ValueError, match="image part alone"):
        Sam2Tracker(Sam2Network(tiny_image_model()))
