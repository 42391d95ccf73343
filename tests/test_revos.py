"""The ReVOS reader over a tiny data set in the official layout, and over broken ones."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from dataset import masks, revos

SIZE = (6, 8)
FRAMES = ["00000", "00005", "00010"]


def encode(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def masks_of(rows):
    """bool [T, H, W]: the given rows of every frame; None for a frame without the object."""
    masks = np.zeros((len(FRAMES), *SIZE), bool)
    for frame, row in enumerate(rows):
        if row is not None:
            masks[frame, row : row + 2] = True
    return masks


LEFT, RIGHT = masks_of([0, 1, None]), masks_of([1, 2, 3])


def meta(name="UVO/all/-fbscFfkh4M"):
    expressions = {
        "0": {"exp": "the left one", "type_id": 0, "obj_id": [0], "anno_id": [7]},
        "1": {
            "exp": "Which two leave?",
            "type_id": 1,
            "obj_id": [0, 1],
            "anno_id": [7, 9],
            "aspect": "order",
        },
        "2": {"exp": "the dodo", "type_id": 2, "obj_id": [], "anno_id": []},
    }
    record = {"vid_id": 0, "height": SIZE[0], "width": SIZE[1], "frames": FRAMES, "expressions": expressions}
    return {"videos": {name: record}}


def mask_lists():
    return {
        key: [encode(mask) if mask.any() else None for mask in masks]
        for key, masks in {"7": LEFT, "9": RIGHT}.items()
    }


def write(root, description=None, lists=None):
    description = meta() if description is None else description
    root.mkdir(exist_ok=True)
    (root / "meta_expressions_valid_.json").write_text(json.dumps(description), encoding="utf-8")
    (root / "mask_dict.json").write_text(json.dumps(mask_lists() if lists is None else lists))
    return root


@pytest.fixture
def root(tmp_path):
    folder = write(tmp_path / "set") / "JPEGImages" / "UVO" / "all" / "-fbscFfkh4M"
    folder.mkdir(parents=True)
    for name in FRAMES:
        assert cv2.imwrite(str(folder / f"{name}.jpg"), np.full((*SIZE, 3), 128, np.uint8))
    return tmp_path / "set"


def test_records(root):
    data = revos.Revos(root)
    (video,) = data
    assert len(data) == 1
    assert data.video("UVO/all/-fbscFfkh4M") is video
    assert video.frame_names == tuple(FRAMES)
    assert [path.name for path in video.frame_paths()] == [f"{name}.jpg" for name in FRAMES]
    assert (video.height, video.width) == SIZE
    assert [item.kind for item in video.expressions] == ["referring", "reasoning", "absent"]
    assert [item.aspect for item in video.expressions] == [None, "order", None]
    assert video.annotation_ids == ("7", "9")


def test_targets_are_unions_and_absent_ones_are_empty(root):
    data = revos.Revos(root)
    video = data[0]
    one, both, none = (data.target(video, item) for item in video.expressions)
    np.testing.assert_array_equal(one, LEFT)
    np.testing.assert_array_equal(both, LEFT | RIGHT)
    assert none.shape == LEFT.shape
    assert not none.any()


def test_foreground_is_made_where_the_file_is_missing_and_read_where_it_is_there(root):
    np.testing.assert_array_equal(revos.Revos(root).foreground(revos.Revos(root)[0]), LEFT | RIGHT)
    lists = {"UVO/all/-fbscFfkh4M": {"masks_rle": [encode(mask) for mask in RIGHT]}}
    (root / "mask_dict_foreground.json").write_text(json.dumps(lists))
    np.testing.assert_array_equal(revos.Revos(root).foreground(revos.Revos(root)[0]), RIGHT)


def test_masks_follow_sorted_frame_names(root):
    description = meta()
    description["videos"]["UVO/all/-fbscFfkh4M"]["frames"] = FRAMES[::-1]
    data = revos.Revos(write(root, description))
    assert data[0].frame_names == tuple(FRAMES)
    np.testing.assert_array_equal(data.annotation(data[0], "7"), LEFT)


def test_the_mask_file_is_read_only_when_needed(root):
    (root / "mask_dict.json").write_text("{")
    data = revos.Revos(root)
    assert not data.target(data[0], data[0].expressions[2]).any()
    with pytest.raises(ValueError, match=r"mask_dict\.json: not a whole JSON file"):
        data.annotation(data[0], "7")


@pytest.mark.parametrize(
    "name", ["../up", "/etc", "a/../../b", "a//b", "", ".", "..", "a/./b", "a\\..\\b", "C:/x"]
)
def test_names_that_climb_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="leads out of its folder"):
        revos.Revos(write(tmp_path / "set", meta(name)))


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\ud800", "ü" * 200])
def test_names_that_no_file_can_have_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="no file can be named") as caught:
        revos.Revos(write(tmp_path / "set", meta(name)))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("part", ["frames", "expressions"])
@pytest.mark.parametrize("name", ["../0", "sub/0"])
def test_frame_and_expression_names_that_climb_are_refused(tmp_path, part, name):
    description = meta()
    record = description["videos"]["UVO/all/-fbscFfkh4M"]
    if part == "frames":
        record["frames"] = [name, *FRAMES[1:]]
    else:
        record["expressions"][name] = record["expressions"].pop("0")
    with pytest.raises(ValueError, match="leads out of its folder"):
        revos.Revos(write(tmp_path / "set", description))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("frames"), "expected frames"),
        (lambda record: record.update(frames=["0", "0"]), "frames names .0. twice"),
        (lambda record: record.update(height=0), "height and width"),
        (lambda record: record.pop("expressions"), "'expressions'"),
        (
            lambda record: record["expressions"]["0"].update(type_id=3),
            "expression '0'.*type_id 0, 1 or 2, got 3",
        ),
        (lambda record: record["expressions"]["0"].update(exp=None), "expected exp"),
        (lambda record: record["expressions"]["0"].update(anno_id=[]), "has an annotation"),
        (lambda record: record["expressions"]["2"].update(anno_id=[7]), "has no annotation"),
    ],
)
def test_broken_records_are_named(tmp_path, change, message):
    description = meta()
    change(description["videos"]["UVO/all/-fbscFfkh4M"])
    with pytest.raises(
        ValueError, match=f"meta_expressions_valid_.json: video 'UVO/all/-fbscFfkh4M'.*{message}"
    ):
        revos.Revos(write(tmp_path / "set", description))


def test_missing_files_and_truncated_json_are_named(tmp_path, root):
    with pytest.raises(ValueError, match=r"meta_expressions_valid_\.json"):
        revos.Revos(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"meta_expressions_train_\.json"):
        revos.Revos(root, "train")
    (root / "JPEGImages/UVO/all/-fbscFfkh4M/00005.jpg").unlink()
    with pytest.raises(ValueError, match=r"00005\.jpg"):
        revos.Revos(root)[0].frame_paths()
    with pytest.raises(ValueError, match="no video 'other'"):
        revos.Revos(root).video("other")
    path = root / "meta_expressions_valid_.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="not a whole JSON file"):
        revos.Revos(root)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([None, None], "one mask or null for each of 3 frames, got 2 masks"),
        ([None, {"size": [8, 6], "counts": "X1"}, None], r"frame 00005: expected a mask of \[6, 8\]"),
        ([None, {"size": [6, 8], "counts": ""}, None], "do not add up"),
        ([None, {"size": [6, 8], "counts": "016"}, None], "do not add up"),
        ([None, {"size": [6, 8], "counts": "garbage\xe9"}, None], "do not add up"),
        ([None, {"size": [6, 8], "counts": 3}, None], "expected counts"),
        ([None, 3, None], "expected an object"),
    ],
)
def test_broken_masks_are_named(root, broken, message):
    data = revos.Revos(write(root, lists={"7": broken}))
    with pytest.raises(ValueError, match=rf"mask_dict\.json: annotation '7'.*{message}"):
        data.annotation(data[0], "7")
    with pytest.raises(ValueError, match=r"annotation '9'.*not in the file"):
        data.annotation(data[0], "9")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 90), st.sampled_from([0, 0.02, 0.5, 1]), st.integers(0, 2**31))
def test_every_mask_survives_the_round_trip(height, width, density, seed):
    mask = np.random.default_rng(seed).random((height, width)) < density
    np.testing.assert_array_equal(masks.decode_rle(encode(mask), (height, width), "here"), mask)
    cut = encode(mask)["counts"][:-1]
    with pytest.raises(ValueError, match="do not add up"):
        masks.decode_rle({"size": [height, width], "counts": cut}, (height, width), "here")


def test_parts_of_one_mask_are_joined():
    parts = [encode(LEFT[0]), encode(RIGHT[0])]
    np.testing.assert_array_equal(masks.decode_rle(parts, SIZE, "here"), LEFT[0] | RIGHT[0])
    assert not masks.decode_rle([], SIZE, "here").any()
