"""RefCOCO and its relatives over tiny data sets in the official layout, and over broken ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from dataset.errors import DatasetError
from dataset.registry import open_dataset
from dataset.safe_pickle import load_pickle
from tests import tiny_image_sets as tiny

TWO_BOXES = tiny.box(0, 0, 3, 2) | tiny.box(4, 0, 6, 2)


def test_what_is_said_about_an_image(tmp_path: Path) -> None:
    tiny.write_refer(tmp_path)
    train = open_dataset("refcoco", tmp_path, "train")
    cups, sky = train
    assert cups.name == "COCO_train2014_000000000001"
    assert cups.frame_names == (cups.name,)
    assert [(item.id, item.text) for item in cups.expressions] == [
        ("0", "Left CUP"),
        ("1", "cup"),
        ("2", "tasse café"),
    ]
    assert cups.frames.shape == (1, *tiny.SIZE, 3)
    assert np.array_equal(train.target(cups, cups.expressions[0]), TWO_BOXES[None])
    assert np.array_equal(train.target(cups, cups.expressions[2]), tiny.box(0, 4, 6, 8)[None])
    assert np.array_equal(cups.target(sky.turns[0]).shape, (1, *tiny.SIZE))
    assert cups.frames[0].shape == (*tiny.SIZE, 3)
    (dog,) = open_dataset("refcoco", tmp_path)  # val
    assert np.array_equal(dog.target(dog.turns[0])[0], tiny.box(0, 0, 1, 1) | tiny.box(2, 2, 3, 3))


def test_size_is_known_without_the_image(tmp_path: Path) -> None:
    tiny.write_refer(tmp_path)
    for path in (tmp_path / "images").rglob("*.jpg"):
        path.unlink()
    (dog,) = open_dataset("refcoco", tmp_path, "val")
    assert dog.target(dog.turns[0]).shape == (1, *tiny.SIZE)
    with pytest.raises(DatasetError, match=r"COCO_train2014_000000000002\.jpg"):
        dog.frames[0]


@pytest.mark.parametrize(
    ("name", "folder", "references"),
    [
        ("refcoco+", "refcoco+", "refs(unc).p"),
        ("refcocog", "refcocog", "refs(umd).p"),
        ("refclef", "refclef", "refs(unc).p"),
    ],
)
def test_relatives(tmp_path: Path, name: str, folder: str, references: str) -> None:
    tiny.write_refer(tmp_path / "refer_seg", folder, references)
    assert len(open_dataset(name, tmp_path, "train")) == 2
    assert len(open_dataset(name, tmp_path / "refer_seg", "val")) == 1


def test_refclef_has_images_of_its_own(tmp_path: Path) -> None:
    tiny.write_refer(tmp_path, "refclef")
    tiny.write_picture(tmp_path / "images/saiapr_tc-12/COCO_train2014_000000000002.jpg", value=7)
    (dog,) = open_dataset("refclef", tmp_path, "val")
    assert abs(int(dog.frames[0].mean()) - 7) <= 1


@pytest.mark.parametrize("references", ["grefs(unc).json", "refs(unc).p"])
def test_several_objects_and_none(tmp_path: Path, references: str) -> None:
    records = [
        {"image_id": 1, "ann_id": [11, 12], "split": "val", "sentences": tiny.sentences(0, "both cups")},
        {"image_id": 1, "ann_id": [-1], "split": "val", "sentences": tiny.sentences(1, "the dodo")},
    ]
    tiny.write_refer(tmp_path, "grefcoco", references, records)
    data = open_dataset("grefcoco", tmp_path, "val")
    (clip,) = data
    both, none = clip.expressions
    assert (both.kind, none.kind) == ("referring", "absent")
    assert np.array_equal(data.target(clip, both)[0], TWO_BOXES | tiny.box(0, 4, 6, 8))
    assert not data.target(clip, none).any()
    assert clip.turns[0].object_ids == (0, 1)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"ann_id": 11, "split": "val", "sentences": []}], r"record 0: expected a field 'image_id'"),
        ([{"image_id": 9, "ann_id": 1, "split": "val", "sentences": tiny.sentences(0, "x")}], r"image 9"),
        ([{"image_id": 1, "ann_id": 1, "split": "val", "sentences": [{"sent_id": 1}]}], r"'sent'"),
        (
            [{"image_id": 1, "ann_id": 1, "split": "val", "sentences": [{"sent": "x", "sent_id": "../1"}]}],
            r"'\.\./1' leads out",
        ),
        ({"0": 1}, r"expected a list"),
    ],
)
def test_broken_records(tmp_path: Path, records: object, message: str) -> None:
    tiny.write_refer(tmp_path, records=records)
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset("refcoco", tmp_path, "val")
    assert "\n" not in str(caught.value)


def test_the_rest_goes_on(tmp_path: Path) -> None:
    tiny.write_refer(tmp_path, records=[*tiny.refer_records(), {"image_id": 2, "split": "val"}])
    data = open_dataset("refcoco", tmp_path, "val", lenient=True)
    assert len(data) == 1
    (fault,) = data.skipped
    assert "record 4" in str(fault)


def test_one_number_for_two_sentences(tmp_path: Path) -> None:
    records = tiny.refer_records()
    records[1]["sentences"] = tiny.sentences(0, "tasse café")  # its number is that of "Left CUP"
    tiny.write_refer(tmp_path, records=records)
    with pytest.raises(DatasetError, match=r"refs\(unc\)\.p: clip '.*001': there are two expressions '0'"):
        open_dataset("refcoco", tmp_path, "train")
    data = open_dataset("refcoco", tmp_path, "train", lenient=True)
    assert [item.text for item in data[0].expressions] == ["Left CUP", "cup"]
    assert [fault.sort for fault in data.skipped] == ["expression twice"]


def test_an_annotation_that_is_not_there(tmp_path: Path) -> None:
    records = [{"image_id": 1, "ann_id": 99, "split": "val", "sentences": tiny.sentences(0, "x")}]
    tiny.write_refer(tmp_path, records=records)
    data = open_dataset("refcoco", tmp_path, "val")
    with pytest.raises(DatasetError, match=r"instances\.json: annotation 99 of image .* is not in the file"):
        data.target(data[0], data[0].expressions[0])


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps([Harmful()]))
    with pytest.raises(DatasetError, match=r"refs\.p: not a whole pickle of plain values"):
        load_pickle(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    values = [{"id": 2**40, "text": "café", "part": (1.5, None, True), "counts": b"\x00\xff`"}, "x" * 300]
    path = tmp_path / "values.p"
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    assert load_pickle(path) == values


def test_texts_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "old.p"
    path.write_bytes(b"U\x05caf\xc3\xa9.")  # SHORT_BINSTRING, UTF-8
    assert load_pickle(path) == "café"
    path.write_bytes(b"U\x04caf\xe9.")  # Latin-1
    assert load_pickle(path) == "café"


def test_damaged_pickles(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    whole = pickle.dumps(tiny.refer_records(), protocol=2)
    for content in (b"", whole[:50], b"junk", whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"refs\.p"):
            load_pickle(path)
    with pytest.raises(DatasetError, match="found none"):
        load_pickle(tmp_path / "missing.p")
