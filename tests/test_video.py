"""Clips: exact frames in any container and order, bounded memory, one clear line for bad input."""

from __future__ import annotations

import os
import struct
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.synthetic_clips import number_of, numbered_frame, write_clip
from visa import video_decoding
from visa.errors import InputError
from visa.frame_sources import ImageFrames, VideoFile, natural_key
from visa.video import Video

NUM_FRAMES = 40
OPEN_GROUPS = {"x264-params": "open-gop=1:bframes=4:keyint=10"}
CONTAINERS = {
    "h264.mp4": {"movflags": "faststart"},
    "open_groups.mp4": {"options": OPEN_GROUPS},
    "one_group.mp4": {"group": 250},
    "mpeg4.mov": {"codec": "mpeg4"},
    "h264.mkv": {},
    "mpeg4.avi": {"codec": "mpeg4"},
    "reordered.avi": {},
    "transport.ts": {},
    "bare.h264": {},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: write_clip(folder / name, NUM_FRAMES, **how) for name, how in CONTAINERS.items()}


@pytest.fixture(params=["decord", "pyav"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pyav":
        monkeypatch.setitem(sys.modules, "decord", None)
    else:
        pytest.importorskip("decord")
    return request.param


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_frame_is_the_one_asked_for(clips: dict[str, Path], name: str, library: str) -> None:
    order = np.random.default_rng(0).permutation(NUM_FRAMES)
    for indices in (range(NUM_FRAMES), range(NUM_FRAMES - 1, -1, -1), order, (NUM_FRAMES - 1, 0, 20, 21, 5)):
        # A cache of a few frames only, so that nearly every frame is decoded.
        video = Video.open(clips[name], cache_bytes=4 * 64 * 96 * 3)
        assert len(video) == video.num_frames == NUM_FRAMES
        assert [number_of(video[index]) for index in indices] == list(indices)


def test_a_clip_knows_its_size_rate_and_names(clips: dict[str, Path], library: str) -> None:
    video = Video.open(clips["h264.mp4"])
    assert (video.height, video.width, video.fps, video.name) == (64, 96, 25.0, "h264")
    assert video.frame_names[:2] == ("00000", "00001")
    assert video.warnings == []
    assert video[0].dtype == np.uint8
    assert video[0].shape == (64, 96, 3)


def test_decord_reads_sound_files_and_pyav_those_decord_gets_wrong(clips: dict[str, Path]) -> None:
    pytest.importorskip("decord")
    backends = {name: VideoFile(path).backend for name, path in clips.items()}
    assert backends["h264.mp4"] == backends["h264.mkv"] == "decord"
    assert backends["transport.ts"] == backends["reordered.avi"] == "pyav"


def test_pyav_takes_over_when_decord_fails(clips: dict[str, Path]) -> None:
    decord = pytest.importorskip("decord")

    class Broken:
        def get_batch(self, indices: list[int]) -> None:
            raise decord.DECORDError("broken")

    source = VideoFile(clips["h264.mp4"])
    source._decord = Broken()
    assert number_of(source.read(range(7, 8))[0]) == 7
    assert source.backend == "pyav"


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4")])
def test_a_truncated_video_gives_what_decodes_and_says_so(tmp_path: Path, suffix: str, codec: str) -> None:
    whole = write_clip(
        tmp_path / f"whole.{suffix}", 50, height=240, width=320, codec=codec, movflags="faststart"
    )
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    video = Video.open(cut)
    assert 0 < len(video) < 50
    assert [number_of(frame) for frame in video.frames(range(len(video)))] == list(range(len(video)))
    (warning,) = video.warnings
    assert warning.startswith(f"truncated: {len(video)} ")
    if suffix != "mkv":
        assert warning == f"truncated: {len(video)} of 50 frames decoded"


def test_decord_is_not_used_where_its_last_frame_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = write_clip(tmp_path / "clip.mp4", 50, options=OPEN_GROUPS)
    assert VideoFile(path).backend == "pyav"
    assert number_of(Video.open(path)[49]) == 49


def test_damage_in_the_middle_never_shifts_the_frames(tmp_path: Path, library: str) -> None:
    path = write_clip(tmp_path / "clip.mp4", 40, height=240, width=320, movflags="faststart")
    content = bytearray(path.read_bytes())
    content[3800:4000] = bytes(200)
    path.write_bytes(content)
    video = Video.open(path)
    assert len(video) == 40
    numbers = [number_of(frame) for frame in video]
    wrong = [index for index, number in enumerate(numbers) if number != index]
    assert wrong
    assert wrong[-1] - wrong[0] < 24  # two groups of pictures at most; behind them all is well again
    (warning,) = video.warnings
    assert warning.startswith("damaged: frame ")


def test_a_turned_phone_video_stands_upright(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 3)
    content = path.read_bytes()
    upright = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    clockwise = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 96 << 16, 0, 0x40000000)
    header = content.index(b"tkhd")
    at = content.index(upright, header)
    path.write_bytes(content[:at] + clockwise + content[at + len(upright) :])
    video = Video.open(path)
    assert (video.height, video.width) == (96, 64)
    assert number_of(np.rot90(video[2])) == 2  # turned back, counter-clockwise


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 9), (9, 17)])
def test_odd_and_tiny_videos(tmp_path: Path, height: int, width: int) -> None:
    path = write_clip(
        tmp_path / "clip.mkv", 3, height=height, width=width, codec="ffv1", pixel_format="yuv444p"
    )
    video = Video.open(path)
    assert video.frames([0, 2, 1]).shape == (3, height, width, 3)


def test_4k_frames_stay_within_the_bound() -> None:
    frames = np.zeros((2, 2160, 3840, 3), np.uint8)
    frames[1] = 7
    video = Video.from_frames(frames)
    video._cache_frames = 1
    assert video[1].shape == (2160, 3840, 3)
    assert video[0].max() == 0
    assert len(video._cache) == 1


def test_the_cache_is_bounded_and_walking_back_reads_runs(tmp_path: Path) -> None:
    class Counting:
        fps, height, width, warnings = 24.0, 2, 2, ()
        frame_names = tuple(map(str, range(200)))
        num_read = 0

        def read(self, indices: range) -> list[np.ndarray]:
            self.num_read += 1
            return [np.full((2, 2, 3), index, np.uint8) for index in indices]

    source = Counting()
    video = Video(source, "counting", cache_bytes=64 * 2 * 2 * 3)
    assert [frame[0, 0, 0] for frame in (video[index] for index in range(200))] == list(range(200))
    assert len(video._cache) == 64
    assert source.num_read == 200
    assert [video[index][0, 0, 0] for index in range(199, -1, -1)] == list(range(199, -1, -1))
    assert len(video._cache) <= 64
    assert source.num_read <= 200 + 200 // 32 + 1


def test_returned_frames_are_the_callers_own() -> None:
    video = Video.from_frames(np.zeros((2, 3, 4, 3), np.uint8))
    video[0][:] = 255
    video.frames([0, 1])[:] = 255
    assert video[0].max() == 0


def test_indices_count_from_the_end_and_stop_at_it() -> None:
    video = Video.from_frames(np.stack([numbered_frame(number) for number in range(5)]), fps=10, name="five")
    assert number_of(video[-1]) == 4
    assert [number_of(frame) for frame in video] == [0, 1, 2, 3, 4]
    for outside in (5, -6):
        with pytest.raises(IndexError, match="5 frames"):
            video[outside]
    assert video.frames([]).shape == (0, 64, 96, 3)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3)])
def test_arrays_without_pixels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least one frame"):
        Video.from_frames(np.zeros(shape, np.uint8))


def test_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        Video.from_frames(np.zeros((2, 4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="frames per second"):
        Video.from_frames(np.zeros((2, 4, 4, 3), np.uint8), fps=0)


# --- folders of frames ---


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


# --- bad input: one line each ---


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


def test_sources_count_frames_by_names(tmp_path: Path) -> None:
    _save(tmp_path, "a.png", Image.new("RGB", (4, 3)))
    assert ImageFrames(tmp_path).frame_names == ("a",)
