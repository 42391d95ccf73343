"""Whatever is damaged in a description ends in one line that names it, never in a traceback."""

from __future__ import annotations

import contextlib
import copy
import json
import random

import pytest
from test_dataset_image_checks import SETS
from tiny_video_datasets import WRITERS

from dataset.checking import check
from dataset.errors import DatasetError
from dataset.registry import open_dataset

REMOVED = object()
DAMAGE = (
    REMOVED,
    None,
    3,
    -1,
    1.5,
    True,
    "x",
    "",
    "../a",
    "ü" * 300,
    "\ud800",
    "a\nb",
    [],
    {},
    [None],
    [[]],
    {"a": 1},
    [1],
    10**30,
    "9" * 5000,
)
DRAWS = 15


def places(content: object, start: tuple = ()) -> list[tuple]:
    """The path of every value in nested lists and dictionaries."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    return [path for key, value in items for path in ((*start, key), *places(value, (*start, key)))]


def damaged(content: object, place: tuple, value: object) -> object:
    content = inner = copy.deepcopy(content)
    for key in place[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


@pytest.mark.parametrize("writer", list(WRITERS))
def test_damaged_values_are_named_and_the_rest_is_walked(tmp_path, writer):
    tiny = WRITERS[writer](tmp_path / "set")
    draw = random.Random(writer)
    refused = 0
    for path in sorted(tiny.root.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for _ in range(DRAWS):
            place, value = draw.choice(places(content)), draw.choice(DAMAGE)
            path.write_text(json.dumps(damaged(content, place, value)))
            for lenient in (False, True):
                try:
                    said = check(open_dataset(tiny.name, tiny.root, tiny.split, lenient=lenient)).table()
                except DatasetError as error:
                    said = str(error)
                assert all(line.isprintable() for line in said.splitlines())
                refused += "|:---|" not in said or said.count("\n") > 1
        path.write_text(json.dumps(content))
    assert refused or not list(tiny.root.rglob("*.json"))
    assert check(open_dataset(tiny.name, tiny.root, tiny.split)).num_faults == 0


@pytest.mark.parametrize("name", list(SETS))
def test_damaged_values_of_image_sets_are_named(tmp_path, name):
    SETS[name][0](tmp_path)
    draw = random.Random(name)
    for path in sorted(tmp_path.rglob("*.json")):
        whole = path.read_bytes()
        content = json.loads(whole.decode(errors="replace"))
        for _ in range(DRAWS):
            place, value = draw.choice(places(content)), draw.choice(DAMAGE)
            path.write_text(json.dumps(damaged(content, place, value)))
            for lenient in (False, True):
                try:
                    said = check(open_dataset(name, tmp_path, "train", lenient=lenient)).table()
                except DatasetError as error:
                    said = str(error)
                assert all(line.isprintable() for line in said.splitlines())
        path.write_bytes(whole)
    assert check(open_dataset(name, tmp_path, "train")).num_faults == 0


@pytest.mark.parametrize(
    ("name", "key", "spoil", "message"),
    [
        ("paco_lvis", "annotations", {"category_id": [1]}, r"annotations\[0\]: expected category_id, a cat"),
        ("paco_lvis", "annotations", {"image_id": {}}, r"annotations\[0\]: expected image_id, a number or"),
        ("pascal_part", "categories", {"id": "x"}, r"categories\[0\]: expected id, a category's number"),
        ("pascal_part", "images", {"width": True}, r"images\[0\]: expected height and width in pixels"),
        ("refcoco", "images", {"height": 10**9}, r"image 1: expected height and width in pixels"),
        ("mapillary", "labels", None, r"labels\[0\]: expected an object with named fields, got None"),
    ],
)
def test_damaged_records_of_image_sets_are_named(tmp_path, name, key, spoil, message):
    SETS[name][0](tmp_path)
    tables = [path for path in tmp_path.rglob("*.json") if key in json.loads(path.read_text())]
    content = json.loads(tables[0].read_text())
    content[key][0] = spoil and {**content[key][0], **spoil}
    tables[0].write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(name, tmp_path, "train")
    assert str(tables[0]) in str(caught.value)


@pytest.mark.parametrize("writer", ["ref_davis17 as downloaded"])
def test_damaged_lines_are_named(tmp_path, writer):
    tiny = WRITERS[writer](tmp_path / "set")
    draw = random.Random(0)
    for path in sorted(tiny.root.rglob("*.txt")):
        content = path.read_bytes()
        for _ in range(DRAWS):
            place = draw.randrange(len(content))
            path.write_bytes(
                content[:place] + bytes([draw.randrange(256)]) + content[place + draw.randrange(9) :]
            )
            with contextlib.suppress(DatasetError):
                check(open_dataset(tiny.name, tiny.root, tiny.split, lenient=True))
                open_dataset(tiny.name, tiny.root, tiny.split)
        path.write_bytes(content)
