"""After a cut only what looks like the thing pointed at is drawn; within a shot everything is."""

from dataclasses import replace

import numpy as np
import torch
from small_xmem import small_network
from torch.nn import functional

from model.xmem import XMemTracker
from visa.propagation import Anchor, ImageEncoder
from visa.recognition import CUT, Recogniser
from visa.video import Video
from visa.xmem_propagation import Propagator

CHANNELS, ROWS, COLS = 16, 6, 16


def looks(*things, background=0, seed=0, noise=0.02):
    """Features of a frame: a thing on the left, one on the right, and what is around them."""
    basis = torch.eye(CHANNELS)
    look = basis[background][:, None, None].repeat(1, ROWS, COLS)
    for thing, columns in zip(things, (slice(1, 3), slice(5, 7)), strict=False):
        look[:, 1:5, columns] = basis[thing][:, None, None]
    return look + noise * torch.randn(look.shape, generator=torch.Generator().manual_seed(seed))


def masks(*columns):
    """bool [N, 48, 128], each over two columns of places."""
    drawn = torch.zeros(len(columns), 48, 128, dtype=torch.bool)
    for mask, first in zip(drawn, columns, strict=True):
        mask[8:40, 8 * first : 8 * first + 16] = True
    return drawn


def probs_of(drawn):
    """float [1 + N, h, w]: sure of the masks."""
    objects = drawn.float() * 0.9 + 0.02
    return torch.cat([1 - objects.sum(0, keepdim=True).clamp(max=0.98), objects])


def kept(recogniser, look, drawn):
    told = recogniser(look, probs_of(drawn))
    assert told.shape == (1 + len(drawn), 48, 128)
    winner = told.argmax(0)
    return [bool((winner == k + 1).any()) for k in range(len(drawn))]


def test_in_one_shot_everything_is_believed():
    recogniser = Recogniser(looks(1, 2), masks(1, 5))
    probs = probs_of(masks(1, 5))
    for seed in range(1, 4):
        assert torch.equal(recogniser(looks(3, 4, seed=seed), probs), probs)  # things turn, and look new
    assert kept(recogniser, looks(2, 1, seed=9), masks(1, 5)) == [True, True]


def test_after_a_cut_only_what_is_recognised_is_drawn_and_for_good():
    recogniser = Recogniser(looks(1, 2), masks(1, 5))
    cut = looks(1, 4, background=7)
    means = [functional.normalize(look, dim=0).mean((1, 2)) for look in (looks(1, 2), cut)]
    assert torch.cosine_similarity(*means, dim=0) < CUT
    assert kept(recogniser, cut, masks(1, 5)) == [True, False]
    # The second frame of the new shot is no cut, and still another shot.
    assert kept(recogniser, looks(1, 4, background=7, seed=3), masks(1, 5)) == [True, False]
    # What comes back is known again, wherever it stands.
    assert kept(recogniser, looks(2, 1, background=7, seed=4), masks(5, 1)) == [True, True]
    assert kept(recogniser, looks(4, 3, background=7, seed=5), masks(1, 5)) == [False, False]


def test_what_is_taken_out_goes_to_the_background_and_nothing_else_changes_hands():
    recogniser = Recogniser(looks(1, 2), masks(1, 5))
    probs = probs_of(masks(1, 5))
    told = recogniser(looks(1, 4, background=7), probs)
    assert torch.allclose(told.sum(0), torch.ones(48, 128), atol=1e-5)
    assert (told[2] < 1e-3).all()
    assert ((told.argmax(0) == 1) == masks(1, 5)[0]).all()


def test_an_object_that_is_nowhere_stays_so():
    recogniser = Recogniser(looks(1, 2), masks(1, 5))
    probs = probs_of(torch.zeros(2, 48, 128, dtype=torch.bool))
    told = recogniser(looks(background=7), probs)
    assert torch.isfinite(told).all()
    assert torch.allclose(told.sum(0), torch.ones(48, 128), atol=1e-5)
    assert (told.argmax(0) == 0).all()


def test_what_fills_the_frame_is_known_again_when_its_shot_comes_back():
    whole = torch.ones(1, 48, 128, dtype=torch.bool)
    close = looks(background=3)
    recogniser = Recogniser(close, whole)
    assert kept(recogniser, looks(background=7), whole) == [False]
    assert kept(recogniser, looks(background=3, seed=8), whole) == [True]


class LookingEncoder(ImageEncoder):
    """Frames whose look is their colour, wherever one looks."""

    def __call__(self, frame):
        red = float(frame[..., 0].mean()) > 128
        return replace(super().__call__(frame), look=looks(1, 4, background=7) if red else looks(1, 2))


def test_a_tracker_that_follows_into_another_shot_is_stopped_there(monkeypatch):
    """Two shots, and two questions: the left thing is in both shots, the right one is not recognised."""
    frames = np.random.default_rng(0).integers(0, 60, (6, 48, 128, 3), dtype=np.uint8)
    frames[3:, ..., 0] += 180
    video, network = Video.from_frames(frames), small_network()
    left, right = masks(1, 5).numpy()

    def anywhere(self, readout_frame, readout, light_update):
        """Follows everything to where it was, whatever is seen."""
        drawn = torch.cat([probs_of(mask[None]) for mask in masks(1, 5)])
        return drawn[None]

    monkeypatch.setattr(XMemTracker, "_segment", anywhere)
    anchors = [Anchor(1, left[None]), Anchor(1, right[None])]
    found = {}
    for encoder in (ImageEncoder(network, None), LookingEncoder(network, None)):
        propagator = Propagator(network, encoder=encoder)
        drawn = propagator.propagate_many(video, anchors)
        found[type(encoder)] = [one[0].any((1, 2)).tolist() for one in drawn]
    assert found[ImageEncoder] == [[True] * 6] * 2
    assert found[LookingEncoder] == [[True] * 6, [True] * 3 + [False] * 3]
