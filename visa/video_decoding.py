"""Video files through PyAV: an index of the frames that really decode, and exact reading by frame number.

Opening costs one pass over the packets, without decoding, and the decoding of the last group of pictures. A
file that shows any damage, or whose container does not tell presentation times, is decoded once from end to
end instead, so that the number of frames is always the number that can be read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

import av
import numpy as np

from dataset.counting import count_of
from visa.errors import InputError

# Containers that store a presentation time for every packet. In the others (AVI, MPEG, raw streams, GIF) they
# are counted from the start.
TIMED_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm"})
# Demuxers that turn text into pictures; a text file is not a video.
TEXT_DEMUXERS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
DEFAULT_FPS = 24.0


@dataclass(frozen=True)
class VideoIndex:
    """What is known of a video file.

    Attributes:
        num_frames: frames that decode.
        height: pixels, after rotation.
        width: pixels, after rotation.
        fps: frames per second.
        rotation: degrees, counter-clockwise, that turn a decoded frame upright: 0, 90, 180 or 270.
        pts: presentation time of every frame in display order, in the stream's units; () if frames must be
            counted.
        keyframe_pts: ascending presentation times of the frames from which decoding can start.
        times: `pts` in seconds; () if frames must be counted.
        leading_pictures: some frames are shown before the key frame that precedes them in the file.
        warnings: what is wrong with the file, one line each.
    """

    num_frames: int
    height: int
    width: int
    fps: float
    rotation: int
    pts: tuple[int, ...]
    keyframe_pts: tuple[int, ...]
    times: tuple[float, ...]
    leading_pictures: bool
    warnings: tuple[str, ...]

    @property
    def exact_seek(self) -> bool:
        """Whether a frame can be found by its presentation time."""
        return bool(self.pts)


class PyAVReader:
    """Reads frames of one file by number, exactly.

    Invariant: `_decoded` yields the frames after number `_position` in display order. A read further on
    decodes forwards, unless a key frame lies closer; a read further back starts at a key frame or the first.

    Args:
        path: the file.
        index: what `index_video` said of it.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self.warnings = list(index.warnings)
        self._path = path
        self._index = index
        self._number_of = {pts: number for number, pts in enumerate(index.pts)}
        self._container = None
        self._decoded: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._last: av.VideoFrame | None = None
        self._position = index.num_frames

    def read(self, indices: range) -> list[np.ndarray]:
        """The frames of an ascending range without gaps, uint8 [H, W, 3] RGB each.

        A frame that does not decode, in a file damaged in its middle, is stood in for by the one before it;
        that is added to the warnings.

        Raises:
            InputError: nothing decodes there, though it did when the file was opened.
        """
        start = self._start_before(indices.start)
        if indices.start <= self._position or start > self._position + 1:
            self._seek(start)
        frames: list[np.ndarray] = []
        wanted = indices.start
        for number, frame in self._decoded:
            self._position = number
            while wanted < min(number, indices.stop):
                frames.append(self._stand_in(self._last or frame, wanted))
                wanted += 1
            if number == wanted:
                frames.append(_upright(frame, self._index))
                wanted += 1
            self._last = frame
            if wanted >= indices.stop:
                return frames
        if self._last is None:
            raise InputError(f"cannot decode frames {indices.start} to {indices.stop - 1} of {self._path}")
        return frames + [self._stand_in(self._last, missing) for missing in range(wanted, indices.stop)]

    def _stand_in(self, frame: av.VideoFrame, number: int) -> np.ndarray:
        if not any(warning.startswith("damaged") for warning in self.warnings):
            self.warnings.append(f"damaged: frame {number} does not decode, its neighbour stands in for it")
        return _upright(frame, self._index)

    def _start_before(self, number: int) -> int:
        """Number of the last frame, not after `number`, at which decoding can start."""
        if not self._index.exact_seek:
            return 0
        place = bisect_right(self._index.keyframe_pts, self._index.pts[number])
        return self._number_of[self._index.keyframe_pts[place - 1]] if place else 0

    def _seek(self, start: int) -> None:
        numbered = self._reopen()
        if start > 0:
            self._container.seek(self._index.pts[start], stream=_video_stream(self._container, self._path))
            first = next(numbered, None)
            if first is not None and first[0] <= start:
                numbered = chain([first], numbered)
            else:  # the demuxer cannot reach this key frame; from the first frame everything can be reached
                numbered, start = self._reopen(), 0
        # After a seek, pictures shown before the key frame may lack the ones they were predicted from.
        self._decoded = ((number, frame) for number, frame in numbered if number >= start)
        self._position = start - 1

    def _reopen(self) -> Iterator[tuple[int, av.VideoFrame]]:
        self.close()
        self._container = _open(self._path)
        return self._numbered(_video_stream(self._container, self._path))

    def _numbered(self, stream) -> Iterator[tuple[int, av.VideoFrame]]:
        frames = _decode(self._container, stream)
        if not self._index.exact_seek:
            yield from enumerate(frames)
            return
        for frame in frames:
            number = self._number_of.get(frame.pts)
            if number is not None:
                yield number, frame

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self._decoded = iter(())
        self._last = None
        self._position = self._index.num_frames
        if self._container is not None:
            self._container.close()
            self._container = None


def index_video(path: Path) -> VideoIndex:
    """Find out how many frames of a file decode, when each is shown and where decoding can start.

    Args:
        path: a file that can be read.

    Raises:
        InputError: the file is not a video, has no picture stream or no frame that decodes.
    """
    with _open(path) as container:
        stream = _video_stream(container, path)
        packets = _packet_times(container, stream)
        declared = stream.frames
        least_by_duration = 0 if declared else _least_frames_by_duration(container, stream)
        fps = _plausible_fps(stream.average_rate or stream.guessed_rate)
        time_base = float(stream.time_base or 0)
        timed = bool(TIMED_CONTAINERS & set(container.format.name.split(",")))

    with _open(path) as container:
        stream = _video_stream(container, path)
        first = next(_decode(container, stream), None)
    if first is None:
        raise InputError(f"{path} holds no frame that can be decoded")
    rotation = round(first.rotation / 90) % 4 * 90
    height, width = (first.width, first.height) if rotation in (90, 270) else (first.height, first.width)

    pts = sorted(packets.pts)
    keyframe_pts = sorted(packets.keyframe_pts)
    whole = timed and packets.sound and bool(keyframe_pts) and _tail_decodes(path, pts, keyframe_pts[-1])
    if whole:
        num_frames = len(pts)
    else:
        with _open(path) as container:
            decoded = [frame.pts for frame in _decode(container, _video_stream(container, path))]
        num_frames = len(decoded)
        can_seek = timed and None not in decoded and all(a < b for a, b in pairwise(decoded))
        pts = decoded if can_seek else []
        keyframe_pts = sorted(set(keyframe_pts) & set(pts))
    warnings = ()
    num_expected = declared - packets.num_hidden
    if num_frames < num_expected:
        warnings = (f"truncated: {num_frames} of {num_expected} frames decoded",)
    elif num_frames < least_by_duration:
        warnings = (f"truncated: {count_of(num_frames, 'frame')} decoded of more than {least_by_duration}",)
    elif packets.broken:
        warnings = (f"damaged: {count_of(num_frames, 'frame')} decoded, the rest of the file cannot be read",)
    return VideoIndex(
        num_frames=num_frames,
        height=height,
        width=width,
        fps=_kept_fps(fps, [value * time_base for value in pts]),
        rotation=rotation,
        pts=tuple(pts),
        keyframe_pts=tuple(keyframe_pts),
        times=tuple(value * time_base for value in pts),
        leading_pictures=packets.leading,
        warnings=warnings,
    )


@dataclass
class _Packets:
    """What one pass over the packets told."""

    pts: list[int]
    keyframe_pts: list[int]
    sound: bool  # every packet has its own presentation time, none is damaged, the first can be decoded alone
    leading: bool
    broken: bool
    num_hidden: int = (
        0  # frames the file counts but does not show: cut away by an edit list, or empty repeats
    )


def _packet_times(container, stream) -> _Packets:
    found = _Packets(pts=[], keyframe_pts=[], sound=True, leading=False, broken=False)
    last_keyframe = None
    try:
        for packet in container.demux(stream):
            if packet.is_discard or not packet.size:
                found.num_hidden += packet.dts is not None  # the last, empty packet only flushes the decoder
                continue
            if packet.is_corrupt:
                found.broken = True
                continue
            if packet.pts is None:
                found.sound = False
                continue
            if packet.is_keyframe:
                last_keyframe = packet.pts
                found.keyframe_pts.append(packet.pts)
            elif last_keyframe is None:
                found.sound = False
            else:
                found.leading |= packet.pts < last_keyframe
            found.pts.append(packet.pts)
    except (av.FFmpegError, EOFError):
        found.broken = True
    found.sound &= not found.broken and len(set(found.pts)) == len(found.pts)
    return found


def _tail_decodes(path: Path, pts: list[int], last_keyframe: int) -> bool:
    """Whether the frames from the last key frame on decode, each at its own time."""
    with _open(path) as container:
        stream = _video_stream(container, path)
        container.seek(last_keyframe, stream=stream, backward=True)
        decoded = [frame.pts for frame in _decode(container, stream)]
    tail = pts[bisect_right(pts, last_keyframe) - 1 :]
    return [value for value in decoded if value is not None and value >= last_keyframe] == tail


def _decode(container, stream) -> Iterator[av.VideoFrame]:
    """Every frame that decodes, in display order; packets that do not are passed over."""
    packets = container.demux(stream)
    flushed = False
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.FFmpegError, EOFError):  # the file ends early; what the decoder still holds comes below
            break
        if packet.is_corrupt:
            continue
        flushed |= not packet.size
        try:
            frames = packet.decode()
        except (av.FFmpegError, EOFError):
            continue
        yield from frames
    if not flushed:
        try:
            yield from stream.codec_context.decode(None)
        except (av.FFmpegError, EOFError):
            return


def _open(path: Path):
    try:
        # The absolute path cannot be taken for a protocol ("http:...") or an option.
        container = av.open(str(path.absolute()))
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise InputError(f"no permission to read {path}") from error
        raise InputError(f"{path} is not a video that can be read: {error.strerror or error}") from error
    if container.format.name in TEXT_DEMUXERS:
        container.close()
        raise InputError(f"{path} is a text file, not a video")
    return container


def _video_stream(container, path: Path):
    """The first picture stream that is not a cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    container.close()
    raise InputError(f"{path} has no pictures: expected a video, found {_kinds(container)}")


def _kinds(container) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"


def _least_frames_by_duration(container, stream) -> int:
    """Frames a file without a frame count must have by its duration; 0 where that may be another stream's."""
    if len(container.streams) > 1 or not container.duration or not stream.average_rate:
        return 0
    # Half a second is left out: variable frame rates and rounded durations are no damage.
    return max(0, int((container.duration / av.time_base - 0.5) * stream.average_rate))


def _plausible_fps(rate) -> float:
    fps = float(rate) if rate else DEFAULT_FPS
    return fps if 0.01 <= fps <= 1000 else DEFAULT_FPS


def _kept_fps(declared: float, times: Sequence[float]) -> float:
    """The declared frames per second, unless the frames' own times, in seconds, tell quite another rate.

    A file of uneven frame times may declare the shortest gap there may be, such as 1000 frames per second.
    """
    if len(times) < 2 or times[-1] <= times[0]:
        return declared
    measured = (len(times) - 1) / (times[-1] - times[0])
    return declared if 0.9 < measured / declared < 1.1 else _plausible_fps(measured)


def _upright(frame: av.VideoFrame, index: VideoIndex) -> np.ndarray:
    """A frame as uint8 [H, W, 3] RGB, upright, at the clip's size even if the stream changes its own."""
    sideways = index.rotation in (90, 270)
    height, width = (index.width, index.height) if sideways else (index.height, index.width)
    pixels = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, index.rotation // 90))
