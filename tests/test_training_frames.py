"""Frames for training: what the papers' choices promise, for any video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.training_frames import anywhere, around_anchor, one_from_each_stretch

LENGTHS = st.integers(1, 90)
SEEDS = st.integers(0, 2**31)


@given(LENGTHS, st.integers(1, 14), SEEDS)
def test_stretches(length: int, count: int, seed: int) -> None:
    frames = one_from_each_stretch(length, count, np.random.default_rng(seed))
    if length <= count:
        assert frames.references == tuple(range(length))
    else:
        edges = np.linspace(0, length, count + 1, dtype=int)
        assert np.searchsorted(edges, frames.references, side="right").tolist() == list(range(1, count + 1))
    check_targets(frames, 1)


@given(LENGTHS, st.integers(1, 14), SEEDS)
def test_anywhere(length: int, count: int, seed: int) -> None:
    frames = anywhere(length, count, np.random.default_rng(seed))
    assert len(set(frames.references)) == len(frames.references) == min(length, count)
    assert set(frames.references) <= set(range(length))
    check_targets(frames, 1)


@given(LENGTHS, SEEDS, st.data())
def test_around_an_anchor(length: int, seed: int, data: st.DataObject) -> None:
    anchor = data.draw(st.integers(0, length - 1))
    frames = around_anchor(length, 32, 4, anchor, np.random.default_rng(seed))
    assert len(frames.references) == 32
    assert anchor in frames.references
    assert set(frames.references) <= set(range(length))
    near = [index for index in frames.references if abs(index - anchor) <= 3]
    assert len(near) >= 3
    if length >= 7 + 29:  # enough others: only the three of the window are within it, and each comes once
        inside = sorted(set(near))
        assert len(set(frames.references)) >= 30
        assert any(index < anchor for index in inside) or anchor == 0
        assert any(index > anchor for index in inside) or anchor == length - 1
    check_targets(frames, 4)


def check_targets(frames, count: int) -> None:
    assert list(frames.references) == sorted(frames.references)
    assert len(frames.places) == len(set(frames.places)) == count
    assert list(frames.places) == sorted(frames.places)
    assert frames.targets == tuple(frames.references[place] for place in frames.places)


def test_every_frame_of_a_stretch_can_come() -> None:
    rng = np.random.default_rng(0)
    drawn = [one_from_each_stretch(20, 10, rng) for _ in range(200)]
    assert {frames.references[4] for frames in drawn} == {8, 9}
    assert {frames.places[0] for frames in drawn} == set(range(10))


def test_refusals() -> None:
    rng = np.random.default_rng(0)
    for choose in (one_from_each_stretch, anywhere):
        for arguments in ((0, 8), (5, 0)):
            with pytest.raises(ValueError, match="expected a frame"):
                choose(*arguments, rng)
    for anchor, targets in ((9, 1), (-1, 1), (0, 5), (0, 0)):
        with pytest.raises(ValueError, match="expected an anchor"):
            around_anchor(9, 4, targets, anchor, rng)
