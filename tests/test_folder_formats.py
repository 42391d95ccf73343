"""Kinds of video that people have beyond those of test_video.py: webm, gif, uneven frame times, odd sizes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.synthetic_clips import number_of, numbered_frame, write_clip
from visa.batch_run.folder import _estimate_num_frames
from visa.overlay import write_video
from visa.video import Video
from visa.video_signatures import looks_like_video

NUM_FRAMES = 25
KINDS = {
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "h264.mov": {},
    "h264.m4v": {},
    "sorenson.flv": {"codec": "flv"},
    "mpeg2.mpg": {"codec": "mpeg2video"},
}


@pytest.mark.parametrize("name", KINDS)
def test_containers(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, NUM_FRAMES, **KINDS[name])
    video = Video.open(path)
    assert (len(video), video.warnings) == (NUM_FRAMES, [])
    for index in (*range(NUM_FRAMES), 20, 3, 24, 0):
        assert number_of(video[index]) == index
    assert looks_like_video(path)
    assert NUM_FRAMES / 2 <= _estimate_num_frames(path) <= NUM_FRAMES * 2


def test_a_gif(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    pictures = [Image.fromarray(numbered_frame(number)) for number in range(12)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, loop=0)
    video = Video.open(path)
    assert [number_of(frame) for frame in video] == list(range(12))
    assert number_of(video[5]) == 5
    assert abs(video.fps - 10) < 0.5
    assert looks_like_video(path)


@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg4", "libx264", "gif"])
def test_odd_sizes_keep_every_pixel(tmp_path: Path, codec: str) -> None:
    suffix = {"libvpx-vp9": "webm", "mpeg4": "avi", "libx264": "mp4", "gif": "gif"}[codec]
    pixels = {"mpeg4": "yuv420p", "gif": "rgb8"}.get(codec, "yuv444p")
    path = write_clip(tmp_path / f"clip.{suffix}", 3, height=65, width=97, codec=codec, pixel_format=pixels)
    video = Video.open(path)
    assert video.frames(range(3)).shape == (3, 65, 97, 3)
    # Players want even sides: the overlay may lose a line of pixels, and no more.
    write_video(tmp_path / "overlay.mp4", iter(video), video.fps)
    overlay = Video.open(tmp_path / "overlay.mp4")
    assert abs(overlay.height - 65) <= 1
    assert abs(overlay.width - 97) <= 1


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_frames_at_uneven_times_are_each_their_own(tmp_path: Path, name: str) -> None:
    # as phones and screen recordings have them: 0, 40, 50, 500 ms, ...
    times = np.cumsum([0, *np.random.default_rng(0).choice([10, 40, 33, 450], 29)])
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 8
        for number, moment in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = int(moment), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = Video.open(tmp_path / name)
    assert [number_of(frame) for frame in video] == list(range(30))
    assert [number_of(video[index]) for index in (29, 7, 8, 0, 15)] == [29, 7, 8, 0, 15]
    # the overlay has one rate: then at least the whole lasts as long
    assert abs(len(video) / video.fps - times[-1] / 1000) < 0.6
    write_video(tmp_path / "overlay.mp4", iter(video), video.fps)
    assert len(Video.open(tmp_path / "overlay.mp4")) == 30


def test_a_film_under_a_pictures_name_is_a_film(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 5).rename(tmp_path / "clip.jpg")
    assert len(Video.open(path)) == 5


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "avif"])
def test_pictures_are_no_films(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"0.{kind}"
    try:
        Image.new("RGB", (16, 16)).save(path)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"Pillow writes no {kind} here")
    assert not looks_like_video(path)


def test_what_cannot_be_read_is_no_film(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert not looks_like_video(tmp_path / "empty")
    assert not looks_like_video(tmp_path / "nowhere")
    assert not looks_like_video(tmp_path)


def test_the_same_frames_give_the_same_overlay(tmp_path: Path) -> None:
    # a resumed run must end with the files of an uninterrupted one
    first = [np.full((64, 96, 3), number, np.uint8) for number in range(6)]
    other = list(np.random.default_rng(0).integers(0, 256, (6, 64, 96, 3), np.uint8))
    files = set()
    for _ in range(10):
        write_video(tmp_path / "other.mp4", other, 25.0)
        files.add(write_video(tmp_path / "a.mp4", first, 25.0).read_bytes())
    assert len(files) == 1
