"""Frames that are not one folder of equal pictures: pictures of several sizes, and video files.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset.clip import FrameFiles
from dataset.errors import DatasetError


class PictureFiles(FrameFiles):
    """Pictures that need not be of one size or in one folder; read them one by one.

    Args:
        paths: Their files, one or more; the suffix does not matter.
    """

    one_size = False

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(paths[0].parent, [path.stem for path in paths])
        self._pictures = tuple(FrameFiles(path.parent, [path.stem]) for path in paths)

    def path(self, index: int) -> Path:
        """A picture's file; DatasetError if there is none."""
        return self._pictures[index].path(0)

    def read(self, index: int) -> NDArray[np.uint8]:
        """One picture, uint8 [H, W, 3], RGB, of its own size; DatasetError if it is broken."""
        return self._pictures[index].read(0)

    def __getitem__(self, key):
        indices = np.arange(len(self))[key]
        if indices.ndim == 0:
            return self.read(int(indices))
        pictures = [self.read(int(index)) for index in indices]
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError(f"{self.path(0)} and others: of several sizes, so read them one by one")
        return np.stack(pictures)


class VideoFile(FrameFiles):
    """The frames of a video file, decoded from its start when asked for.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.file = path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The frames' numbers."""
        return tuple(f"{index:06d}" for index in range(self._opened[0]))

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self._opened[1]

    def path(self, index: int) -> Path:
        """The video's file; DatasetError if there is none."""
        if not self.file.is_file():
            raise DatasetError(f"expected a video {self.file}, found none", "missing frame")
        return self.file

    def size_of(self, index: int) -> tuple[int, int]:
        """(H, W): all frames are alike."""
        return self.size

    def read(self, index: int) -> NDArray[np.uint8]:
        """One frame, uint8 [H, W, 3], RGB."""
        return self.read_several([index])[0]

    def read_several(self, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Frames, uint8 [H, W, 3], RGB, in one pass through the file.

        Raises:
            DatasetError: No such file, no video, or it ends before a frame that its header promises.
        """
        import av

        wanted, found = set(indices), {}
        try:
            with av.open(str(self.path(0))) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number in wanted:
                        found[number] = frame.to_ndarray(format="rgb24")
                    if len(found) == len(wanted):
                        break
        except (av.FFmpegError, OSError, IndexError) as error:
            raise DatasetError(f"{self.file}: not a whole video ({error})", "broken frame") from error
        if len(found) < len(wanted):
            missing = min(wanted - found.keys())
            raise DatasetError(f"{self.file}: it ends before frame {missing}", "broken frame")
        return [found[index] for index in indices]

    def __getitem__(self, key):
        indices = np.arange(len(self))[key]
        if indices.ndim == 0:
            return self.read(int(indices))
        return np.stack(self.read_several(indices.tolist()))

    @cached_property
    def _opened(self) -> tuple[int, tuple[int, int]]:
        """Number of frames and their (H, W), without decoding."""
        import av

        try:
            with av.open(str(self.path(0))) as container:
                stream = container.streams.video[0]
                count = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
                return count, (stream.height, stream.width)
        except (av.FFmpegError, OSError, IndexError) as error:
            raise DatasetError(f"{self.file}: not a video ({error})", "broken frame") from error


def read_frames(
    frames: Sequence[NDArray[np.uint8]],
    indices: Sequence[int],
    open_video: Callable[[Path], Sequence[NDArray[np.uint8]]] | None = None,
) -> tuple[NDArray[np.uint8], ...]:
    """Frames of a clip, each file read once.

    Args:
        frames: A clip's frames.
        indices: Which; some may come twice, and are then the same array.
        open_video: Opens a video file as a sequence of frames, for a reader that finds them faster.

    Returns:
        uint8 [H, W, 3] each, RGB; pictures may be of several sizes.
    """
    once = sorted(set(indices))
    if isinstance(frames, VideoFile):
        video = open_video(frames.path(0)) if open_video else None
        read = frames.read_several(once) if video is None else [video[index] for index in once]
    else:
        read = [frames[index] for index in once]
    found = dict(zip(once, read, strict=True))
    return tuple(found[index] for index in indices)
