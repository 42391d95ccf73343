"""Masks kept as run lengths: whatever was put in comes out, in memory or from a file."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from visa import mask_track
from visa.mask_track import MaskTrack, as_tracks, decode_masks

some_masks = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 9)).flatmap(
    lambda shape: arrays.arrays(bool, shape)
)


@given(some_masks)
def test_what_was_put_in_comes_out(masks: np.ndarray) -> None:
    track = MaskTrack.of(masks)
    assert track.shape == masks.shape
    assert np.array_equal(track.decoded(), masks)
    assert np.array_equal(np.stack(list(track)), masks)
    assert np.array_equal(track[-1], masks[-1])
    assert track.areas.tolist() == masks.sum((1, 2)).tolist()
    assert track.any() == masks.any()
    assert np.array_equal(decode_masks(track.as_json()), masks)
    assert track.as_json() == [
        {
            "size": list(mask.shape),
            "counts": coco_mask.encode(np.asfortranarray(mask * np.uint8(1)))["counts"].decode(),
        }
        for mask in masks
    ]


@given(st.integers(1, 3), some_masks, st.randoms(use_true_random=False))
def test_the_union_is_what_any_object_covers(count: int, masks: np.ndarray, chance) -> None:
    objects = np.stack([np.roll(masks, chance.randrange(9), axis=chance.randrange(3)) for _ in range(count)])
    joined = MaskTrack.union(as_tracks(objects))
    assert joined == MaskTrack.of(objects.any(axis=0))
    assert joined.as_json() == MaskTrack.of(objects.any(axis=0)).as_json()


def test_frames_may_be_put_in_any_order_and_again_and_are_empty_until_then() -> None:
    masks = np.random.default_rng(0).random((5, 6, 8)) < 0.5
    track = MaskTrack(masks.shape)
    assert not track.any()
    assert not track.decoded().any()
    for index in (3, 1, 4, 1, 0):
        track.put(index, ~masks[index])
        track.put(index, masks[index])
    assert np.array_equal(track.decoded()[[0, 1, 3, 4]], masks[[0, 1, 3, 4]])
    assert not track[2].any()
    track.put(3, np.zeros((6, 8), bool))
    assert not track[3].any()
    assert track.areas[3] == 0


def test_tracks_are_equal_by_their_masks() -> None:
    masks = np.random.default_rng(0).random((3, 6, 8)) < 0.5
    assert MaskTrack.of(masks) == MaskTrack.of(masks)
    assert MaskTrack.of(masks) != MaskTrack.of(masks[::-1])
    assert MaskTrack.of(masks) != MaskTrack.of(masks[:2])
    assert MaskTrack.of(masks) != MaskTrack.of(masks[:, :, :7])
    assert MaskTrack.of(masks) != masks.tolist()


def test_long_tracks_go_to_a_file_that_goes_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_track, "SPOOL_BYTES", 1000)
    masks = np.random.default_rng(0).random((40, 16, 16)) < 0.5
    track = MaskTrack.of(masks)
    assert track._runs._rolled
    assert np.array_equal(track.decoded(), masks)
    track.put(0, masks[1])
    assert np.array_equal(track[0], masks[1])
    runs = track._runs
    del track
    gc.collect()
    assert runs.closed


def test_a_returned_mask_is_the_callers_own() -> None:
    track = MaskTrack.of(np.ones((1, 3, 4), bool))
    track[0][:] = False
    assert track[0].all()
    assert track[0].flags.c_contiguous


@pytest.mark.parametrize("index", [2, -3])
def test_there_is_no_frame_beyond_the_last(index: int) -> None:
    with pytest.raises(IndexError):
        MaskTrack((2, 3, 4))[index]


def test_what_are_no_masks_is_refused() -> None:
    track = MaskTrack((2, 3, 4))
    for mask in (np.zeros((3, 4), np.uint8), np.zeros((4, 3), bool), np.zeros((1, 3, 4), bool)):
        with pytest.raises(ValueError, match=r"expected a bool mask \[3, 4\]"):
            track.put(0, mask)
    for masks in (np.zeros((2, 3, 4), np.uint8), np.zeros((3, 4), bool)):
        with pytest.raises(ValueError, match=r"expected bool masks \[T, H, W\]"):
            MaskTrack.of(masks)
    with pytest.raises(ValueError, match=r"expected bool masks \[N, T, H, W\]"):
        as_tracks(np.zeros((2, 3, 4), bool))
