"""What cannot be read as a clip is refused with one clear line."""

from __future__ import annotations

import os
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.synthetic_clips import write_clip
from visa import video_decoding
from visa.errors import InputError
from visa.video import Video


def _save(folder: Path, name: str, picture: Image.Image) -> None:
    folder.mkdir(exist_ok=True)
    picture.save(folder / name)


def _refusal(path: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        Video.open(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_such_file(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "nothing.mp4") == f"no such video: {tmp_path / 'nothing.mp4'}"
    assert "no such video" in _refusal("two\nlines.mp4")
    assert "cannot read" in _refusal("x" * 5000)
    assert "cannot read" in _refusal("nul\0byte.mp4")


def test_a_text_file_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("this is not a video\n" * 100)
    assert "is not a video that can be read" in _refusal(path)


@pytest.mark.parametrize("name", ["notes.txt", "letter.ans", "list.m3u8", "graph.ffconcat"])
def test_text_under_other_names_is_not_a_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("hello\n" * 200)
    _refusal(path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "is an empty file" in _refusal(tmp_path / "empty.mp4")


def test_a_video_cut_before_its_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is not a video that can be read" in _refusal(path)


def test_zero_frames(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        container.start_encoding()
    assert "clip.avi" in _refusal(tmp_path / "clip.avi")
    path = write_clip(tmp_path / "clip.mkv", 20)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    assert "clip.mkv" in _refusal(path)


def test_sound_without_pictures(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(3200))
    assert "has no pictures" in _refusal(tmp_path / "sound.wav")


def test_folders_without_frames(tmp_path: Path) -> None:
    assert "holds no frames" in _refusal(tmp_path)
    (tmp_path / "clip.mp4").write_text("a video is not a frame")
    assert "holds no frames" in _refusal(tmp_path)


def test_frames_of_different_size_are_both_named(tmp_path: Path) -> None:
    _save(tmp_path, "0.png", Image.new("RGB", (4, 3)))
    _save(tmp_path, "1.png", Image.new("RGB", (5, 3)))
    message = _refusal(tmp_path)
    assert "0.png is 4x3" in message
    assert "1.png is 5x3" in message


def test_frames_of_one_name_are_refused(tmp_path: Path) -> None:
    _save(tmp_path, "0.png", Image.new("RGB", (4, 3)))
    _save(tmp_path, "0.jpg", Image.new("RGB", (4, 3)))
    assert "share a name" in _refusal(tmp_path)


def test_an_image_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_text("no image")
    assert "it is not an image" in _refusal(tmp_path)


def test_an_image_that_breaks_off_is_refused_when_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    _save(tmp_path, "0.jpg", Image.fromarray(noise))
    path = tmp_path / "0.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot read the image"):
        Video.open(tmp_path)[0]


def test_neither_file_nor_folder(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "neither a file nor a folder" in _refusal(tmp_path / "pipe.mp4")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", 2)
    _save(tmp_path / "frames", "0.png", Image.new("RGB", (4, 3)))

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert _refusal(path) == f"no permission to read {path}"
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "Permission denied" in _refusal(tmp_path / "frames")


def test_a_file_that_changes_after_opening_is_no_crash(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", 20, codec="mpeg4")
    video = Video.open(path)
    path.write_bytes(path.read_bytes()[:6000])
    assert video[19].shape == (64, 96, 3)
    assert any(warning.startswith("damaged") for warning in video.warnings)
    path.unlink()
    with pytest.raises(InputError, match="clip.avi"):
        video[0]


def test_a_missing_pyav_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", 2)
    monkeypatch.delitem(sys.modules, video_decoding.__name__)
    monkeypatch.setitem(sys.modules, "av", None)
    assert "needs PyAV" in _refusal(path)
