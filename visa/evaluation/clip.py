"""A data set's video as a `Video`: exactly the frames its record names, in the record's order.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataset.revos import RevosVideo
from visa.errors import InputError
from visa.frame_sources import DEFAULT_FPS, ImageFrames
from visa.video import Video


class ListedFrames:
    """Image files in the order given; a folder may hold more than these.

    Args:
        paths: One image for each frame.
        size: The (height, width) that every frame must have, in pixels.
    """

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self._paths = list(paths)
        self.height, self.width = size
        self.fps = DEFAULT_FPS
        self.frame_names = tuple(path.stem for path in paths)
        self.warnings: list[str] = []

    def read(self, indices: range) -> list[np.ndarray]:
        """Frames as uint8 [H, W, 3], RGB.

        Raises:
            InputError: A file is no image, or of another size.
        """
        return [self._frame(self._paths[index]) for index in indices]

    def _frame(self, path: Path) -> np.ndarray:
        (frame,) = ImageFrames(path).read(range(1))
        if frame.shape[:2] != (self.height, self.width):
            raise InputError(
                f"{path}: expected {self.width}x{self.height} pixels as in the data set's meta file, "
                f"got {frame.shape[1]}x{frame.shape[0]}"
            )
        return frame


def open_clip(record: RevosVideo, num_frames: int | None = None) -> Video:
    """The record's frames, or its first `num_frames`, read lazily.

    Raises:
        ValueError: The record has no frame, or a frame has no file.
    """
    paths = record.frame_paths()[:num_frames]
    if not paths:
        raise ValueError(f"video {record.name!r} has no frames: expected one or more in its meta file")
    return Video(ListedFrames(paths, (record.height, record.width)), record.name)
