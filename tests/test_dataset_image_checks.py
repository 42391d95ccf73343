"""`python -m dataset check` and `show` over the image and talk data sets, whole and broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dataset import registry
from dataset.__main__ import main
from tests import tiny_image_sets as tiny
from tests.synthetic_clips import write_clip


def write_grefcoco(root: Path) -> None:
    records = [
        {"image_id": 1, "ann_id": [11, 12], "split": "train", "sentences": tiny.sentences(0, "both cups")},
        {"image_id": 1, "ann_id": [-1], "split": "train", "sentences": tiny.sentences(1, "the dodo")},
    ]
    tiny.write_refer(root, "grefcoco", "grefs(unc).json", records)


def write_refclef(root: Path) -> None:
    tiny.write_refer(root, "refclef")
    (root / "images/mscoco/images/train2014").rename(root / "images/saiapr_tc-12")


def write_videos(root: Path) -> None:
    folder = root / "Fine-tuning" / "VIDEO"
    (folder / "Activity_Videos").mkdir(parents=True)
    write_clip(folder / "Activity_Videos" / "v_1.mp4", num_frames=3)
    tiny.write_json(folder / "video_chat.json", [tiny.talk("v_1.mp4", ("<video>\nWhy?", "So."), key="video")])


# How each is written, and a picture, video or label map that can be broken.
SETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "refcoco": (tiny.write_refer, "images/mscoco/images/train2014/COCO_train2014_000000000001.jpg"),
    "refcoco+": (lambda root: tiny.write_refer(root, "refcoco+"), "images/**/*1.jpg"),
    "refcocog": (lambda root: tiny.write_refer(root, "refcocog", "refs(umd).p"), "images/**/*1.jpg"),
    "refclef": (write_refclef, "images/saiapr_tc-12/*1.jpg"),
    "grefcoco": (write_grefcoco, "images/**/*1.jpg"),
    "reason_seg": (tiny.write_reason_seg, "train/a.jpg"),
    "ade20k": (tiny.write_ade20k, "ade20k/annotations/training/ADE_1.png"),
    "cocostuff": (tiny.write_cocostuff, "coco/train2017/*.jpg"),
    "mapillary": (tiny.write_mapillary, "mapillary/training/v2.0/labels/street.png"),
    "paco_lvis": (tiny.write_paco, "coco/train2017/1.jpg"),
    "pascal_part": (tiny.write_pascal_part, "vlpart/**/1.jpg"),
    "llava_instruct": (tiny.write_llava, "coco/train2017/*.jpg"),
    "chat_univi_mimic": (tiny.write_chat_univi, "Fine-tuning/**/CGD_IMG_2.png"),
    "chat_univi_sqa": (tiny.write_chat_univi, "ScienceQA_tuning/train/7/image.png"),
    "chat_univi_video": (write_videos, "Fine-tuning/VIDEO/Activity_Videos/v_1.mp4"),
}


def test_every_registered_set_is_here() -> None:
    assert set(SETS) == set(registry.IMAGES)


@pytest.mark.parametrize("name", SETS)
def test_whole(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    SETS[name][0](root)
    for more in ([], ["--decode"]):
        assert main(["check", name, str(root), "--split", "train", *more]) == 0, capsys.readouterr().out
    picture = tmp_path / "sheet.png"
    assert main(["show", name, str(root), "--split", "train", "--output", str(picture)]) == 0
    with Image.open(picture) as sheet:
        assert min(sheet.size) > 20


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("gone", [True, False])
def test_broken(name: str, gone: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, pattern = SETS[name]
    write(tmp_path)
    (path,) = tmp_path.glob(pattern)
    if gone and path.suffix != ".png":  # a data set of label maps lists its images by them
        path.unlink()
    else:
        path.write_bytes(b"broken")
    assert main(["check", name, str(tmp_path), "--split", "train", "--all"]) == 1
    assert path.stem in capsys.readouterr().out
