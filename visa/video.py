"""A clip as lazy frames: video files, folders of images and arrays behind one small class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dataset.counting import count_of
from visa.errors import InputError
from visa.frame_sources import DEFAULT_FPS, IMAGE_SUFFIXES, ArrayFrames, FrameSource, ImageFrames, VideoFile
from visa.video_signatures import looks_like_video

CACHE_BYTES = 256 * 2**20
# Frames read together when a clip is walked backwards, as propagation does: decoders only run forwards, so
# stepping back one frame at a time would decode a whole group of pictures for each.
BACKWARD_RUN = 32


class Video:
    """The frames of a clip, decoded when they are asked for.

    Invariant: decoded frames are kept up to `cache_bytes`, the least recently used going first; the frame
    asked for last is always kept, however large. A returned array is the caller's own.

    Args:
        source: where the frames come from.
        name: the clip's name, without folder and suffix.
        cache_bytes: bound on the decoded frames held, in bytes.
    """

    def __init__(self, source: FrameSource, name: str, cache_bytes: int = CACHE_BYTES) -> None:
        self.name = name
        self.fps = float(source.fps)
        self.height = int(source.height)
        self.width = int(source.width)
        self.frame_names: tuple[str, ...] = source.frame_names
        self.num_frames = len(self.frame_names)
        self.warnings: list[str] = source.warnings
        self._source = source
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._frame_bytes = self.height * self.width * 3
        self._cache_frames = max(1, cache_bytes // self._frame_bytes)
        self._last_read = -1

    @classmethod
    def open(cls, path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> Video:
        """Open a video file, a folder of frames or one image.

        Args:
            path: a video file; or a folder of jpg, png, bmp or webp images of one size, taken in natural
                order (frame2 before frame10) at 24 frames per second; or one such image.
            cache_bytes: bound on the decoded frames held, in bytes.

        Returns:
            The clip. What is wrong with it but can be lived with stands in `warnings`, one line each, for
            example "truncated: 37 of 50 frames decoded".

        Raises:
            InputError: nothing at that path can be read as a clip; one line says why.
        """
        if not str(path):  # `Path` would take the working folder
            raise InputError("the video's name is empty; give a video file or a folder of frames")
        path = Path(path)
        try:
            is_folder, is_file = path.is_dir(), path.is_file()
            if not (is_folder or is_file):
                path.lstat()  # raises where there is nothing at all
                raise InputError(f"{path} is neither a file nor a folder")
            if is_file:
                with path.open("rb") as file:
                    empty = not file.read(1)
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError(f"no such video: {_printable(path)}") from error
        except PermissionError as error:
            raise InputError(f"no permission to read {path}") from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read {_printable(path)}: {getattr(error, 'strerror', None) or error}"
            ) from error
        if is_file and empty:
            raise InputError(f"{path} is an empty file")
        if is_folder or (path.suffix.lower() in IMAGE_SUFFIXES and not looks_like_video(path)):
            source: FrameSource = ImageFrames(path)
        else:
            source = VideoFile(path)
        name = path.resolve().name if is_folder else path.stem
        # A name in bytes that are no UTF-8 could not be written into any result.
        name = name.encode("utf-8", "backslashreplace").decode("utf-8")
        return cls(source, name or "clip", cache_bytes)

    @classmethod
    def from_frames(cls, frames: np.ndarray, fps: float = DEFAULT_FPS, name: str = "array") -> Video:
        """Frames in memory as a clip.

        Args:
            frames: uint8 [T, H, W, 3] RGB; kept, not copied.
            fps: frames per second.
            name: the clip's name.

        Raises:
            ValueError: the array has another shape or dtype.
            InputError: there is no frame or no pixel.
        """
        return cls(ArrayFrames(frames, fps), name)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> np.ndarray:
        """Frame `index` (negative counts from the end) as uint8 [H, W, 3] RGB.

        Raises:
            IndexError: there is no such frame.
            InputError: the frame cannot be read any more.
        """
        return self._frame(index).copy()

    def frames(self, indices: Iterable[int]) -> np.ndarray:
        """The frames asked for, in that order, as uint8 [T, H, W, 3] RGB.

        Raises:
            IndexError: there is no such frame.
            InputError: a frame cannot be read any more.
        """
        indices = list(indices)
        frames = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        for row, index in enumerate(indices):
            frames[row] = self._frame(index)
        return frames

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"Video({self.name!r}, {count_of(self.num_frames, 'frame')} of {size}, {self.fps:.4g} fps)"

    def _frame(self, index: int) -> np.ndarray:
        number = int(index)
        if number < 0:
            number += self.num_frames
        if not 0 <= number < self.num_frames:
            raise IndexError(f"frame {index} of a clip of {count_of(self.num_frames, 'frame')}")
        if number not in self._cache:
            run = min(BACKWARD_RUN, max(1, self._cache_frames // 2)) if number < self._last_read else 1
            start = max(0, number - run + 1)
            for offset, frame in enumerate(self._source.read(range(start, number + 1))):
                self._cache[start + offset] = frame
                self._cache.move_to_end(start + offset)
            while len(self._cache) > self._cache_frames:
                self._cache.popitem(last=False)
            self._last_read = number
        self._cache.move_to_end(number)
        return self._cache[number]


def _printable(path: Path) -> str:
    return str(path).encode("unicode_escape").decode("ascii") if not str(path).isprintable() else str(path)
