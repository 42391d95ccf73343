"""Where the frames of a clip come from: an array, a folder of images, or a video file.

A source knows its size, its frame names and how to read a short ascending run of frames; `visa.video.Video`
adds the cache and the public face. A video file is indexed with PyAV when it is opened. decord then reads the
frames, but only where its random access is exact and its memory bounded (see `_open_decord`); in every other
case PyAV does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from visa.errors import InputError

if TYPE_CHECKING:
    from visa.video_decoding import PyAVReader, VideoIndex

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
DEFAULT_FPS = 24.0
# Mean difference in [0, 255] by which two decoders' colours of one frame may differ (BT.601 against BT.709).
MAX_COLOUR_DIFFERENCE = 16.0
# decord decodes ahead without a bound: while the frames read last are worked on, the rest of the file fills
# memory. It reads only clips that fit here whole (436 frames of 480p).
DECORD_CLIP_BYTES = 512 * 2**20


class FrameSource(Protocol):
    """What `Video` needs of a source; frames are uint8 [H, W, 3] RGB."""

    fps: float
    height: int
    width: int
    frame_names: tuple[str, ...]
    warnings: list[str]

    def read(self, indices: range) -> list[np.ndarray]:
        """The frames of an ascending range without gaps."""


class ArrayFrames:
    """Frames already in memory.

    Args:
        frames: uint8 [T, H, W, 3] RGB.
        fps: frames per second.
    """

    def __init__(self, frames: np.ndarray, fps: float) -> None:
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"expected uint8 frames [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
        if 0 in frames.shape:
            raise InputError(f"expected at least one frame of at least one pixel, got {list(frames.shape)}")
        if not 0 < fps <= 1000:
            raise ValueError(f"expected frames per second above 0 and up to 1000, got {fps}")
        self._frames = frames
        self.fps = fps
        self.height, self.width = frames.shape[1:3]
        self.frame_names = numbered_names(len(frames))
        self.warnings: list[str] = []

    def read(self, indices: range) -> list[np.ndarray]:
        """The frames of an ascending range without gaps."""
        return [self._frames[index] for index in indices]


class ImageFrames:
    """A folder of images, or one image, as a clip. Headers are checked at once, pixels read later."""

    def __init__(self, path: Path, fps: float = DEFAULT_FPS) -> None:
        try:
            self._paths = [path] if path.is_file() else _images_in(path)
        except OSError as error:
            raise InputError(f"cannot read the folder {path}: {error.strerror or error}") from error
        if not self._paths:
            kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
            raise InputError(f"the folder {path} holds no frames: expected image files ({kinds})")
        self._refuse_equal_names()
        self.width, self.height = _upright_size(self._paths[0])
        for image_path in self._paths[1:]:
            width, height = _upright_size(image_path)
            if (width, height) != (self.width, self.height):
                raise InputError(
                    f"frames of {path} differ in size: {self._paths[0].name} is {self.width}x{self.height} "
                    f"but {image_path.name} is {width}x{height}; give frames of one size"
                )
        self.fps = fps
        self.frame_names = tuple(image_path.stem for image_path in self._paths)
        self.warnings: list[str] = []

    def _refuse_equal_names(self) -> None:
        """Masks are saved under the frames' stems, so two frames must not share one, case ignored."""
        seen: dict[str, Path] = {}
        for image_path in self._paths:
            other = seen.setdefault(image_path.stem.lower(), image_path)
            if other is not image_path:
                raise InputError(f"two frames share a name: {other} and {image_path.name}; keep one of them")

    def read(self, indices: range) -> list[np.ndarray]:
        """The frames of an ascending range without gaps."""
        return [_read_image(self._paths[index]) for index in indices]


class VideoFile:
    """A video file: indexed by PyAV, read by decord where that is exact, by PyAV elsewhere."""

    def __init__(self, path: Path) -> None:
        try:
            from visa.video_decoding import PyAVReader, index_video
        except ImportError as error:
            raise InputError(
                f"reading {path} needs PyAV ({error}): pip install av, or give a folder of frames"
            ) from error
        index = index_video(path)
        self.fps = index.fps
        self.height, self.width = index.height, index.width
        self.frame_names = numbered_names(index.num_frames)
        self._pyav = PyAVReader(path, index)
        self.warnings = self._pyav.warnings
        self._decord = _open_decord(path, index, self._pyav)

    @property
    def backend(self) -> str:
        """The library that reads the frames now: "decord" or "pyav"."""
        return "pyav" if self._decord is None else "decord"

    def read(self, indices: range) -> list[np.ndarray]:
        """The frames of an ascending range without gaps."""
        if self._decord is not None:
            try:
                frames = list(self._decord.get_batch(list(indices)).asnumpy())
            except (_decord_error(), RuntimeError, IndexError):
                self._decord = None
            else:
                if all(frame.shape == (self.height, self.width, 3) for frame in frames):
                    return frames
                self._decord = None
        return self._pyav.read(indices)


def numbered_names(num_frames: int) -> tuple[str, ...]:
    """Names of frames that have none of their own: 00000, 00001, ..."""
    return tuple(f"{index:05d}" for index in range(num_frames))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorting key by which frame2 comes before frame10."""
    parts = re.split(r"([0-9]+)", name.lower())
    # Every second part is a number; all parts have one type, so that they can be compared.
    return [(1, int(part), part) if place % 2 else (0, 0, part) for place, part in enumerate(parts)]


def _images_in(folder: Path) -> list[Path]:
    """The folder's image files in natural order; hidden files (such as macOS's ._ twins) are not frames."""
    paths: Iterable[Path] = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(paths, key=lambda path: (natural_key(path.name), path.name))


def _upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as it is meant to be seen, from its header alone."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            quarter_turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the image {path}: {_reason(error)}") from error
    return (height, width) if quarter_turned else (width, height)


def _read_image(path: Path) -> np.ndarray:
    """One image as uint8 [H, W, 3] RGB: grey is repeated, transparency dropped, 16 bits scaled to 8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            elif image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"cannot read the image {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _decord_error() -> type[Exception]:
    import decord

    return decord.DECORDError


def _open_decord(path: Path, index: VideoIndex, pyav: PyAVReader):
    """decord's reader of the file, or None where its frames cannot be trusted to be the asked ones.

    decord 0.6 answers with wrong frames, without an error, in files whose presentation times it cannot know
    (AVI or MPEG streams with B frames) and after some seeks in files with open groups of pictures, and it may
    spin for minutes at the end of a truncated file. The index tells most of these apart; where it cannot, the
    last frames do: a wrong count of reordered frames shows in a short last group. Rotation is left to PyAV,
    and so are long clips, for the sake of memory.
    """
    if 3 * index.num_frames * index.height * index.width > DECORD_CLIP_BYTES:
        return None
    if not index.exact_seek or index.leading_pictures or index.rotation or index.warnings:
        return None
    try:
        import decord
    except (ImportError, OSError):  # OSError: the wheel is there but its native library does not load
        return None
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path))
        starts = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0].astype(np.float64)
        last = reader[len(reader) - 1].asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError, ValueError):
        return None
    if len(starts) != index.num_frames or last.shape != (index.height, index.width, 3):
        return None
    expected = np.asarray(index.times)
    if np.abs((starts - starts[0]) - (expected - expected[0])).max() > 0.5 / index.fps:
        return None
    # The two libraries convert colours a little differently: decord's last frame must be near PyAV's last and
    # no nearer to the one before it, not equal.
    tail = pyav.read(range(max(0, index.num_frames - 2), index.num_frames))
    pyav.close()
    differences = [np.abs(frame.astype(np.int16) - last).mean() for frame in tail]
    is_last = differences[-1] <= min(MAX_COLOUR_DIFFERENCE, differences[0] + 0.5)
    return reader if is_last else None
