"""What must hold of XMem's memory, tracker and propagation whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_xmem import CountingEncoder, clip, moving_square, small_network
from torch import nn

from model.xmem import MemoryConfig, XMem, XMemTracker, aggregate, load_xmem
from model.xmem.framing import padding_for, resize_masks, unpad, working_size
from model.xmem.memory import Tokens, consolidate, prune
from model.xmem.similarity import anisotropic_similarity, top_k_affinity
from visa.propagation import ImageEncoder
from visa.xmem_propagation import Propagator


@settings(max_examples=30, deadline=None)
@given(
    memory=st.integers(1, 40),
    queries=st.integers(1, 9),
    top_k=st.one_of(st.none(), st.integers(1, 60)),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_affinity_is_a_distribution(
    memory: int, queries: int, top_k: int | None, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    key, query = torch.randn(memory, 6, generator=generator), torch.randn(queries, 6, generator=generator)
    selection = torch.rand(queries, 6, generator=generator)
    shrinkage = 1 + scale * torch.rand(memory, generator=generator)
    scores = anisotropic_similarity(key * scale, shrinkage, query * scale, selection)
    assert (scores <= 1e-3 * scale**2).all()
    affinity = top_k_affinity(scores, top_k)
    dense = affinity.dense()
    torch.testing.assert_close(dense.sum(1), torch.ones(queries))
    assert ((dense > 0).sum(1) <= (memory if top_k is None else top_k)).all()
    torch.testing.assert_close(affinity.usage(), dense.sum(0))
    values = torch.randn(memory, 5, generator=generator)
    torch.testing.assert_close(affinity.read(values), dense @ values)


def test_similarity_is_the_weighted_distance() -> None:
    torch.manual_seed(0)
    key, query, selection, shrinkage = (
        torch.randn(7, 4),
        torch.randn(5, 4),
        torch.rand(5, 4),
        1 + torch.rand(7),
    )
    expected = torch.zeros(5, 7)
    for q in range(5):
        for n in range(7):
            expected[q, n] = -shrinkage[n] * (selection[q] * (key[n] - query[q]) ** 2).sum() / 2
    torch.testing.assert_close(anisotropic_similarity(key, shrinkage, query, selection), expected)


@settings(max_examples=20, deadline=None)
@given(objects=st.integers(1, 4), seed=st.integers(0, 100))
def test_aggregate_sums_to_one(objects: int, seed: int) -> None:
    probs = torch.rand(1, objects, 3, 4, generator=torch.Generator().manual_seed(seed))
    mask_logits, mask_probs = aggregate(probs)
    assert mask_probs.shape == (1, objects + 1, 3, 4)
    torch.testing.assert_close(mask_probs.sum(1), torch.ones(1, 3, 4))
    torch.testing.assert_close(mask_logits.softmax(1), mask_probs)
    if objects == 1:
        squared = probs[:, 0] ** 2
        torch.testing.assert_close(mask_probs[:, 1], squared / (squared + (1 - probs[:, 0]) ** 2))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_padding_is_undone(height: int, width: int) -> None:
    padding = padding_for(height, width)
    padded = nn.functional.pad(torch.ones(1, height, width), padding)
    assert padded.shape[1] % 16 == 0
    assert padded.shape[2] % 16 == 0
    assert padded.shape[1] - height < 16
    assert unpad(padded, padding).shape == (1, height, width)
    assert unpad(padded, padding).all()


def test_working_size_keeps_the_shape() -> None:
    assert working_size(480, 854, 480) == (480, 854)
    assert working_size(720, 1280, 480) == (480, 853)
    assert working_size(1280, 720, 480) == (853, 480)
    assert working_size(97, 131, None) == (97, 131)


def tokens_of(use: list[float], life: float = 1.0) -> Tokens:
    torch.manual_seed(0)
    count = len(use)
    tokens = Tokens.fresh(
        torch.randn(count, 4),
        torch.ones(count),
        torch.rand(count, 4),
        [torch.randn(count, 2, 3)],
        [torch.ones(count, dtype=torch.bool)],
    )
    tokens.use, tokens.life = torch.tensor(use), torch.full((count,), life)
    return tokens


def test_pruning_drops_the_least_used_and_ties_together() -> None:
    tokens = tokens_of([5.0, 1.0, 2.0, 2.0, 9.0])
    assert prune(tokens, 5) is tokens
    assert prune(tokens, 4).use.tolist() == [5.0, 2.0, 2.0, 9.0]
    assert prune(tokens, 3).use.tolist() == [5.0, 9.0]


def test_consolidation_takes_the_most_used_and_pools() -> None:
    tokens = tokens_of([5.0, 1.0, 2.0, 7.0])
    prototypes, chosen = consolidate(tokens, 2)
    assert chosen.tolist() == [3, 0]
    assert torch.equal(prototypes.key, tokens.key[[3, 0]])
    low, high = tokens.values[0].amin(0), tokens.values[0].amax(0)
    assert ((prototypes.values[0] > low) & (prototypes.values[0] < high)).all()
    everything, _ = consolidate(tokens, 100)
    assert len(everything) == 4


def test_memory_stays_bounded_over_a_long_run() -> None:
    config = MemoryConfig(
        mem_every=1,
        top_k=7,
        max_mid_term_frames=4,
        min_mid_term_frames=2,
        num_prototypes=10,
        max_long_term_elements=35,
    )
    tracker = XMemTracker(small_network(), config)
    images, masks = moving_square(60, 32, 48)
    longest = 0
    for t, image in enumerate(images):
        probs = tracker.step(image, masks[:1] if t == 0 else None)
        assert torch.isfinite(probs).all()
        assert len(tracker.memory.working) < 4 * 6
        long_term = 0 if tracker.memory.long_term is None else len(tracker.memory.long_term)
        assert long_term <= 35
        longest = max(longest, long_term)
    assert longest > 25


def test_usage_counts_every_reading_once() -> None:
    tracker = XMemTracker(small_network(), MemoryConfig(mem_every=2))
    images, masks = moving_square(6, 32, 48)
    for t, image in enumerate(images):
        tracker.step(image, masks[:1] if t == 0 else None)
    working = tracker.memory.working
    # Frames 0, 2 and 4 are in memory and were read by the 5, 3 and 1 frames after them.
    assert working.life.round().int().tolist() == [5] * 6 + [3] * 6 + [1] * 6
    # Each reading spreads a weight of 1 for each of the 6 queries.
    assert working.use.sum().item() == pytest.approx(5 * 6, rel=1e-4)


@pytest.mark.parametrize("hidden_dim", [0, 8])
def test_permuting_objects_permutes_the_masks(hidden_dim: int) -> None:
    network = small_network(hidden_dim)
    images, squares = moving_square(7, 40, 48)
    masks = torch.stack([squares[0], squares[0].roll(20, 1), squares[0].roll(-9, 0) * (1 - squares[0])])
    order = [2, 0, 1]
    one, other = (XMemTracker(network, MemoryConfig(mem_every=2)) for _ in range(2))
    for t, image in enumerate(images):
        first = one.step(image, masks if t == 0 else None)
        second = other.step(image, masks[order] if t == 0 else None)
        torch.testing.assert_close(second[1:], first[1:][order], rtol=1e-3, atol=1e-4)
    assert (first[1] - first[2]).abs().max() > 5e-3


def test_groups_survive_consolidation() -> None:
    """Objects that enter later keep their values with the keys of the frames they were seen in."""
    config = MemoryConfig(
        mem_every=1, max_mid_term_frames=4, min_mid_term_frames=2, num_prototypes=4, max_long_term_elements=9
    )
    tracker = XMemTracker(small_network(), config)
    images, squares = moving_square(24, 32, 48)
    for t, image in enumerate(images):
        masks, rows = None, None
        if t == 0:
            masks = squares[:1]
        elif t in (3, 9):
            known = tracker.memory.num_objects
            masks, rows = torch.zeros(known + 1, 32, 48), [known]
            masks[known] = squares[t].roll(24, 1)
        probs = tracker.step(image, masks, given=rows)
        assert torch.isfinite(probs).all()
        torch.testing.assert_close(probs.sum(0), torch.ones(32, 48))
    assert probs.shape[0] == 4
    memory = tracker.memory
    assert all(bool(valid[-6:].all()) for valid in memory.working.valid)
    assert memory.working.valid[0].all()
    assert memory.long_term.valid[0].all()
    assert not memory.working.valid[2].all()
    for value, valid in zip(memory.long_term.values, memory.long_term.valid, strict=True):
        assert (value[~valid] == 0).all()


def test_later_given_mask_replaces_the_prediction() -> None:
    tracker = XMemTracker(small_network(), MemoryConfig(mem_every=2))
    images, squares = moving_square(4, 32, 48)
    tracker.step(images[0], squares[:1])
    tracker.step(images[1])
    probs = tracker.step(images[2], squares[2:3])
    assert torch.equal(probs[1] > 0.5, squares[2] > 0.5)
    with pytest.raises(ValueError, match="a row for each of the 1 objects"):
        tracker.step(images[3], squares[:0])
    with pytest.raises(ValueError, match="new objects"):
        tracker.step(images[3], squares[:3], given=[0, 1])


def test_wrong_calls_say_so() -> None:
    network = small_network()
    with pytest.raises(RuntimeError, match="first frame needs a mask"):
        XMemTracker(network).step(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match="expected an image"):
        XMemTracker(network).step(torch.zeros(16, 16), torch.zeros(1, 16, 16))
    tracker = XMemTracker(network, MemoryConfig(mem_every=1))
    tracker.step(torch.zeros(3, 16, 16), torch.ones(1, 16, 16))
    with pytest.raises(ValueError, match="one size"):
        tracker.step(torch.zeros(3, 32, 16))


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_mid_term_frames": 1},
        {"max_mid_term_frames": 5},
        {"num_prototypes": 0},
        {"max_long_term_elements": 128},
        {"top_k": 0},
        {"mem_every": 0},
    ],
)
def test_contradictory_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        MemoryConfig(**wrong)


def test_pruning_without_counts_says_what_to_set() -> None:
    config = MemoryConfig(
        mem_every=1,
        enable_long_term_count_usage=False,
        max_mid_term_frames=3,
        min_mid_term_frames=2,
        num_prototypes=4,
        max_long_term_elements=6,
    )
    tracker = XMemTracker(small_network(), config)
    images, squares = moving_square(9, 32, 32)
    tracker.step(images[0], squares[:1])
    for image in images[1:3]:
        tracker.step(image)
    with pytest.raises(RuntimeError, match="enable_long_term_count_usage"):
        tracker.step(images[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (33, 50)])
def test_any_size_and_dtype(size: tuple[int, int], dtype: torch.dtype) -> None:
    tracker = XMemTracker(small_network().to(dtype), MemoryConfig(mem_every=1))
    images, squares = moving_square(12, *size)
    for t, image in enumerate(images.to(dtype)):
        probs = tracker.step(image, squares[:1] if t == 0 else None)
        assert probs.shape == (2, *size)
        assert probs.dtype == torch.float32
        assert torch.isfinite(probs).all()


@pytest.mark.parametrize("hidden_dim", [0, 5])
def test_single_object_weights_get_a_channel_of_zeros(hidden_dim: int) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in XMem(16, 24, hidden_dim).state_dict().items()}
    convolution = "value_encoder.conv1.weight"
    state[convolution] = torch.ones_like(state[convolution])[:, :4]
    network = load_xmem(state)
    assert (network.key_dim, network.value_dim, network.hidden_dim) == (16, 24, hidden_dim)
    assert network.value_encoder.conv1.weight[:, :4].eq(1).all()
    assert network.value_encoder.conv1.weight[:, 4].eq(0).all()
    for broken in ({**state, "extra": torch.zeros(1)}, {}, dict(list(state.items())[1:])):
        with pytest.raises(ValueError, match="not XMem weights"):
            load_xmem(broken)


def test_propagation_goes_both_ways_and_encodes_each_frame_once() -> None:
    network = small_network()
    encoder = CountingEncoder(network)
    propagator = Propagator(network, MemoryConfig(mem_every=2), encoder)
    video = clip(7)
    masks = np.zeros((3, 40, 56), bool)
    masks[0, 5:20, 5:30] = True
    masks[2, 22:38, 20:50] = True
    seen = []
    features = propagator.features(video)
    result = propagator.propagate(
        video, 3, masks, progress=lambda done, total: seen.append((done, total)), features=features
    )
    assert result.shape == (3, 7, 40, 56)
    assert result.dtype == bool
    assert np.array_equal(result[:, 3], masks)
    assert not result[1].any()
    assert result[:, [0, 1, 2, 4, 5, 6]].sum(0).max() <= 1
    assert seen == [(done, 7) for done in range(1, 8)]
    assert encoder.calls == 7
    again = propagator.propagate(video, 3, masks, features=features)
    assert encoder.calls == 7
    assert np.array_equal(again, result)
    order = [index for index, _ in propagator.stream(video, 3, masks)]
    assert order == [3, 4, 5, 6, 2, 1, 0]


def test_propagation_matches_the_tracker() -> None:
    network = small_network()
    video = clip(5, 33, 47)
    mask = np.zeros((1, 33, 47), bool)
    mask[0, 4:20, 9:40] = True
    result = Propagator(network, MemoryConfig(mem_every=2), ImageEncoder(network, 24)).propagate(
        video, 4, mask
    )
    encoder, tracker = ImageEncoder(network, 24), XMemTracker(network, MemoryConfig(mem_every=2))
    for index in range(4, -1, -1):
        image = encoder(video[index]).image
        given_masks = resize_masks(torch.from_numpy(mask), tuple(image.shape[-2:])) if index == 4 else None
        probs = tracker.step(image, given_masks, end=index == 0)
        probs = nn.functional.interpolate(probs[None], size=(33, 47), mode="bilinear", align_corners=False)[0]
        if index < 4:
            assert np.array_equal(result[0, index], (probs.argmax(0) == 1).numpy())


def test_empty_masks_propagate_without_the_network() -> None:
    def refuse(frame: np.ndarray):
        raise AssertionError("the network must not run")

    result = Propagator(small_network(), encoder=refuse).propagate(clip(4), 1, np.zeros((2, 40, 56), bool))
    assert result.shape == (2, 4, 40, 56)
    assert not result.any()


def test_propagation_of_one_frame_and_wrong_arguments() -> None:
    propagator = Propagator(small_network(), encoder=ImageEncoder(small_network(), None))
    mask = np.ones((1, 40, 56), bool)
    assert propagator.propagate(clip(1), 0, mask).all()
    with pytest.raises(ValueError, match=r"target_frame must be in 0\.\.3"):
        propagator.propagate(clip(4), 4, mask)
    with pytest.raises(ValueError, match="masks must be bool"):
        propagator.propagate(clip(4), 0, mask.astype(np.uint8))
    with pytest.raises(ValueError, match="masks must be bool"):
        propagator.propagate(clip(4), 0, mask[:, :10])
