"""`python -m dataset check` and `show` over tiny data sets, whole and broken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_image_sets as images
from PIL import Image
from tiny_video_datasets import (
    FRAMES,
    SIZE,
    TEXTS,
    VIDEOS,
    WRITERS,
    encode,
    objects,
    write_mevis,
    write_ref_youtube_vos,
    write_revos,
)

from dataset.__main__ import main
from dataset.checking import check
from dataset.registry import names, open_dataset
from dataset.showing import choose, draw_sheet, frames_to_show

FIRST = VIDEOS[0]


def run_check(tiny, capsys, *options):
    """Exit code, and the table as {sort: (count, first message)}."""
    code = main(["check", tiny.name, str(tiny.root), "--split", tiny.split, *options])
    printed = capsys.readouterr().out
    rows = [re.split(r"(?<!\\) *\| *", line)[1:4] for line in printed.splitlines() if line.startswith("| ")]
    return code, {sort: (int(count), first) for sort, count, first in rows[1:]}, printed


@pytest.mark.parametrize("writer", list(WRITERS))
@pytest.mark.parametrize("decode", [[], ["--decode"]])
def test_whole_data_sets_are_clean(tmp_path, capsys, writer, decode):
    tiny = WRITERS[writer](tmp_path / "set")
    code, faults, printed = run_check(tiny, capsys, *decode)
    assert (code, faults) == (0, {})
    expressions = sum(map(len, tiny.expected.values()))
    assert (
        f"{tiny.name} {tiny.split} at {tiny.root}: 2 videos, {expressions} expressions, 6 frames" in printed
    )
    assert "4 objects, 12 masks" in printed
    assert "nothing is wrong" in printed


def test_everything_wrong_is_in_one_table(tmp_path, capsys):
    tiny = write_revos(tmp_path / "set")
    first, second = tiny.expected
    (tiny.frames[first] / f"{FRAMES[0]}.jpg").unlink()
    (tiny.frames[first] / f"{FRAMES[2]}.jpg").unlink()
    (tiny.frames[second] / f"{FRAMES[1]}.jpg").write_bytes(b"no picture")
    Image.new("RGB", (5, 4)).save(tiny.frames[second] / f"{FRAMES[2]}.jpg")

    def spoil(meta):
        videos = meta["videos"]
        videos["../up"] = videos[second]
        videos["empty"] = {**videos[second], "frames": []}
        videos["broken"] = {"frames": 3}
        expressions = videos[first]["expressions"]
        expressions["0"]["anno_id"] = [99]
        expressions["3"] = {"exp": "", "type_id": 1, "obj_id": [7], "anno_id": [7]}
        expressions["4"] = {"exp": "it", "type_id": 0, "obj_id": [], "anno_id": []}
        expressions["5"] = {"exp": "it", "type_id": 7, "obj_id": [], "anno_id": []}

    tiny.change(spoil)
    small = encode(np.ones((2, 2)))
    tiny.change(
        lambda lists: lists.update({"7": [None] * 3, "2": [small, *lists["2"][1:]], "11": [None] * 2}),
        tiny.root / "mask_dict.json",
    )
    code, faults, printed = run_check(tiny, capsys)
    assert code == 1
    assert {sort: count for sort, (count, _) in faults.items()} == {
        "missing frame": 2,
        "broken frame": 1,
        "frame size": 1,
        "unsafe name": 1,
        "no frames": 1,
        "broken record": 2,  # the video and type_id 7
        "unknown annotation": 1,
        "expression without words": 1,
        "expression without object": 2,
        "mask size": 1,
        "broken mask": 1,
    }
    for sort, said in {
        "missing frame": f"{tiny.frames[first] / FRAMES[0]}.jpg",
        "unsafe name": "'../up' leads out",
        "no frames": "'empty' has no frames",
        "unknown annotation": rf"mask_dict.json: annotation '99' of video '{first}'",
        "mask size": f"annotation '2', frame {FRAMES[0]}: expected a mask of [12, 16], got size [2, 2]",
        "broken mask": "annotation '11': expected one mask or null for each of 3 frames, got 2 masks",
        "frame size": "expected 16x12 pixels like the clip, got 5x4",
        "expression without words": "expression '3'",
    }.items():
        assert said in faults[sort][1]
    assert "3 videos, " in printed, "the broken ones are left out, the rest is walked"
    _, _, everything = run_check(tiny, capsys, "--all")
    assert f"{tiny.frames[first] / FRAMES[2]}.jpg" in everything
    assert f"{tiny.frames[first] / FRAMES[2]}.jpg" not in printed


def test_missing_and_broken_pictures_of_masks_are_counted(tmp_path, capsys):
    tiny = write_ref_youtube_vos(tmp_path / "set")
    folder = tiny.root / "train" / "Annotations"
    (folder / FIRST / f"{FRAMES[0]}.png").unlink()
    Image.new("RGB", SIZE[::-1], (3, 4, 5)).save(folder / FIRST / f"{FRAMES[1]}.png")
    for name in FRAMES:
        Image.new("L", SIZE[::-1], 2).save(folder / VIDEOS[1] / f"{name}.png")
    code, faults, _ = run_check(tiny, capsys)
    assert code == 1
    assert {sort: count for sort, (count, _) in faults.items()} == {
        "missing file": 1,
        "broken mask": 1,
        "expression without object": 2,  # object 1 of the second video, described twice
    }


@pytest.mark.parametrize(
    "cut", ["meta_expressions_valid_.json", "mask_dict.json", "mask_dict_foreground.json"]
)
def test_cut_off_json_is_found(tmp_path, capsys, cut):
    tiny = write_revos(tmp_path / "set")
    path = tiny.root / cut
    path.write_text(path.read_text()[:-10] if path.is_file() else '{"videos": ')
    code, faults, _ = run_check(tiny, capsys)
    assert code == 1
    count, said = faults["broken JSON"]
    assert count == 1
    assert said.startswith(f"{path}: not a whole JSON file")


def test_the_foreground_file_must_cover_all_objects(tmp_path, capsys):
    tiny = write_revos(tmp_path / "set")
    first, second = tiny.expected
    masks = objects(FIRST)
    path = tiny.root / "mask_dict_foreground.json"
    whole = {
        first: {"masks_rle": [encode(mask) for mask in masks[1] | masks[2]]},
        second: {"masks_rle": [encode(np.ones(SIZE))] * 3},
    }
    path.write_text(json.dumps(whole))
    assert run_check(tiny, capsys)[0] == 0
    path.write_text(json.dumps({first: {"masks_rle": [encode(mask) for mask in masks[2]]}}))
    code, faults, _ = run_check(tiny, capsys)
    assert code == 1
    assert faults["foreground"][0] == 2
    assert f"video {first!r}: annotated pixels are not in the foreground" in faults["foreground"][1]


def test_only_decoding_finds_a_cut_off_frame(tmp_path, capsys):
    tiny = write_mevis(tmp_path / "set")
    path = tiny.frames[FIRST] / f"{FRAMES[1]}.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-100])
    assert run_check(tiny, capsys)[0] == 0
    code, faults, _ = run_check(tiny, capsys, "--decode")
    assert code == 1
    assert faults["broken frame"][0] == 1
    assert str(path) in faults["broken frame"][1]


IMAGES = {
    "refcoco": images.write_refer,
    "reason_seg": images.write_reason_seg,
    "ade20k": lambda root: images.write_ade20k(root, "validation"),
    "llava_instruct": images.write_llava,
    "chat_univi_mimic": images.write_chat_univi,
}


@pytest.mark.parametrize("name", list(IMAGES))
def test_images_are_checked_and_shown_too(tmp_path, capsys, name):
    IMAGES[name](tmp_path / "set")
    path = tmp_path / "sheet.png"
    code = main(["check", name, str(tmp_path / "set"), "--decode"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "nothing is wrong" in printed
    assert not re.search(r"\b0 (videos|expressions|frames)", printed)
    assert main(["show", name, str(tmp_path / "set"), "--output", str(path)]) == 0
    assert path.is_file()


def test_a_broken_label_map_stops_neither(tmp_path, capsys):
    images.write_ade20k(tmp_path / "set", "validation")
    (label_map,) = tmp_path.rglob("ADE_1.png")
    label_map.write_bytes(b"")
    assert main(["check", "ade20k", str(tmp_path / "set")]) == 1
    assert f"{label_map}: not a whole picture" in capsys.readouterr().out
    assert main(["show", "ade20k", str(tmp_path / "set"), "--output", str(tmp_path / "sheet.png")]) == 1
    assert str(label_map) in capsys.readouterr().err
    assert (tmp_path / "sheet.png").is_file()


def test_splits_without_masks_check_clean(tmp_path, capsys):
    for write in (write_mevis, write_ref_youtube_vos):
        assert run_check(write(tmp_path / write.__name__, "valid"), capsys)[:2] == (0, {})


def test_nothing_at_all_is_wrong(tmp_path):
    tiny = write_mevis(tmp_path / "set")
    tiny.meta.write_text('{"videos": {}}')
    findings = check(open_dataset("mevis", tiny.root, lenient=True))
    assert list(findings.faults) == ["no videos"]


def test_missing_descriptions_are_found(tmp_path, capsys):
    assert main(["check", "revos", str(tmp_path)]) == 1
    assert "expected a file" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "show"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["revoss", "."], "did you mean 'revos'"),
        (["revos", "./nowhere"], "expected a folder nowhere, found none"),
        (["mevis", ".", "--split", "test"], "no split 'test': expected one of valid_u, valid, train"),
    ],
)
def test_bad_arguments_end_in_one_line(capsys, command, arguments, message):
    assert main([command, *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count is 1 or more and --seed 0 or more, not 0 and 0"),
        (["--seed", "-1"], "not 8 and -1"),
        (["--output", "sheet.xyz"], "expected a picture's name, such as sheet.png"),
        (["--output", "{root}/mask_dict.json/sheet.png"], "cannot write"),
    ],
)
def test_bad_arguments_of_show_end_in_one_line(tmp_path, capsys, arguments, message):
    tiny = write_revos(tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    assert main(["show", "revos", str(tiny.root), *(item.format(root=tiny.root) for item in arguments)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_help_names_all_data_sets_and_is_light():
    code = "import runpy; sys.argv = ['dataset', '--help']; runpy.run_module('dataset', run_name='__main__')"
    report = "import atexit, sys; atexit.register(lambda: print('LOADED', *sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", f"{report}; {code}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    shown, _, loaded = run.stdout.rpartition("LOADED")
    assert all(f"  {name} " in shown for name in names())
    assert not {"torch", "cv2", "numpy", "pycocotools"} & set(loaded.split())


# --- show


def test_the_sheet_shows_frames_masks_and_words(tmp_path, capsys):
    tiny = write_revos(tmp_path / "set")
    path = tmp_path / "out" / "sheet.png"
    assert main(["show", "revos", str(tiny.root), "--output", str(path), "--count", "2"]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    sheet = np.asarray(Image.open(path).convert("RGB"))
    assert sheet.shape[1] > 1000
    again = tmp_path / "again.png"
    main(["show", "revos", str(tiny.root), "--output", str(again), "--count", "2"])
    assert path.read_bytes() == again.read_bytes()
    other = tmp_path / "other.png"
    arguments = ["--output", str(other), "--video", next(iter(tiny.expected))]
    assert main(["show", "revos", str(tiny.root), *arguments]) == 0
    assert Image.open(other).height > Image.open(path).height, "three expressions, not two samples"


def test_a_present_object_is_tinted_and_an_absent_one_is_not(tmp_path):
    (clip, _) = open_dataset("revos", write_revos(tmp_path / "set").root)
    sheets = [np.asarray(draw_sheet([clip], count)[0], int) for count in (1, 2, 3)]
    tinted = [((sheet[..., 0] - sheet[..., 1]) > 60).sum() for sheet in sheets]
    assert 0 < tinted[0] < tinted[1] == tinted[2]
    assert sheets[2].shape[0] > sheets[1].shape[0]


def test_the_sheet_goes_on_where_a_sample_is_broken(tmp_path, capsys):
    tiny = write_revos(tmp_path / "set")
    first, _ = tiny.expected
    for path in tiny.frames[first].iterdir():
        path.unlink()
    path = tmp_path / "sheet.png"
    assert main(["show", "revos", str(tiny.root), "--output", str(path)]) == 1
    said = capsys.readouterr().err
    assert f"{tiny.frames[first]}" in said
    assert said.count("\n") == 1
    assert path.is_file()


def test_show_says_what_it_cannot_open(tmp_path, capsys):
    assert main(["show", "revos", str(tmp_path)]) == 1
    tiny = write_mevis(tmp_path / "set", "valid")
    assert main(["show", "mevis", str(tiny.root), "--split", "valid", "--video", "other"]) == 1
    assert "no video 'other'" in capsys.readouterr().err
    path = tmp_path / "sheet.png"
    assert main(["show", "mevis", str(tiny.root), "--split", "valid", "--output", str(path)]) == 0
    assert not list(Path.cwd().glob("revos_*.png"))


def test_frames_where_the_object_is_seen():
    assert frames_to_show(np.array([0, 1, 1, 0, 1], bool)) == [1, 2, 4]
    assert frames_to_show(np.zeros(101, bool)) == [0, 33, 67, 100]
    assert frames_to_show(np.ones(1, bool)) == [0]


def test_clips_take_turns(tmp_path):
    reader = open_dataset("mevis", write_mevis(tmp_path / "set").root)
    chosen = choose(reader, 8, np.random.default_rng(0))
    assert sorted(clip.name for clip, _, _ in chosen) == sorted(VIDEOS)
    chosen = choose(reader[:1], 8, np.random.default_rng(0))
    assert [item.text for _, item, _ in chosen] == list(TEXTS[:3])
    asked = {item.id for seed in range(20) for _, item, _ in choose(reader, 2, np.random.default_rng(seed))}
    assert asked == {"0", "1", "2"}
