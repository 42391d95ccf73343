"""Many questions in one walk, the faster copy of the network, and frames held between questions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_xmem import CountingEncoder, clip, moving_square, small_network
from torch import nn

from model.xmem import MemoryConfig, XMemTracker, for_tracking
from model.xmem import similarity as similarity_module
from model.xmem.contests import per_contest
from model.xmem.similarity import similar_tokens, top_k_affinity
from visa import propagation as propagation_module
from visa.propagation import Anchor, ClipFeatures, ImageEncoder
from visa.video import Video
from visa.xmem_propagation import Propagator

CONFIG = MemoryConfig(
    mem_every=1,
    top_k=7,
    max_mid_term_frames=4,
    min_mid_term_frames=2,
    num_prototypes=5,
    max_long_term_elements=12,
)


def questions(num_frames: int) -> list[Anchor]:
    """Of one and two objects, overlapping, with one and several target frames, and one of nothing."""
    masks = np.zeros((5, 40, 56), bool)
    masks[0, 5:20, 5:30] = masks[1, 8:25, 9:33] = masks[2, 22:38, 20:50] = masks[3, 2:30, 40:54] = True
    late = num_frames - 1
    rows = [(2, [0, 2]), (2, [1]), (0, [3]), (2, [4]), (late, [3, 4, 0]), (2, [2])]
    return [Anchor(target, masks[chosen]) for target, chosen in rows]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_questions_tracked_together_come_out_as_if_alone(dtype: torch.dtype) -> None:
    network = for_tracking(small_network(), dtype)
    images, squares = moving_square(14, 37, 48)
    masks = torch.stack([squares[0], squares[0].roll(20, 1), squares[0].roll(-9, 0), squares[3]])
    contests = [1, 2, 1]
    together = XMemTracker(network, CONFIG, contests)
    alone = [XMemTracker(network, CONFIG) for _ in contests]
    seen_long_term = False
    for t, image in enumerate(images):
        frame_key = together.encode(image)
        parts = network.frame_parts(frame_key)
        given = masks if t == 0 else None
        joint = per_contest(together.step(image, given, frame_key=frame_key, frame_parts=parts), contests)
        assert [len(part) for part in joint] == [2, 3, 2]
        for tracker, part, own in zip(alone, joint, masks.split(contests), strict=True):
            expected = tracker.step(image, own if t == 0 else None)
            assert torch.equal(part, expected), "to the last bit"
        seen_long_term |= together.memory.long_term is not None
    assert seen_long_term
    assert (joint[0][1] - joint[2][1]).abs().max() > 5e-3


def test_a_given_mask_pushes_back_only_its_competitors() -> None:
    tracker = XMemTracker(small_network(), CONFIG, [2, 1])
    images, squares = moving_square(2, 32, 48)
    tracker.step(images[0], torch.stack([squares[0], squares[0].roll(20, 1), squares[0]]))
    first, second = per_contest(tracker.step(images[1], torch.ones(3, 32, 48), given=[0]), [2, 1])
    assert (first[1] > 0.99).all()
    assert (first[2] < 0.01).all()
    assert second[1].std() > 0
    with pytest.raises(ValueError, match="need 3 masks"):
        tracker.step(images[1], torch.ones(4, 32, 48))
    with pytest.raises(ValueError, match="at least one object"):
        XMemTracker(small_network(), contests=[1, 0])


@pytest.mark.parametrize(
    ("at_once", "dtype"), [(1, None), (3, torch.bfloat16), (8, None), (8, torch.bfloat16)]
)
def test_propagating_many_equals_one_after_another(
    at_once: int, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagation_module, "OBJECTS_AT_ONCE", at_once)
    network, video = for_tracking(small_network(), dtype), clip(7)
    encoder = CountingEncoder(network)
    propagator = Propagator(network, CONFIG, encoder)
    anchors, steps = questions(7), []
    together = propagator.propagate_many(
        video, anchors, features=propagator.features(video), progress=lambda *step: steps.append(step)
    )
    assert steps == [(done, 7 * len(anchors)) for done in range(1, 7 * len(anchors) + 1)]
    assert encoder.calls == 7
    for anchor, result in zip(anchors, together, strict=True):
        alone = propagator.propagate(video, anchor.target_frame, anchor.masks)
        assert result.shape == (len(anchor.masks), 7, 40, 56)
        assert np.array_equal(result, alone)
    assert together[1].any((0, 2, 3)).sum() > 1, "nothing was followed"
    orders = {
        number: [index for question, index, _ in propagator.stream_many(video, anchors) if question == number]
        for number in (0, 2, 3, 4)
    }
    assert orders == {
        0: [2, 3, 4, 5, 6, 1, 0],
        2: [*range(7)],
        3: [2, 3, 4, 5, 6, 1, 0],
        4: [*range(6, -1, -1)],
    }


def test_one_walk_encodes_every_frame_once_even_when_two_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    network, video = small_network(), clip(6)
    encoder = CountingEncoder(network)
    anchor = questions(6)[0]
    propagator = Propagator(network, CONFIG, encoder)
    propagator.propagate_many(video, [anchor] * 3, features=ClipFeatures(video, encoder, cache_bytes=1))
    assert encoder.calls == 6 + 1  # the target frame again, for the way back
    encoder.calls = 0
    monkeypatch.setattr(propagation_module, "ONE_WALK_BYTES", int(2.5 * encoder(video[0]).num_bytes))
    propagator.propagate_many(video, [anchor] * 3)
    assert encoder.calls == 1 + 6


def test_folded_network_computes_the_same() -> None:
    torch.manual_seed(0)
    network = small_network(norm=nn.BatchNorm2d)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fast = for_tracking(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    images, squares = moving_square(8, 33, 50)
    slow, quick, coarse = (
        XMemTracker(each, CONFIG) for each in (network, fast, for_tracking(network, torch.bfloat16))
    )
    for t, image in enumerate(images):
        mask = squares[:1] if t == 0 else None
        expected = slow.step(image, mask)
        torch.testing.assert_close(quick.step(image, mask), expected, rtol=0, atol=2e-5)
        assert (coarse.step(image, mask) - expected).abs().mean() < 0.05
    assert coarse.memory.working.key.dtype == coarse.memory.sensory.dtype == torch.float32
    assert coarse.memory.working.values[0].dtype == torch.bfloat16
    with pytest.raises(ValueError, match="evaluation mode"):
        for_tracking(network.train())


def test_similar_tokens_do_not_depend_on_how_many_queries_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, memory, valid = torch.randn(11, 9), torch.randn(20, 9), torch.rand(20) > 0.3
    expected = top_k_affinity((query @ memory.T).masked_fill(~valid, -torch.inf), 5).dense()
    for limit in (1, 45, 10**6):
        monkeypatch.setattr(similarity_module, "SCORES_AT_ONCE", limit)
        torch.testing.assert_close(similar_tokens(query, memory, 5, valid).dense(), expected)
        torch.testing.assert_close(
            similar_tokens(query, memory, None).dense(), (query @ memory.T).softmax(-1)
        )


def test_values_are_kept_once() -> None:
    tracker = XMemTracker(small_network(), CONFIG)
    images, squares = moving_square(8, 32, 48)
    for t, image in enumerate(images):
        tracker.step(image, squares[:1] if t == 0 else None)
    memory = tracker.memory
    memory.read(*(torch.randn(1, 8, 2, 3) for _ in range(2)))
    stores = {tokens.values[0].untyped_storage().data_ptr() for tokens in (memory.working, memory.long_term)}
    assert len(stores) == 1


def test_held_frames_serve_the_next_walk_of_a_long_clip() -> None:
    network, video = small_network(), clip(10)
    encoder = CountingEncoder(network)
    size = encoder(video[0]).num_bytes
    features = ClipFeatures(video, encoder, cache_bytes=6 * size)
    for _ in range(2):
        encoder.calls = 0
        for index in range(10):
            features[index]
            assert len(features._held) <= 6
    assert encoder.calls <= 10 - 5
    tight = ClipFeatures(video, encoder, cache_bytes=1)
    assert tight[3] is tight[3]


class WatchedVideo(Video):
    """Notes who reads while nobody may; frame 4 is broken."""

    closed = False
    reads = 0

    def __getitem__(self, index: int) -> np.ndarray:
        assert not self.closed
        self.reads += 1
        if index == 4:
            raise OSError("frame 4 is broken")
        return super().__getitem__(index)


def test_frames_are_read_ahead_but_never_between_two_results() -> None:
    network = small_network()
    frames = np.random.default_rng(0).integers(0, 256, (6, 40, 56, 3), dtype=np.uint8)
    video = WatchedVideo.from_frames(frames)
    propagator = Propagator(network, CONFIG, ImageEncoder(network, None))
    masks = np.zeros((1, 40, 56), bool)
    masks[0, 5:20, 5:30] = True
    known = []

    def follow() -> None:
        for index, _ in propagator.stream(video, 0, masks):
            video.closed = True
            known.append(index)
            if index == 2:
                assert video.reads == 4
            video.closed = False

    with pytest.raises(OSError, match="frame 4"):
        follow()
    assert known == [0, 1, 2, 3]


def test_reading_ahead_of_another_frame_is_forgotten() -> None:
    network, video = small_network(), clip(4)
    features = ClipFeatures(video, ImageEncoder(network, None))
    with ThreadPoolExecutor(1) as reader:
        features.read_ahead(1, reader)
        other = features[2]
        features.read_ahead(3, reader)
        assert torch.equal(features[3].image, ClipFeatures(video, features.encoder)[3].image)
    assert torch.equal(other.image, ClipFeatures(video, features.encoder)[2].image)
