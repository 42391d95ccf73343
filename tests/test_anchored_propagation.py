"""Tracking from several drawn frames: what is memorised, in what order, and what is left alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from tests.synthetic_clips import number_of, numbered_frame
from visa import xmem_propagation as module
from visa.anchored_propagation import stream_anchored
from visa.video import Video
from visa.xmem_propagation import Propagator

NUM_FRAMES, HEIGHT, WIDTH = 6, 16, 24


class Tracker:
    """Remembers the masks that it is given, and answers with the last, moved down by the frame's number."""

    calls: ClassVar[list] = []

    def __init__(self, network, config):
        self.memory, self.last = SimpleNamespace(sensory=None), None

    def step(self, image, masks=None, *, end=False, frame_key=None, frame_parts=None, refine=None):
        sensory = self.memory.sensory
        fresh = sensory is None or not bool(sensory.any())
        self.calls.append((frame_key, masks is not None, end, fresh))
        self.memory.sensory = torch.ones(1)
        self.last = masks if masks is not None else self.last
        moved = self.last.roll(frame_key, 1).float()
        return torch.cat([1 - moved.amax(0, keepdim=True), moved])


@pytest.fixture
def propagator(monkeypatch):
    monkeypatch.setattr(module, "XMemTracker", Tracker)
    monkeypatch.setattr(Tracker, "calls", [])

    class Features:
        def __init__(self, video):
            self.video = video

            self.reader = None

        def read_ahead(self, index, reader):
            assert self.reader is None, "one at a time"
            self.reader = index

        def settle(self):
            self.reader = None

        def __getitem__(self, index):
            number = number_of(self.video[index])
            image = torch.zeros(3, HEIGHT, WIDTH)
            return SimpleNamespace(image=image, pixels=image, frame_key=number, refine=None)

    class FakePropagator(Propagator):
        features = Features

        def __init__(self):
            self.network = self.config = self.autocast = None

    return FakePropagator()


@pytest.fixture
def video():
    return Video.from_frames(np.stack([numbered_frame(k, HEIGHT, WIDTH) for k in range(NUM_FRAMES)]))


def squares(num_objects: int, num_frames: int) -> np.ndarray:
    masks = np.zeros((num_objects, num_frames, HEIGHT, WIDTH), bool)
    for n in range(num_objects):
        for f in range(num_frames):
            masks[n, f, f, 4 * n : 4 * n + 3] = True
    return masks


def propagated(propagator, video, frames, masks) -> np.ndarray:
    """bool [N, T, H, W]; frames come in order, and while one is given out nobody reads."""
    features, known = propagator.features(video), []
    for index, frame_masks in stream_anchored(propagator, video, frames, masks, features=features):
        assert index == len(known)
        assert features.reader is None
        known.append(frame_masks)
    return np.stack(known, axis=1)


def test_all_drawn_frames_are_memorised_first_then_the_others_follow_in_order(propagator, video):
    masks = squares(2, 2)
    result = propagated(propagator, video, (1, 4), masks)
    assert [(frame, given) for frame, given, _, _ in Tracker.calls] == [
        *((1, True), (4, True)),
        *((0, False), (2, False), (3, False), (5, False)),
    ]
    assert [end for _, _, end, _ in Tracker.calls] == [False] * 5 + [True]
    assert [fresh for *_, fresh in Tracker.calls] == [True, True, True, False, False, False]
    assert result.shape == (2, NUM_FRAMES, HEIGHT, WIDTH)
    assert np.array_equal(result[:, [1, 4]], masks), "what was drawn stays"
    for index in (0, 2, 3, 5):
        assert np.array_equal(result[:, index], np.roll(masks[:, 1], index, axis=1))


def test_empty_masks_are_passed_over(propagator, video):
    masks = squares(3, 3)
    masks[:, 1] = False
    masks[1] = False
    result = propagated(propagator, video, (0, 2, 5), masks)
    assert [frame for frame, given, _, _ in Tracker.calls if given] == [0, 5]
    assert not result[1].any()
    assert result[[0, 2]][:, [1, 3, 4]].any((2, 3)).all()
    assert np.array_equal(result[:, [0, 2, 5]], masks)

    Tracker.calls.clear()
    assert not propagated(propagator, video, (0, 2), masks[:, [1, 1]]).any()
    assert Tracker.calls == [], "with nothing to track nothing runs"


def test_mistakes_are_told(propagator, video):
    for frames in ((0, 6), (0, 0), (-1, 2)):
        with pytest.raises(ValueError, match=r"different ones of 0\.\.5"):
            stream_anchored(propagator, video, frames, squares(1, 2))
    for masks in (squares(1, 3), squares(1, 2)[..., 1:], squares(1, 2).astype(np.uint8), squares(1, 2)[0]):
        with pytest.raises(ValueError, match=r"bool (masks )?\[N, (2, 16, 24|T, H, W)\]"):
            stream_anchored(propagator, video, (0, 1), masks)
