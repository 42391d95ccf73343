"""Folders of frames and single images as clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.synthetic_clips import number_of, numbered_frame
from visa.frame_sources import natural_key
from visa.video import Video


def _save(folder: Path, name: str, picture: Image.Image) -> None:
    folder.mkdir(exist_ok=True)
    picture.save(folder / name)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    for number in (10, 2, 1):
        _save(folder, f"frame{number}.png", Image.fromarray(numbered_frame(number)))
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._frame1.png").write_bytes(b"not a frame either")
    video = Video.open(folder)
    assert video.name == "walk"
    assert video.frame_names == ("frame1", "frame2", "frame10")
    assert [number_of(frame) for frame in video] == [1, 2, 10]


@given(st.lists(st.text("ab0123456789²٣._-", max_size=8)))
def test_natural_order_is_defined_for_all_names(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    assert [natural_key(name) for name in ordered] == sorted(natural_key(name) for name in names)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 200, (200, 200, 200)),
        ("RGBA", (10, 20, 30, 128), (10, 20, 30)),
        ("LA", (90, 3), (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 200 * 257, (200, 200, 200)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str, colour, expected: tuple[int, ...]) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    _save(tmp_path / "frames", f"0.{suffix}", Image.new(mode, (5, 3), colour))
    frame = Video.open(tmp_path / "frames")[0]
    assert frame.shape == (3, 5, 3)
    assert np.abs(frame.astype(int) - expected).max() <= 1


def test_palette_images_become_rgb(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4), (200, 10, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    _save(tmp_path / "frames", "0.png", picture)
    picture.info["transparency"] = 0
    picture.save(tmp_path / "frames" / "1.png", transparency=0)
    for frame in Video.open(tmp_path / "frames"):
        assert frame[0, 0].tolist() == [200, 10, 30]


def test_a_turned_photograph_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (8, 4)).save(tmp_path / "frames" / "0.jpg", exif=exif)
    video = Video.open(tmp_path / "frames")
    assert (video.height, video.width) == (8, 4) == video[0].shape[:2]


def test_one_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    _save(tmp_path, "single.webp", Image.new("RGB", (9, 17), (255, 0, 0)))
    video = Video.open(tmp_path / "single.webp")
    assert (len(video), video.name, video.height, video.width) == (1, "single", 17, 9)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_frames_of_any_size(tmp_path_factory: pytest.TempPathFactory, height: int, width: int) -> None:
    folder = tmp_path_factory.mktemp("frames")
    pixels = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "0.bmp")
    assert np.array_equal(Video.open(folder)[0], pixels)
