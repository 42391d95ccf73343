"""Masks as data sets keep them: run lengths, polygons, pictures of labels; and that broken ones are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_video_datasets import encode, encode_runs

from dataset.errors import DatasetError
from dataset.masks import decode_rle, decode_segmentation, polygon_mask, read_label_map

SIZE = (9, 7)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0, 0.1, 0.5, 1]), st.integers(0, 2**31))
def test_run_lengths_in_both_forms_give_the_mask(height, width, density, seed):
    mask = np.random.default_rng(seed).random((height, width)) < density
    for code in (encode(mask), encode_runs(mask), [encode(mask)], {**encode(mask), "size": (height, width)}):
        decoded = decode_segmentation(code, (height, width), "here")
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


def test_nothing_is_an_empty_mask():
    for nothing in (None, []):
        assert decode_segmentation(nothing, SIZE, "here").shape == SIZE
        assert not decode_segmentation(nothing, SIZE, "here").any()


@pytest.mark.parametrize(
    ("rle", "message", "sort"),
    [
        ({"size": [7, 9], "counts": [63]}, r"expected a mask of \[9, 7\], got size \[7, 9\]", "mask size"),
        ({"size": 63, "counts": [63]}, "got size 63", "mask size"),
        ({"counts": [63]}, "got size None", "mask size"),
        ({"size": [9, 7], "counts": [62]}, "runs do not add up to 9 x 7", "broken mask"),
        ({"size": [9, 7], "counts": [70, -7]}, "runs do not add up", "broken mask"),
        ({"size": [9, 7], "counts": ["63"]}, "runs do not add up", "broken mask"),
        ({"size": [9, 7], "counts": "\x7f\x7f"}, "runs do not add up", "broken mask"),
        ({"size": [9, 7]}, "expected counts", "broken mask"),
        ("63", "expected an object with named fields, got '63'", "broken record"),
        ([[1, 2, 3]], "three points or more", "broken mask"),
        ([[1, 2, 3, 4, 5, None]], "three points or more", "broken mask"),
        ([[1, 2, 3, 4, 5, 1e9]], "three points or more", "broken mask"),
        ([[1, 2, 3, 4, 5, float("nan")]], "three points or more", "broken mask"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three points or more", "broken mask"),
    ],
)
def test_broken_masks_are_named(rle, message, sort):
    with pytest.raises(DatasetError, match=f"file: key 3.*{message}") as caught:
        decode_segmentation(rle, SIZE, "file: key 3")
    assert caught.value.sort == sort
    assert "\n" not in str(caught.value)


def test_polygons_are_filled_and_joined():
    left, right = [0, 0, 3, 0, 3, 9, 0, 9], [5, 2, 7, 2, 7, 4, 5, 4]
    wanted = np.zeros(SIZE, bool)
    wanted[:, :3] = True
    wanted[2:4, 5:7] = True
    np.testing.assert_array_equal(polygon_mask([left, right], SIZE, "here"), wanted)
    np.testing.assert_array_equal(decode_segmentation([left, right], SIZE, "here"), wanted)
    assert polygon_mask([[-50, -50, 500, -50, 500, 500, -50, 500]], SIZE, "here").all()


@pytest.mark.parametrize("mode", ["P", "L"])
def test_pictures_of_labels_keep_their_values(tmp_path, mode):
    values = np.arange(63, dtype=np.uint8).reshape(SIZE)
    values[0] = 255
    image = Image.fromarray(values, "L")
    if mode == "P":
        image.putpalette(list(np.random.default_rng(0).integers(0, 255, 768)))
    image.save(tmp_path / "a.png")
    labels = read_label_map(tmp_path / "a.png", SIZE)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values)


def test_other_pictures_of_labels(tmp_path):
    binary = np.arange(63).reshape(SIZE) % 2 == 0
    Image.fromarray(binary).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "1.png"), binary.astype(np.uint8))
    many = (np.arange(63, dtype=np.uint16) * 1000).reshape(SIZE)
    Image.fromarray(many).save(tmp_path / "16.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "16.png"), many)
    Image.fromarray(np.repeat(many[..., None] % 200, 3, axis=2).astype(np.uint8)).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "rgb.png"), many % 200)


def test_what_is_no_picture_of_labels_is_named(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "photo.png")
    Image.fromarray(colours[..., 0]).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:-25])
    (tmp_path / "empty.png").write_bytes(b"")
    for name, size, message in (
        ("photo", SIZE, "expected a mask of one channel .palette or grey., got RGB"),
        ("cut", SIZE, "not a whole picture"),
        ("empty", SIZE, "not a whole picture"),
        ("absent", SIZE, "expected a mask .*absent.png, found none"),
        ("whole", (7, 9), r"expected a mask of \[7, 9\], got size \[9, 7\]"),
    ):
        with pytest.raises(DatasetError, match=message) as caught:
            read_label_map(tmp_path / f"{name}.png", size)
        assert f"{name}.png" in str(caught.value)


def test_parts_of_different_faults(tmp_path):
    whole = encode(np.ones(SIZE, bool))
    with pytest.raises(DatasetError, match="here"):
        decode_rle([whole, {"size": [1, 1], "counts": "1"}], SIZE, "here")
    fault = DatasetError("file: key", "mask size")
    import pickle

    again = pickle.loads(pickle.dumps(fault))
    assert (str(again), again.sort) == ("file: key", "mask size")
