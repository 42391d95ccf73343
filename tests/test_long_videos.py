"""A long video takes hardly more memory than a short one, from the file's frames to what is written of it.

`benchmarks/memory.py` measures whole processes, networks and all; here Python's own allocations are counted.
"""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_xmem import small_network

from model.xmem import MemoryConfig
from visa import contact_sheet, xmem_propagation
from visa.propagation import Anchor, ClipFeatures, ImageEncoder
from visa.reasoning import DrawnFrames, GivenAnswer
from visa.sampling import MiddleFrame
from visa.segmenter import Segmenter
from visa.video import Video
from visa.viewing import ViewingLimits
from visa.xmem_propagation import Propagator

HEIGHT, WIDTH = 120, 160


class MadeFrames:
    """A source whose frames are made as they are read."""

    fps, height, width = 24.0, HEIGHT, WIDTH

    def __init__(self, num_frames: int):
        self.frame_names, self.warnings = tuple(f"{index:05d}" for index in range(num_frames)), []

    def read(self, indices):
        return [np.full((HEIGHT, WIDTH, 3), index % 251, np.uint8) for index in indices]


class Squares:
    """A reasoner that draws two squares on the target frame."""

    limits, sam, tower = ViewingLimits(), None, None

    def scorer(self, viewing):
        return None

    def answer(self, viewing, choice, question):
        return GivenAnswer(question, "[SEG]", True, 1.0)

    def draw(self, viewing, choice, answer, progress):
        masks = np.zeros((2, 1, HEIGHT, WIDTH), bool)
        masks[0, 0, 10:50, 10:60] = masks[1, 0, 30:90, 80:120] = True
        return DrawnFrames(answer, (choice.target,), masks)


class Moving:
    """A propagator that moves masks on, and reads the video as a tracker does."""

    def features(self, video):
        return None

    def stream_many(self, video, anchors, *, features):
        for index in range(len(video)):
            assert video[index][0, 0, 0] == index % 251
            for question, anchor in enumerate(anchors):
                yield question, index, np.roll(anchor.masks, index % 4, axis=2)


def peak_of_run(num_frames: int, folder, *, all_masks: bool = False) -> int:
    """The most bytes that answering two questions and saving the answers takes."""
    video = Video(MadeFrames(num_frames), "long", cache_bytes=10 * HEIGHT * WIDTH * 3)
    segmenter = Segmenter(Squares(), Moving(), MiddleFrame(2))
    tracemalloc.start()
    try:
        for number, tracklet in enumerate(segmenter.segment_each(video, ["a", "b"])):
            tracklet.save(folder / str(number))
            assert tracklet.union.areas.min() > 0
            assert not all_masks or tracklet.masks.any()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_video(tmp_path, monkeypatch):
    # It draws eight frames, however many there are, and takes more than all the rest here.
    monkeypatch.setattr(contact_sheet, "draw_contact_sheet", lambda tracklet: Image.new("RGB", (8, 8)))
    peak_of_run(5, tmp_path / "first")  # imports
    short, long = (peak_of_run(length, tmp_path / str(length)) for length in (20, 140))
    held_masks = 120 * HEIGHT * WIDTH  # of one object of one question, one byte a pixel
    assert long - short < held_masks / 4
    assert peak_of_run(140, tmp_path / "all", all_masks=True) - short > held_masks / 2, "it would be seen"


@torch.inference_mode()
def test_a_walk_holds_few_frames_and_a_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    network = small_network()
    config = MemoryConfig(
        mem_every=1, max_mid_term_frames=3, min_mid_term_frames=2, num_prototypes=5, max_long_term_elements=20
    )
    propagator = Propagator(network, config, ImageEncoder(network, 32))
    video = Video(MadeFrames(40), "long", cache_bytes=6 * HEIGHT * WIDTH * 3)
    features = ClipFeatures(video, propagator.encoder, 4 * propagator.encoder(video[0]).num_bytes)
    trackers = []
    made = xmem_propagation.XMemTracker
    monkeypatch.setattr(
        xmem_propagation, "XMemTracker", lambda *given: trackers.append(made(*given)) or trackers[-1]
    )
    masks = np.zeros((1, HEIGHT, WIDTH), bool)
    masks[0, 20:70, 30:90] = True
    held = SimpleNamespace(features=0, frames=0, tokens=0)
    for _ in propagator.stream_many(video, [Anchor(20, masks), Anchor(3, masks)], features=features):
        held.features = max(held.features, len(features._held))
        held.frames = max(held.frames, len(video._cache))
        for tracker in trackers:
            memory = tracker.memory
            tokens = len(memory.working) + (len(memory.long_term) if memory.long_term else 0)
            held.tokens = max(held.tokens, tokens / memory.tokens_per_frame)
    assert 1 < held.features <= 4
    assert 1 < held.frames <= 6
    assert 1 < held.tokens <= 3 + 20 / trackers[0].memory.tokens_per_frame
