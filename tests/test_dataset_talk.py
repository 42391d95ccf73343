"""LLaVA-Instruct and Chat-UniVi over tiny data sets in their official layouts, and over broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataset.errors import DatasetError
from dataset.pictures import VideoFile, read_frames
from dataset.registry import open_dataset
from tests import tiny_image_sets as tiny
from tests.synthetic_clips import write_clip


def test_every_turn_of_llava(tmp_path: Path) -> None:
    tiny.write_llava(tmp_path)
    data = open_dataset("llava_instruct", tmp_path)
    first, second = data
    assert data[-1].name == data[1:][0].name == data.video(second.name).name == second.name
    for name in ("000001-y", "000007-x", "x"):
        with pytest.raises(DatasetError, match="no record"):
            data.video(name)
    assert [(turn.question, turn.answer) for turn in first.turns] == [
        ("What is this?", "A bowl."),
        ("Is it full?", "Yes."),
    ]
    assert {turn.kind for turn in first.turns} == {"talk"}
    assert first.name != second.name  # several conversations are about one image
    assert first.frames.shape == (1, *tiny.SIZE, 3)
    assert first.frames[0].shape == (*tiny.SIZE, 3)
    assert first.masks.shape == (0, 1, *tiny.SIZE)
    assert not first.target(first.turns[0]).any()
    assert len(open_dataset("llava_instruct", tmp_path / "llava_dataset")[0].frames[:]) == 1


def test_last_turn_of_several_pictures(tmp_path: Path) -> None:
    tiny.write_chat_univi(tmp_path)
    pair, scene = open_dataset("chat_univi_mimic", tmp_path)
    assert [(turn.question, turn.answer) for turn in pair.turns] == [("And the sky?", "It is darker.")]
    assert [pair.frames.read(index).shape[:2] for index in range(len(pair.frames))] == [(4, 5), (7, 3)]
    with pytest.raises(ValueError, match="of several sizes"):
        pair.frames[:]
    assert scene.frames[:].shape == (1, *tiny.SIZE, 3)
    first, second, again = read_frames(pair.frames, [0, 1, 0])
    assert first is again
    assert second.shape == (7, 3, 3)


def test_science_questions_with_a_picture(tmp_path: Path) -> None:
    tiny.write_chat_univi(tmp_path)
    (clip,) = open_dataset("chat_univi_sqa", tmp_path)
    assert (clip.turns[0].question, clip.turns[0].answer) == ("Which force?", "The answer is B.")
    assert clip.frames[0].shape == (*tiny.SIZE, 3)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Chat-UniVi's folder with a video of 12 frames."""
    folder = tmp_path / "Fine-tuning" / "VIDEO"
    (folder / "Activity_Videos").mkdir(parents=True)
    write_clip(folder / "Activity_Videos" / "v_1.mp4", num_frames=12)
    record = tiny.talk("v_1.mp4", ("<video>\nWhat happens?", "It moves."), key="video")
    tiny.write_json(folder / "video_chat.json", [record])
    return tmp_path


def test_talk_about_a_video(videos: Path) -> None:
    (clip,) = open_dataset("chat_univi_video", videos)
    assert isinstance(clip.frames, VideoFile)
    assert clip.turns[0].question == "What happens?"
    whole = clip.frames[:]
    assert whole.shape == clip.frames.shape
    assert len(clip.frames) == len(clip.frame_names) == 12
    several = read_frames(clip.frames, [11, 3, 3])
    assert [np.array_equal(frame, whole[index]) for frame, index in zip(several, (11, 3, 3), strict=True)]
    assert not np.array_equal(whole[3], whole[11])
    opened = []

    def open_video(path: Path) -> np.ndarray:
        opened.append(path)
        return whole

    assert np.array_equal(read_frames(clip.frames, [5], open_video)[0], whole[5])
    assert opened == [clip.frames.file]


def test_broken_videos(videos: Path) -> None:
    path = videos / "Fine-tuning" / "VIDEO" / "Activity_Videos" / "v_1.mp4"
    path.write_bytes(b"not a video")
    (clip,) = open_dataset("chat_univi_video", videos)
    with pytest.raises(DatasetError, match=r"v_1\.mp4: not a video"):
        len(clip.frames)
    path.unlink()
    with pytest.raises(DatasetError, match="expected a video"):
        clip.frames.read(0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (tiny.talk("../x.jpg", ("a", "b")), "leads out of its folder"),
        (tiny.talk(None, ("a", "b")), "expected a field 'image'"),
        (tiny.talk("x.jpg"), "expected questions and answers"),
        (tiny.talk("x.jpg", ("<image>", "b")), "expected questions and answers"),
        (
            {"image": "x.jpg", "conversations": [{"from": "gpt", "value": "b"}]},
            "an answer without a question",
        ),
        ({"image": "x.jpg"}, "expected a field 'conversations'"),
    ],
)
def test_broken_conversations(tmp_path: Path, record: dict, message: str) -> None:
    tiny.write_llava(tmp_path)
    path = tmp_path / "llava_dataset" / "llava_instruct_150k.json"
    tiny.write_json(path, [tiny.talk("000000000009.jpg", ("a", "b")), record])
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset("llava_instruct", tmp_path)
    assert f"{path}: record 1" in str(caught.value)
    assert len(open_dataset("llava_instruct", tmp_path, lenient=True)) == 1


def test_unknown_part_of_mimic(tmp_path: Path) -> None:
    tiny.write_chat_univi(tmp_path)
    path = tmp_path / "Fine-tuning" / "MIMIC_imageonly" / "MIMIC-IT-imageonly.json"
    for image in ("x.png", []):
        tiny.write_json(path, [tiny.talk(image, ("a", "b"))])
        with pytest.raises(DatasetError, match="expected an image of CGD, LA, SD"):
            open_dataset("chat_univi_mimic", tmp_path)
