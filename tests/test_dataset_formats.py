"""What is special in single data sets of videos, and their faults, over tiny ones in the official layouts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from tiny_video_datasets import (
    FRAMES,
    SIZE,
    VIDEOS,
    objects,
    write_frames,
    write_json,
    write_lv_vis,
    write_mevis,
    write_reason_vos,
    write_ref_davis17,
    write_ref_davis17_download,
    write_ref_youtube_vos,
    write_revos,
    write_youtube_vos,
)

from dataset.errors import DatasetError
from dataset.lv_vis import LvVis
from dataset.mevis import Mevis
from dataset.reason_vos import ReasonVos
from dataset.ref_davis17 import RefDavis17
from dataset.ref_youtube_vos import RefYoutubeVos
from dataset.revos import Revos
from dataset.youtube_vos import YoutubeVos

FIRST = VIDEOS[0]


# --- Ref-YouTube-VOS


def list_videos(root, split, names):
    """Only the file of expressions: nothing else is read before it is needed."""
    records = {name: {"frames": [], "expressions": {"0": {"exp": "it"}}} for name in names}
    write_json(root / "meta_expressions" / split / "meta_expressions.json", {"videos": records})


def test_of_507_videos_of_ref_youtube_vos_202_are_scored(tmp_path):
    everything = [f"{number:010x}" for number in range(507)]
    hidden = [everything[index] for index in np.random.default_rng(0).permutation(507)[:305]]
    list_videos(tmp_path, "valid", everything)
    list_videos(tmp_path, "test", hidden)
    scored = [clip.name for clip in RefYoutubeVos(tmp_path)]
    assert len(scored) == 202
    assert scored == [name for name in everything if name not in hidden]
    assert [clip.name for clip in RefYoutubeVos(tmp_path, "test")] == hidden
    (tmp_path / "meta_expressions" / "test" / "meta_expressions.json").unlink()
    with pytest.raises(DatasetError, match=r"lists 507 videos.*test/meta_expressions\.json.*found none"):
        RefYoutubeVos(tmp_path)
    list_videos(tmp_path, "valid", scored)
    assert len(RefYoutubeVos(tmp_path)) == 202


def test_labels_are_read_whatever_the_picture_s_mode(tmp_path):
    tiny = write_ref_youtube_vos(tmp_path / "set")
    folder = tiny.root / "train" / "Annotations" / FIRST
    for path in folder.iterdir():
        values = np.asarray(Image.open(path))
        Image.fromarray(np.repeat(values[..., None], 3, axis=2), "RGB").save(path)
    clip = RefYoutubeVos(tiny.root, "train")[0]
    np.testing.assert_array_equal(clip.target(clip.expressions[0]), objects(FIRST)[1])


def photo(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8), "RGB").save(path)


@pytest.mark.parametrize(
    ("spoil", "message", "sort"),
    [
        (lambda path: path.unlink(), "expected a mask .*, found none", "missing file"),
        (photo, "expected a mask of one channel", "broken mask"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "not a whole picture", "broken mask"),
        (lambda path: path.write_text("no picture"), "not a whole picture", "broken mask"),
        (
            lambda path: Image.new("P", (5, 4)).save(path),
            r"expected a mask of \[12, 16\], got size \[4, 5\]",
            "mask size",
        ),
    ],
)
@pytest.mark.parametrize(
    ("write", "folder"),
    [
        (write_ref_youtube_vos, f"train/Annotations/{FIRST}"),
        (write_reason_vos, f"Annotations/vipseg_{FIRST}_1"),
    ],
)
def test_broken_pictures_of_masks_are_named(tmp_path, write, folder, spoil, message, sort):
    tiny = write(tmp_path / "set")
    path = tiny.root / folder / f"{FRAMES[1]}.png"
    spoil(path)
    reader = (RefYoutubeVos if "train" in folder else ReasonVos)(tiny.root, tiny.split)
    clip, expression = reader[0], reader[0].expressions[0]
    with pytest.raises(DatasetError, match=message) as caught:
        reader.target(clip, expression)
    assert str(path) in str(caught.value)
    assert caught.value.sort == sort
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(clip.target(expression, [0]), objects(FIRST)[1][:1])


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("3", r"expression '0': object 3 is not among 1, 2 of .*meta\.json"),
        ("0", "an object's number from 1 on, got '0'"),
        ("one", "an object's number from 1 on, got 'one'"),
        (None, "an object's number from 1 on, got None"),
    ],
)
def test_objects_that_do_not_exist_are_named(tmp_path, number, message):
    tiny = write_ref_youtube_vos(tmp_path / "set")
    tiny.change(lambda meta: meta["videos"][FIRST]["expressions"]["0"].update(obj_id=number))
    with pytest.raises(DatasetError, match=message):
        RefYoutubeVos(tiny.root, "train")
    reader = RefYoutubeVos(tiny.root, "train", lenient=True)
    assert len(reader.skipped) == 1
    assert [item.id for item in reader[0].expressions] == ["1", "2"]
    assert len(reader) == 2


def test_a_missing_file_of_objects_is_done_without(tmp_path):
    tiny = write_ref_youtube_vos(tmp_path / "set")
    (tiny.root / "train" / "meta.json").unlink()
    clip = RefYoutubeVos(tiny.root, "train")[0]
    assert clip.annotation_ids == ("1", "2")


# --- Ref-DAVIS17


def test_the_downloaded_davis_gives_what_the_converter_writes(tmp_path):
    reader = RefDavis17(write_ref_davis17_download(tmp_path / "set").root)
    assert [clip.name for clip in reader] == ["classic-car", "dogs-scale"]
    clip = reader[0]
    assert [item.id for item in clip.expressions] == [str(index) for index in range(8)]
    assert [item.object_ids for item in clip.expressions] == [(1,)] * 4 + [(2,)] * 4
    assert [item.annotator for item in clip.expressions] == [0, 1, 2, 3] * 2
    assert clip.expressions[2].text == "un vieux camarade à l'arrêt 1"
    assert clip.expressions[7].text == "l'élève au fond 2"


def test_davis_s_expressions_stand_in_the_order_of_their_numbers(tmp_path):
    tiny = write_ref_davis17(tmp_path / "set")

    def shuffle(meta):
        items = meta["videos"][FIRST]["expressions"]
        items |= {str(number): {"exp": "more", "obj_id": "2"} for number in (11, 10, 9, 8)}
        meta["videos"][FIRST]["expressions"] = dict(sorted(items.items()))

    tiny.change(shuffle)
    clip = RefDavis17(tiny.root)[0]
    assert [item.id for item in clip.expressions] == [str(number) for number in range(12)]
    assert [item.annotator for item in clip.expressions] == [0, 1, 2, 3] * 3


def test_davis_s_void_is_ignored(tmp_path):
    tiny = write_ref_davis17(tmp_path / "set")
    reader = RefDavis17(tiny.root)
    assert reader.ignored(reader[0]) is None
    path = tiny.root / "valid" / "Annotations" / VIDEOS[1] / f"{FRAMES[2]}.png"
    values = np.asarray(Image.open(path)).copy()
    values[-1] = 255
    Image.fromarray(values, "L").save(path)
    void = reader.ignored(reader[1])
    assert void[2, -1].all()
    assert void.sum() == SIZE[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dogs-scale", r"annot2\.txt: line 5: expected a video, an object and"),
        ('dogs-scale x "words"', r"annot2\.txt: line 5: expected an object's number"),
        ('dogs-scale 3 "words"', "the same objects in all four text files"),
    ],
)
def test_broken_descriptions_of_davis_are_named(tmp_path, line, message):
    root = write_ref_davis17_download(tmp_path / "set").root
    path = root / "davis_text_annotations" / "Davis17_annot2.txt"
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    with pytest.raises(DatasetError, match=message):
        RefDavis17(root)


# --- ReasonVOS


def test_aspects_of_reason_vos(tmp_path):
    first = ReasonVos(write_reason_vos(tmp_path / "1").root)
    again = ReasonVos(write_reason_vos(tmp_path / "2", release=2).root)
    assert [item.aspect for item in first[0].expressions] == ["sentence", "phrase"]
    assert [item.aspect for item in again[0].expressions] == ["sentence", "sentence"]
    assert first[1].annotation_ids == (f"mevis_{VIDEOS[1]}_1", f"mevis_{VIDEOS[1]}_2")
    assert [clip.annotation_ids for clip in first] == [clip.annotation_ids for clip in again]


def test_one_number_for_several_expressions_of_reason_vos(tmp_path):
    tiny = write_reason_vos(tmp_path / "set")
    tiny.change(lambda meta: [item.update(exp_id=0) for item in meta["videos"][FIRST]["expressions"]])
    reader = ReasonVos(tiny.root)
    assert [item.id for item in reader[0].expressions] == ["1_0", "2_0"]
    assert [item.id for item in reader[1].expressions] == ["5", "6"]


def test_frames_with_suffix_and_missing_folders_of_reason_vos(tmp_path):
    tiny = write_reason_vos(tmp_path / "set")
    tiny.change(lambda meta: meta["videos"][FIRST].update(frames=[f"{name}.jpg" for name in FRAMES]))
    tiny.change(lambda meta: meta["videos"][FIRST]["expressions"][0].update(obj_id=9))
    reader = ReasonVos(tiny.root)
    assert reader[0].frame_names == FRAMES
    with pytest.raises(DatasetError, match=rf"vipseg_{FIRST}_9, found none") as caught:
        reader[0].target(reader[0].expressions[0])
    assert caught.value.sort == "unknown annotation"
    assert reader[0].target(reader[0].expressions[1]).any()


# --- MeViS and ReVOS


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "utf-8-sig"])
def test_files_in_western_letters(tmp_path, encoding):
    tiny = write_mevis(tmp_path / "set")
    words = "l'âne du café" if encoding == "latin-1" else "the café’s donkey"
    tiny.change(lambda meta: meta["videos"].pop(VIDEOS[1]))
    tiny.change(
        lambda meta: [item.update(exp=words) for item in meta["videos"][FIRST]["expressions"].values()]
    )
    content = json.loads(tiny.meta.read_text(encoding="utf-8"))
    tiny.meta.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert {item.text for item in Mevis(tiny.root)[0].expressions} == {words}


def test_unknown_annotations_are_named(tmp_path):
    tiny = write_mevis(tmp_path / "set")
    tiny.change(lambda meta: meta["videos"][FIRST]["expressions"]["0"].update(anno_id=[77]))
    reader = Mevis(tiny.root)
    with pytest.raises(
        DatasetError, match=rf"mask_dict\.json: annotation '77' of video '{FIRST}' is not in the file"
    ) as caught:
        reader.target(reader[0], reader[0].expressions[0])
    assert caught.value.sort == "unknown annotation"


def test_a_video_without_frames_has_no_size_but_can_be_listed(tmp_path):
    tiny = write_mevis(tmp_path / "set")
    tiny.change(lambda meta: meta["videos"][FIRST].update(frames=[]))
    reader = Mevis(tiny.root)
    assert len(reader[0].expressions) == 3
    assert reader[0].frame_paths() == ()
    with pytest.raises(DatasetError, match="has no frames"):
        _ = reader[0].height
    assert reader[1].height == SIZE[0]


def test_words_of_our_own_benchmark(tmp_path):
    tiny = write_revos(tmp_path / "set")
    name = f"UVO/all/{FIRST}"
    for key, words in {"0": "It is [SEG].", "2": "There is none."}.items():
        tiny.change(
            lambda meta, key=key, words=words: meta["videos"][name]["expressions"][key].update(
                answer=words, aspect="colour"
            )
        )
    turns = Revos(tiny.root)[0].turns
    assert [turn.answer for turn in turns] == ["It is [SEG].", "[SEG]", "There is none."]
    assert [turn.aspect for turn in turns] == ["colour", "", "colour"]


# --- LV-VIS and YouTube-VOS


def test_a_name_means_all_objects_of_its_category(tmp_path):
    tiny = write_youtube_vos(tmp_path / "set")
    tiny.change(lambda meta: meta["videos"][FIRST]["objects"]["2"].update(category="person"))
    clip = YoutubeVos(tiny.root)[0]
    (item,) = clip.expressions
    assert (item.text, item.object_ids) == ("person", (1, 2))
    np.testing.assert_array_equal(clip.target(item), objects(FIRST)[1] | objects(FIRST)[2])
    other = write_lv_vis(tmp_path / "other")
    other.change(lambda meta: [item.update(category_id=8) for item in meta["annotations"]])
    clip = LvVis(other.root)[0]
    assert [item.text for item in clip.expressions] == ["giant panda"]
    np.testing.assert_array_equal(clip.target(clip.expressions[0]), objects(FIRST)[1] | objects(FIRST)[2])


def test_missing_folders_of_frames_and_doubled_frames(tmp_path):
    tiny = write_youtube_vos(tmp_path / "set")
    folder = tiny.frames[FIRST]
    (folder / f"{FRAMES[0]}.png").write_bytes((folder / f"{FRAMES[0]}.jpg").read_bytes())
    with pytest.raises(DatasetError, match="a frame has several files"):
        YoutubeVos(tiny.root)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(DatasetError, match=f"expected a folder {folder}, found none"):
        YoutubeVos(tiny.root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda meta: meta["annotations"][0].update(video_id=9),
            "annotation 1 is of video 9, which is not in",
        ),
        (lambda meta: meta["annotations"][0].update(category_id=9), "annotation 1 is of category 9"),
        (lambda meta: meta["annotations"][0].pop("video_id"), "annotation 1: expected a field 'video_id'"),
        (lambda meta: meta["annotations"][0].update(id=[]), "a whole number"),
        (lambda meta: meta["videos"][0].update(file_names=[]), "video 100 has no frames"),
        (lambda meta: meta["videos"][0].update(file_names=["a/0.jpg", "b/1.jpg"]), "in one folder"),
        (lambda meta: meta["videos"][0].update(height=None), "expected height and width"),
        (lambda meta: meta["videos"].append({**meta["videos"][0], "id": 5}), "there are two videos"),
    ],
)
def test_broken_records_of_lv_vis_are_named(tmp_path, change, message):
    tiny = write_lv_vis(tmp_path / "set")
    tiny.change(change)
    with pytest.raises(DatasetError, match=message) as caught:
        LvVis(tiny.root)
    assert str(tiny.meta) in str(caught.value)
    reader = LvVis(tiny.root, lenient=True)
    assert reader.skipped
    assert VIDEOS[1] in [clip.name for clip in reader]


def test_lv_vis_where_the_frames_lie_by_split(tmp_path):
    tiny = write_lv_vis(tmp_path / "set")
    (tiny.root / "JPEGImages").mkdir()
    (tiny.root / "train" / "JPEGImages").rename(tiny.root / "JPEGImages" / "train")
    (tiny.root / "Annotations").mkdir()
    tiny.meta.rename(tiny.root / "Annotations" / tiny.meta.name)
    clip = LvVis(tiny.root)[0]
    assert clip.frames[0].shape == (*SIZE, 3)
    assert clip.masks[:].any()


def test_frames_in_the_file_s_order_with_their_masks(tmp_path):
    tiny = write_lv_vis(tmp_path / "set")

    def turn_round(meta):
        meta["videos"][0]["file_names"].reverse()
        for item in meta["annotations"][:2]:
            item["segmentations"].reverse()

    tiny.change(turn_round)
    clip = LvVis(tiny.root)[0]
    assert clip.frame_names == FRAMES[::-1]
    np.testing.assert_array_equal(clip.target(clip.expressions[0]), objects(FIRST)[1][::-1])


def test_one_label_picture_serves_all_its_objects(tmp_path, monkeypatch):
    from dataset import label_layout

    tiny = write_youtube_vos(tmp_path / "set")
    read, seen = label_layout.read_label_map, []
    monkeypatch.setattr(
        label_layout, "read_label_map", lambda path, size: seen.append(path) or read(path, size)
    )
    YoutubeVos(tiny.root)[0].masks[:]
    assert len(seen) == len(set(seen)) == len(FRAMES)


def test_frames_of_another_size_are_named(tmp_path):
    tiny = write_mevis(tmp_path / "set")
    reader = Mevis(tiny.root)
    other = write_frames(tmp_path / "other", size=(4, 6)) / f"{FRAMES[1]}.jpg"
    path = reader[0].folder / f"{FRAMES[1]}.jpg"
    path.write_bytes(other.read_bytes())
    with pytest.raises(DatasetError, match="expected 16x12 pixels like the clip, got 6x4") as caught:
        reader[0].frames[:]
    assert str(path) in str(caught.value)
