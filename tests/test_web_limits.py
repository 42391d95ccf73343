"""What the page lets in: known kinds, of a bounded size and length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.synthetic_clips import write_clip
from visa.errors import InputError
from visa.video import Video
from visa.web.limits import Limits


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "libx264"),
        (".mov", "libx264"),
        (".mkv", "libx264"),
        (".webm", "libvpx-vp9"),
        (".avi", "mpeg4"),
        (".gif", "gif"),
    ],
)
def test_every_kind_of_clip_gets_in(tmp_path: Path, suffix: str, codec: str) -> None:
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    clip = write_clip(tmp_path / f"clip{suffix}", 3, codec=codec, pixel_format=pixels)
    Limits().check_file(clip, clip.name)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_pictures_get_in(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"one{suffix}"
    Image.new("RGB", (8, 8)).save(path)
    Limits().check_file(path, path.name)


@pytest.mark.parametrize(
    "content",
    [
        b"just words",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile"></MPD>',
        b"RIFF\x10\x00\x00\x00WAVEfmt ",
        b"PK\x03\x04 a zip",
        b"\x00",
    ],
)
def test_other_content_stays_out_whatever_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^my\.mp4 is not a clip that this page reads: give one mp4"):
        Limits().check_file(path, "my.mp4")


def test_empty_and_large_files(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.touch()
    with pytest.raises(InputError, match="is an empty file"):
        Limits().check_file(path, "clip.mp4")
    with path.open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(InputError, match="has 1 MB; this page takes at most 1$"):
        Limits(megabytes=1).check_file(path, "clip.mp4")


def test_length() -> None:
    video = Video.from_frames(np.zeros((30, 10, 20, 3), np.uint8), fps=10.0)
    Limits(frames=30, seconds=3.0, megapixels=1).check_length(video, "clip")
    with pytest.raises(InputError, match=r"30 frames, 3\.0 s; this page takes at most 29 frames"):
        Limits(frames=29).check_length(video, "clip")
    with pytest.raises(InputError, match=r"and 2\.9 s: cut it"):
        Limits(seconds=2.9).check_length(video, "clip")
    with pytest.raises(InputError, match="30 frames of 20×10, 0 megapixels in all.*shrink or cut it"):
        Limits(megapixels=0).check_length(video, "clip")
