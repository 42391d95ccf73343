"""A viewing encodes every frame once, hands out what belongs to it, and holds a bounded number of frames."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.synthetic_clips import number_of, numbered_frame
from visa.video import Video
from visa.viewing import Viewing, ViewingLimits


class Encoder:
    """The number that a frame shows stands for its features; every call has to be about one frame."""

    def __init__(self):
        self.encoded = []

    def __call__(self, frames):
        (frame,) = frames
        self.encoded.append(number_of(frame))
        return [f"frame {self.encoded[-1]}"]

    def encode(self, frames):
        return self(frames)[0]


@pytest.fixture
def seen():
    video = Video.from_frames(np.stack([numbered_frame(k, 16, 24) for k in range(21)]))
    tower, sam = Encoder(), Encoder()
    propagator = SimpleNamespace(features=lambda clip: ("tracker's", clip))
    return SimpleNamespace(viewing=Viewing(video, tower, sam, propagator), video=video, tower=tower, sam=sam)


def test_cells_come_in_the_order_asked_for_and_are_encoded_once(seen):
    assert seen.viewing.cells([5, 2, 5]) == ["frame 5", "frame 2", "frame 5"]
    assert seen.viewing.cells((2, 9)) == ["frame 2", "frame 9"]
    assert seen.tower.encoded == [5, 2, 9]
    assert seen.sam.encoded == []


def test_sam_features_are_encoded_once_and_apart_from_cells(seen):
    assert [seen.viewing.sam_features(index) for index in (3, 7, 3)] == ["frame 3", "frame 7", "frame 3"]
    assert seen.sam.encoded == [3, 7]
    assert seen.tower.encoded == []


def test_nothing_is_encoded_before_it_is_needed(seen):
    assert seen.tower.encoded == seen.sam.encoded == []
    assert seen.viewing.tracker_features == ("tracker's", seen.video)


def test_the_least_recently_used_frame_is_forgotten_first(seen):
    seen.viewing.limits = ViewingLimits(sam_frames=2, cell_frames=3)
    for index in (0, 1, 0, 2, 0, 1):
        assert seen.viewing.sam_features(index) == f"frame {index}"
    assert seen.sam.encoded == [0, 1, 2, 1], "0 was in use all the time, 1 was not"
    seen.viewing.cells([0, 1, 2, 0, 3, 0, 1])
    assert seen.tower.encoded == [0, 1, 2, 3, 1]


def test_questions_that_draw_a_long_video_in_order_find_most_of_it_encoded(seen):
    seen.viewing.limits = ViewingLimits(sam_frames=18, in_order=True)
    for _ in range(3):
        assert [seen.viewing.sam_features(index) for index in range(21)] == [f"frame {k}" for k in range(21)]
    assert seen.sam.encoded[:21] == list(range(21))
    assert len(seen.sam.encoded) <= 21 + 2 * 4, "not all of them again and again"


def test_percent_says_where_in_the_video_a_frame_lies(seen):
    assert [seen.viewing.percent(index) for index in (0, 1, 10, 20)] == [0, 5, 50, 100]
    single = Video.from_frames(np.zeros((1, 4, 4, 3), np.uint8))
    alone = Viewing(single, seen.tower, seen.sam, SimpleNamespace(features=lambda clip: None))
    assert alone.percent(0) == 0
