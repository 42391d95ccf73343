"""ReasonSeg over a tiny data set in the official layout, and over broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataset.errors import DatasetError
from dataset.registry import open_dataset
from tests import tiny_image_sets as tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.write_reason_seg(tmp_path / "reason_seg" / "ReasonSeg")
    return tmp_path


def test_questions_and_reasons(root: Path) -> None:
    asked, phrase = open_dataset("reason_seg", root, "train")
    assert [item.text for item in asked.expressions] == [
        "Who pours the tea?",
        "Which one “serves”?",
    ]  # cp1252
    assert [item.aspect for item in asked.expressions] == ["long", "long"]
    assert {item.answer for item in asked.expressions} == {"The host serves guests."}
    assert phrase.expressions[0].aspect == "short"
    assert phrase.expressions[0].answer is None
    assert {item.kind for clip in (asked, phrase) for item in clip.expressions} == {"reasoning"}
    assert open_dataset("reason_seg", root / "reason_seg" / "ReasonSeg")[0].name == "c"


def test_small_outlines_lie_above_large_ones(root: Path) -> None:
    data = open_dataset("reason_seg", root)
    (clip,) = data
    ignored = tiny.box(1, 1, 3, 3)
    assert np.array_equal(data.ignored(clip)[0], ignored)
    assert np.array_equal(data.target(clip, clip.expressions[0])[0], tiny.box(0, 0, 6, 4) & ~ignored)


def test_halves_of_the_test_split(root: Path) -> None:
    folder = root / "reason_seg" / "ReasonSeg"
    (folder / "train").rename(folder / "test")
    names = {
        split: [clip.name for clip in open_dataset("reason_seg", root, split)]
        for split in ("test", "test-short", "test-long")
    }
    assert names == {"test": ["a", "b"], "test-short": ["b"], "test-long": ["a"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_sentence": "yes"}, "expected is_sentence"),
        ({"text": []}, "expected text, a list of texts"),
        ({"text": [5]}, "expected text, a list of texts"),
        ({"shapes": None}, "shapes: expected a list"),
    ],
)
def test_broken_records(root: Path, change: dict, message: str) -> None:
    path = root / "reason_seg" / "ReasonSeg" / "val" / "c.json"
    content = {"text": ["x"], "is_sentence": True, "shapes": []}
    tiny.write_json(path, {**content, **change})
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset("reason_seg", root)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("points", [[[1, 2, 3]], "x", [[1, float("nan")]], [[1, 1e9]], [["a", 1]], [5]])
def test_broken_outlines(root: Path, points: object) -> None:
    path = root / "reason_seg" / "ReasonSeg" / "val" / "c.json"
    shapes = [{"label": "target", "points": points}]
    tiny.write_json(path, {"text": ["x"], "is_sentence": True, "shapes": shapes})
    data = open_dataset("reason_seg", root)
    with pytest.raises(DatasetError, match=r"c\.json: shape 0: expected points"):
        data.target(data[0], data[0].expressions[0])


def test_truncated_json_is_left_out_if_lenient(root: Path) -> None:
    path = root / "reason_seg" / "ReasonSeg" / "train" / "b.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(DatasetError, match=r"b\.json: not a whole JSON file"):
        open_dataset("reason_seg", root, "train")
    data = open_dataset("reason_seg", root, "train", lenient=True)
    assert [clip.name for clip in data] == ["a"]
    assert len(data.skipped) == 1


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found none"):
        open_dataset("reason_seg", tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match=r"expected a \.json file beside every \.jpg"):
        open_dataset("reason_seg", tmp_path)
