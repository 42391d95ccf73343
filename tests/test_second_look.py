"""The look at what was drawn: the cut-out, what speaks for it and against it, and what the answer becomes."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.mllm.mllm import RefusalPolicy
from model.name_table import NameTable
from tests.test_segmenter import NUM_FRAMES, make, numbered_frame
from visa.loading import build_look
from visa.second_look import BACKGROUND, SIDE, SecondLook, cut_out
from visa.video import Video

TABLE = NameTable(
    ("swan", "camel", "jeep"),
    (("bird",), ("animal",), ("car",)),
    torch.zeros(3),
    torch.zeros(3),
    torch.eye(3),
)
SEEN = {name: torch.eye(3)[index] for index, name in enumerate(TABLE.names)}  # cosines


def fits(**hot):
    values = torch.full((len(TABLE.words),), -3.0)
    for word, value in hot.items():
        values[TABLE.words.index(word)] = value
    return values


def test_a_cut_out_shows_the_thing_alone_in_the_middle():
    frame = np.full((60, 100, 3), 10, np.uint8)
    mask = np.zeros((60, 100), bool)
    mask[20:40, 30:70] = True
    frame[mask] = (250, 0, 0)
    picture = cut_out(frame, mask)
    assert picture.shape == (SIDE, SIDE, 3)
    assert picture.dtype == np.uint8
    assert (picture[SIDE // 2, SIDE // 2] == (250, 0, 0)).all()
    assert (picture[0] == BACKGROUND).all()
    red = (picture[..., 0] > 225) & (picture[..., 2] < 100)
    height, width = red.any(1).sum(), red.any(0).sum()
    assert width / SIDE == pytest.approx(40 / 46, abs=0.03)
    assert height / width == pytest.approx(0.5, abs=0.05)
    assert not (picture == 10).all(-1).any()  # nothing of what is around it


def test_a_thing_is_shown_where_it_is_with_grey_beyond_the_frame():
    frame = np.arange(60 * 100, dtype=np.uint16).reshape(60, 100, 1).repeat(3, 2)
    frame = (frame % 90).astype(np.uint8)
    mask = np.zeros((60, 100), bool)
    mask[0:40, 5:45] = True  # side 46, three pixels of margin; three above are beyond the frame
    picture = cut_out(frame, mask, alone=False)
    expected = np.full((46, 46, 3), BACKGROUND, np.uint8)
    expected[3:] = frame[0:43, 2:48]
    assert (picture == cv2.resize(expected, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)).all()


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_any_mask_is_cut_out_or_too_small(height, width, data):
    mask = np.zeros((height, width), bool)
    for _ in range(data.draw(st.integers(0, 3))):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        mask[top : top + data.draw(st.integers(1, 40)), left : left + data.draw(st.integers(1, 40))] = True
    frame = np.zeros((height, width, 3), np.uint8)
    assert (SecondLook(FakePictures("camel"), TABLE).seen(frame, mask) is None) == (mask.sum() < 16)
    for alone in (True, False):
        if mask.any():
            assert cut_out(frame, mask, alone=alone).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("seen", "hot", "least", "most"),
    [
        ("camel", {"camel": 6.0}, -0.1, 0.0),  # the very thing
        ("swan", {"bird": 6.0}, -0.1, 0.0),  # what is asked for by its kind
        ("jeep", {"camel": 6.0}, -4.0, -3.8),  # something else
        ("jeep", {"camel": 6.0, "jeep": 5.0}, -1.1, -0.8),  # what is meant almost as much
        ("jeep", {"camel": -2.5}, -0.1, 0.0),  # a question that means no kind of thing
    ],
)
def test_what_is_seen_and_not_meant_speaks_against_the_answer(seen, hot, least, most):
    value = SecondLook(None, TABLE).evidence(SEEN[seen], fits(**hot))
    assert least <= value <= most + 1e-6


def test_what_is_too_small_to_tell_says_nothing():
    look = SecondLook(None, TABLE)
    assert look.seen(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), bool)) is None
    assert look.seen(np.zeros((3, 5, 3), np.uint8), np.ones((3, 5), bool)) is None
    assert look.evidence(None, fits(camel=8.0)) == 0.0


def test_one_of_several_alike_is_no_worse_than_the_only_one():
    """Three names share what is seen, and the question means one of them or all."""
    shared = torch.ones(3)
    alone = SecondLook(None, TABLE).evidence(shared, fits(camel=6.0))
    together = SecondLook(None, TABLE).evidence(shared, fits(camel=6.0, swan=6.0, jeep=6.0))
    assert alone == pytest.approx(0.0, abs=1e-6)
    assert together == pytest.approx(0.0, abs=1e-6)


def test_what_has_no_name_says_nothing():
    look = SecondLook(None, TABLE)
    values = [look.evidence(best * SEEN["jeep"], fits(camel=6.0)) for best in (0.1, 0.35, 0.45, 0.6, 1.0)]
    assert values[0] == pytest.approx(0.0, abs=0.05)
    assert values == sorted(values, reverse=True)
    assert values[-1] < -3.8


def test_a_look_counts_as_much_as_the_policy_says():
    heat = torch.full((5, 5), 1.5)
    believed = RefusalPolicy(second_look=1.0, look_weight=2.0)
    for evidence in (0.0, -1.0, -5.0):
        logit = 0.5 + 2.0 * evidence  # an even first answer, heat 1.5, one asked for
        assert believed.found_prob(0.5, heat, evidence) == pytest.approx(1 / (1 + np.exp(-logit)))
    assert RefusalPolicy(second_look=1.0).found_prob(0.5, heat, -5.0) == believed.found_prob(0.5, heat, 0.0)


def test_a_look_is_taken_where_it_counts():
    mllm = SimpleNamespace(tower=SimpleNamespace(pictures="clip"), names=TABLE)
    assert build_look(mllm, RefusalPolicy(second_look=2.0)) is None
    look = build_look(mllm, RefusalPolicy(second_look=2.0, look_weight=2.0))
    assert (look.pictures, look.names) == ("clip", TABLE)
    with pytest.raises(ValueError, match="look_weight must be 0 or more"):
        RefusalPolicy(look_weight=2.0)


class FakePictures:
    """Every picture shows the same."""

    def __init__(self, name):
        self.point, self.shown = SEEN[name], []

    def __call__(self, pictures):
        self.shown.append(pictures)
        return self.point.expand(len(pictures), -1)


@pytest.mark.parametrize(("seen", "found"), [("camel", True), ("jeep", False)])
def test_an_answer_that_points_at_something_else_is_taken_back(seen, found, monkeypatch):
    video = Video.from_frames(np.stack([numbered_frame(k, 32, 48) for k in range(NUM_FRAMES)]))
    pictures = FakePictures(seen)
    segmenter = make(
        {4: 0.9}, refusal=RefusalPolicy(second_look=1.0, look_weight=2.0), look=SecondLook(pictures, TABLE)
    )
    reasoner = segmenter.reasoner
    reasoner.mllm.word_embeddings = lambda words: torch.arange(float(len(words)))[:, None]
    reasoner.mllm.meaning = lambda answer, words: fits(camel=6.0)[None].expand(2, -1)
    drawn = reasoner.drawing.draw

    def large(mllm, reading, answer, features):
        made = drawn(mllm, reading, answer, features)
        masks = np.zeros((2, 32, 48), bool)
        masks[0, 4:20, 4:20] = masks[1, 10:28, 10:28] = True
        return SimpleNamespace(masks=masks, heat_logits=made.heat_logits)

    monkeypatch.setattr(reasoner.drawing, "draw", large)
    tracklet = segmenter.segment(video, "the camel")
    (shown,) = pictures.shown
    assert len(shown) == 2
    assert not (shown[0] == shown[1]).all()
    assert tracklet.found == found
    assert ("[SEG]" in tracklet.answer) == found
    assert (tracklet.score >= 0.5) == found
