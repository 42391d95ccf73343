"""Every reader of videos over a tiny data set in its official layout: what all have in common."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from tiny_video_datasets import FRAMES, SIZE, WRITERS, write_mevis, write_ref_youtube_vos

from dataset.errors import DatasetError
from dataset.registry import VIDEOS as REGISTERED
from dataset.registry import names, open_dataset, reader_class
from dataset.sample import Sample

PLAIN_TEXT = "ref_davis17 as downloaded"
IN_JSON = [name for name in WRITERS if name != PLAIN_TEXT]
WITH_RECORDS = [name for name in IN_JSON if name not in ("youtube_vos", "lv_vis")]


@pytest.fixture(params=list(WRITERS))
def tiny(request, tmp_path):
    return WRITERS[request.param](tmp_path / "set")


def opened(tiny, **options):
    return open_dataset(tiny.name, tiny.root, tiny.split, **options)


def test_every_video_data_set_is_written_here():
    assert {name.split()[0] for name in WRITERS} == set(REGISTERED)


def test_videos_and_expressions(tiny):
    reader = opened(tiny)
    assert [clip.name for clip in reader] == list(tiny.expected)
    for clip in reader:
        expected = tiny.expected[clip.name]
        assert isinstance(clip, Sample)
        assert clip is reader.video(clip.name)
        assert clip.frame_names == FRAMES
        assert (clip.height, clip.width) == SIZE
        assert {item.id: (item.text, item.kind) for item in clip.expressions} == {
            key: value[:2] for key, value in expected.items()
        }
        assert [path.parent for path in clip.frame_paths()] == [tiny.frames[clip.name]] * len(FRAMES)
    assert reader.skipped == []


def test_masks(tiny):
    reader = opened(tiny)
    for clip in reader:
        assert clip.masks.shape == (len(clip.annotation_ids), len(FRAMES), *SIZE)
        np.testing.assert_array_equal(reader.foreground(clip), clip.masks[:].any(axis=0))
        for item in clip.expressions:
            wanted = tiny.expected[clip.name][item.id][2]
            np.testing.assert_array_equal(reader.target(clip, item), wanted)
            np.testing.assert_array_equal(clip.target(item, [2, 0]), wanted[[2, 0]])
            for key in item.annotation_ids:
                number = clip.annotation_ids.index(key)
                np.testing.assert_array_equal(reader.annotation(clip, key), clip.masks[number])
                np.testing.assert_array_equal(clip.masks[[number], 1:], clip.masks[number][None, 1:])
        assert any(wanted[2].any() for wanted in tiny.expected[clip.name].values())
        for turn, item in zip(clip.turns, clip.expressions, strict=True):
            assert (turn.question, turn.kind) == (item.text, item.kind)
            assert turn.answer == ("" if item.kind == "absent" else "[SEG]")
            np.testing.assert_array_equal(clip.target(turn), clip.target(item))
            np.testing.assert_array_equal(Sample.target(clip, turn), clip.target(item))


def test_frames_are_decoded_when_asked_for(tiny):
    (clip, *_) = opened(tiny)
    assert clip.frames.shape == (len(FRAMES), *SIZE, 3)
    assert clip.frames[1].dtype == np.uint8
    shades = [int(frame.mean()) for frame in clip.frames[:]]
    assert shades == sorted(shades)
    assert shades[0] < shades[1] < shades[2]
    np.testing.assert_array_equal(clip.frames[[2, 0, 2]], np.asarray(clip.frames)[[2, 0, 2]])
    with pytest.raises(IndexError):
        clip.frames[len(FRAMES)]


def test_opening_reads_neither_frames_nor_masks(tiny):
    for path in tiny.root.rglob("*"):
        if path.suffix in (".jpg", ".png") or path.name == "mask_dict.json":
            path.write_bytes(b"")
    reader = opened(tiny)
    assert sum(len(clip.expressions) for clip in reader) == sum(map(len, tiny.expected.values()))
    with pytest.raises(DatasetError, match="not a"):
        reader[0].frames[0]


def test_readers_go_to_other_processes(tiny):
    reader = opened(tiny)
    before = [clip.masks[:] for clip in reader]
    sent = pickle.dumps(reader)
    assert b"counts" not in sent, "what was read later stays here"
    for clip, masks in zip(pickle.loads(sent), before, strict=True):
        np.testing.assert_array_equal(clip.masks[:], masks)


@pytest.mark.parametrize("name", ["../up", "/etc", "a//b", "..", "a\\b", "C:x"])
def test_video_names_that_climb_are_refused(tiny, name):
    if tiny.meta.suffix == ".txt":
        tiny.meta.write_text(name)
    elif tiny.meta.name.endswith("instances.json"):
        tiny.change(lambda meta: meta["videos"][0].update(file_names=[f"{name}/0.jpg"]))
    else:
        tiny.change(lambda meta: meta["videos"].update({name: meta["videos"].popitem()[1]}))
    with pytest.raises(DatasetError, match="leads out of its folder") as caught:
        opened(tiny)
    assert caught.value.sort == "unsafe name"
    assert str(tiny.meta) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tiny", IN_JSON, indirect=True)
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_cut_off_descriptions_are_named(tiny, share):
    content = tiny.meta.read_bytes()
    tiny.meta.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DatasetError, match="not a whole JSON file") as caught:
        opened(tiny, lenient=True)
    assert str(tiny.meta) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.sort == "broken JSON"


def test_missing_descriptions_are_named(tiny):
    tiny.meta.unlink()
    with pytest.raises(DatasetError, match="found none") as caught:
        opened(tiny, lenient=True)
    assert caught.value.sort == "missing file"


@pytest.mark.parametrize("tiny", IN_JSON, indirect=True)
@pytest.mark.parametrize("content", ["[]", "{}", '{"videos": 3}', "null", '{"videos": [[]]}'])
def test_descriptions_of_another_form_are_named(tiny, content):
    tiny.meta.write_text(content)
    with pytest.raises(DatasetError, match="expected") as caught:
        opened(tiny)
    assert str(tiny.meta) in str(caught.value)


@pytest.mark.parametrize("tiny", WITH_RECORDS, indirect=True)
def test_a_broken_video_is_left_out_if_lenient(tiny):
    first, second = tiny.expected
    tiny.change(lambda meta: meta["videos"][first].update(frames="00000"))
    with pytest.raises(DatasetError, match="expected frames, a list of names, got '00000'"):
        opened(tiny)
    reader = opened(tiny, lenient=True)
    assert [clip.name for clip in reader] == [second]
    assert [repr(first) in str(fault) for fault in reader.skipped] == [True]


def test_missing_frames_are_named(tiny):
    reader = opened(tiny)
    clip = reader[-1]
    (clip.folder / f"{FRAMES[1]}.jpg").unlink()
    for read in (clip.frame_paths, lambda: clip.frames[1]):
        with pytest.raises(DatasetError, match=rf"{FRAMES[1]}\.jpg") as caught:
            read()
        assert caught.value.sort == "missing frame"
    assert clip.frames[0].shape == (*SIZE, 3)


def test_suffixes_in_capitals(tiny):
    clip = opened(tiny)[0]
    whole = clip.frames[:]
    for path in clip.frame_paths():
        path.rename(path.with_suffix(".JPG"))
    np.testing.assert_array_equal(opened(tiny)[0].frames[:], whole)


@pytest.mark.parametrize("write", [write_mevis, write_ref_youtube_vos])
def test_splits_without_public_masks(tmp_path, write):
    reader = opened(write(tmp_path / "set", "valid"))
    assert not reader.has_masks
    for clip in reader:
        assert {item.kind for item in clip.expressions} == {"referring"}
        assert clip.turns == clip.annotation_ids == ()
        assert clip.masks.shape == (0, len(FRAMES), *SIZE)


def test_names_of_data_sets():
    assert {"revos", "mevis", "ref_youtube_vos", "ref_davis17"} < set(names())
    assert reader_class("Ref-YouTube-VOS") is reader_class("ref_youtube_vos")
    assert reader_class("ReasonSeg") is reader_class("reason_seg") is not reader_class("ReasonVOS")
    with pytest.raises(DatasetError, match="did you mean 'revos'"):
        reader_class("revoss")
    with pytest.raises(DatasetError, match="expected a split among valid_u, valid, train, got 'validu'"):
        open_dataset("mevis", ".", "validu")
