"""ADE20K, COCO-Stuff, Mapillary, PACO and Pascal-Part over tiny data sets in their official layouts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from dataset.errors import DatasetError
from dataset.parts import part_wordings
from dataset.registry import open_dataset
from dataset.semantic import COCO_STUFF_NAMES
from tests import tiny_image_sets as tiny


def check_classes(name: str, root: Path, labels: np.ndarray, expected: dict[int, str]) -> None:
    data = open_dataset(name, root, "train")
    (clip,) = data
    assert {int(item.id): item.text for item in clip.expressions} == expected
    for place, item in enumerate(clip.expressions):
        mask = labels == int(item.id)
        assert mask.any()
        assert np.array_equal(data.target(clip, item)[0], mask)
        assert np.array_equal(clip.target(clip.turns[place])[0], mask)
        assert np.array_equal(clip.masks[place, 0], mask)
        assert np.array_equal(data.annotation(clip, item.annotation_ids[0])[0], mask)
    assert clip.masks.shape == (len(expected), 1, *tiny.SIZE)
    assert clip.frames[0].shape == (*tiny.SIZE, 3)


def test_ade20k(tmp_path: Path) -> None:
    labels = tiny.write_ade20k(tmp_path)
    check_classes("ade20k", tmp_path, labels, {1: "wall", 2: "building"})
    check_classes("ade20k", tmp_path / "ade20k", labels, {1: "wall", 2: "building"})


def test_cocostuff_leaves_out_what_has_a_hyphen(tmp_path: Path) -> None:
    labels = tiny.write_cocostuff(tmp_path)
    check_classes("cocostuff", tmp_path, labels, {0: "person", 11: "street sign", 181: "wood"})
    names = COCO_STUFF_NAMES.read_text().splitlines()
    assert len(names) == 182
    assert names[95] == "building-other"


def test_mapillary_leaves_out_what_is_not_evaluated(tmp_path: Path) -> None:
    check_classes("mapillary", tmp_path, tiny.write_mapillary(tmp_path), {0: "bird", 1: "sky"})


def test_label_maps_are_read_only_when_asked_for(tmp_path: Path) -> None:
    tiny.write_ade20k(tmp_path)
    path = tmp_path / "ade20k" / "annotations" / "training" / "ADE_1.png"
    path.write_bytes(b"not a picture")
    (clip,) = open_dataset("ade20k", tmp_path, "train")
    with pytest.raises(DatasetError, match=r"ADE_1\.png: not a whole picture"):
        _ = clip.expressions
    tiny.write_labels(path, np.ones((3, 3)))
    with pytest.raises(DatasetError, match=r"ADE_1\.png: expected a mask of \[6, 8\], got size \[3, 3\]"):
        _ = clip.turns


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    tiny.write_ade20k(tmp_path)
    with pytest.raises(DatasetError, match=r"annotations/validation: expected label maps"):
        open_dataset("ade20k", tmp_path, "val")
    (tmp_path / "ade20k" / "objectInfo150.txt").write_text("Idx\tName\none\twall\n")
    with pytest.raises(DatasetError, match=r"objectInfo150\.txt: line 2"):
        open_dataset("ade20k", tmp_path, "train")
    tiny.write_mapillary(tmp_path)
    tiny.write_json(tmp_path / "mapillary" / "config_v2.0.json", {"labels": [{"name": "x"}]})
    with pytest.raises(DatasetError, match=r"labels\[0\]: expected a field 'readable'"):
        open_dataset("mapillary", tmp_path, "train")


def test_readers_go_to_other_processes(tmp_path: Path) -> None:
    labels = tiny.write_ade20k(tmp_path)
    tiny.write_paco(tmp_path)
    data = pickle.loads(pickle.dumps(open_dataset("ade20k", tmp_path, "train")))
    assert np.array_equal(data[0].masks[0, 0], labels == 1)
    parts = pickle.loads(pickle.dumps(open_dataset("paco_lvis", tmp_path, "train")))
    assert parts[0].masks[0, 0].any()


def test_paco_objects_and_parts(tmp_path: Path) -> None:
    tiny.write_paco(tmp_path)
    data = open_dataset("paco_lvis", tmp_path, "train")
    (clip,) = data  # the second image has no annotation
    mug, handle = clip.expressions
    assert clip.name == "train2017/1"
    assert (mug.text, mug.other_texts, mug.aspect) == ("mug", (), "category")
    assert (handle.text, handle.other_texts) == ("the inner handle of the mug", ("mug inner handle",))
    assert np.array_equal(data.target(clip, mug)[0], tiny.box(0, 0, 2, 2))
    both = tiny.box(0, 0, 1, 1) | tiny.box(4, 4, 6, 8)
    assert np.array_equal(data.target(clip, handle)[0], both)
    assert clip.frames[0].shape == (*tiny.SIZE, 3)


def test_pascal_part(tmp_path: Path) -> None:
    tiny.write_pascal_part(tmp_path)
    (clip,) = open_dataset("pascal_part", tmp_path, "train")
    assert [item.text for item in clip.expressions] == ["dog", "the head of the dog"]
    assert clip.frames[0].shape == (*tiny.SIZE, 3)


def test_part_wordings() -> None:
    assert part_wordings("pottedplant:pot ") == ("the pot of the pottedplant", "pottedplant pot")
    assert part_wordings("mouse_(computer_equipment):left_button")[1] == "mouse left button"
    assert part_wordings("trash_can") == ("trash can",)


@pytest.mark.parametrize(
    ("key", "record", "message"),
    [
        ("images", {"id": 3, "file_name": "../x.jpg", "height": 6, "width": 8}, "leads out of its folder"),
        ("images", {"id": 3, "file_name": "x.jpg", "height": 0, "width": 8}, r"images\[2\]: expected height"),
        ("annotations", {"id": 9, "image_id": 2, "category_id": 7}, "category 7 is not in the file"),
        ("annotations", {"id": 9, "category_id": 1}, r"annotations\[3\]: expected a field 'image_id'"),
    ],
)
def test_broken_part_tables(tmp_path: Path, key: str, record: dict, message: str) -> None:
    tiny.write_pascal_part(tmp_path)
    table = tiny.parts_table()
    table[key].append(record)
    tiny.write_json(tmp_path / "vlpart/pascal_part/train.json", table)
    with pytest.raises(DatasetError, match=message):
        open_dataset("pascal_part", tmp_path, "train")


def test_a_broken_polygon_names_its_annotation(tmp_path: Path) -> None:
    tiny.write_pascal_part(tmp_path)
    table = tiny.parts_table()
    table["annotations"][0]["segmentation"] = [[1, 2, 3]]
    tiny.write_json(tmp_path / "vlpart/pascal_part/train.json", table)
    (clip,) = open_dataset("pascal_part", tmp_path, "train")
    with pytest.raises(DatasetError, match=r"train\.json: annotation 1: expected a polygon"):
        clip.target(clip.turns[0])
