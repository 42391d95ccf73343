"""Clips: exact frames in any container and order, bounded memory, one clear line for bad input."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic_clips import number_of, numbered_frame, write_clip
from visa.errors import InputError
from visa.frame_sources import VideoFile
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


def test_pyav_reads_clips_that_decord_would_hold_whole(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """decord decodes ahead without a bound."""
    size = 3 * 64 * 96 * len(Video.open(clips["h264.mp4"]))
    monkeypatch.setattr("visa.frame_sources.DECORD_CLIP_BYTES", size - 1)
    assert VideoFile(clips["h264.mp4"]).backend == "pyav"
    monkeypatch.setattr("visa.frame_sources.DECORD_CLIP_BYTES", size)
    assert VideoFile(clips["h264.mp4"]).backend == "decord"


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


# What a phone writes into the file's header for a quarter turn clockwise, half a turn and three quarters.
TURNS = {
    1: (0, 0x10000, 0, -0x10000, 0, 0, 96 << 16, 0, 0x40000000),
    2: (-0x10000, 0, 0, 0, -0x10000, 0, 96 << 16, 64 << 16, 0x40000000),
    3: (0, -0x10000, 0, 0x10000, 0, 0, 0, 96 << 16, 0x40000000),
}


@pytest.mark.parametrize("quarters", TURNS)
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_turned_phone_video_stands_upright(
    tmp_path: Path, quarters: int, suffix: str, library: str
) -> None:
    path = write_clip(tmp_path / f"clip.{suffix}", 3)
    content = path.read_bytes()
    upright = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    at = content.index(upright, content.index(b"tkhd"))
    turned = struct.pack(">9i", *TURNS[quarters])
    path.write_bytes(content[:at] + turned + content[at + len(upright) :])
    video = Video.open(path)
    assert (video.height, video.width) == ((64, 96) if quarters == 2 else (96, 64))
    assert number_of(np.rot90(video[2], quarters)) == 2  # turned back, counter-clockwise


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
