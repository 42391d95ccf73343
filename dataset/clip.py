"""A clip as it lies on disk, with what is asked about it: frames and masks are read when they are asked for.

A `Clip` is a `Sample` whose frames and masks are lazy. An image is a clip of one frame.

Legend: T frames, N objects, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dataset.errors import DatasetError
from dataset.sample import Kind, Sample, Turn

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Expression:
    """One question or description of a clip.

    Attributes:
        id: Its key in the clip, unique there; the name of its folder among predictions.
        text: What is asked.
        kind: "referring", "reasoning" or "absent" (ReVOS's type_id 0, 1, 2).
        aspect: A finer sort ("colour", "motion", ...), None where the data set has none.
        object_ids: The data set's numbers of the objects meant; () if none.
        annotation_ids: The keys of their masks; () if absent, or if the split's masks are not public.
        answer: What to say, where the data set has words for it.
        annotator: Which of several people wrote it, counted from 0; None where the data set does not tell.
        other_texts: Other ways to say the same; training draws among all.
    """

    id: str
    text: str
    kind: Kind
    aspect: str | None
    object_ids: tuple[int, ...]
    annotation_ids: tuple[str, ...]
    answer: str | None = None
    annotator: int | None = None
    other_texts: tuple[str, ...] = ()


class FrameFiles(Sequence):
    """A clip's frames, one file each, decoded when indexed and not kept.

    An index gives one frame, uint8 [H, W, 3] in RGB; a slice or a list of indices gives uint8 [T, H, W, 3].

    Args:
        folder: The folder of the files.
        names: The frames' names in order, without suffix.
        size: (H, W) as the data set says; None to take it from the first file.

    Attributes:
        one_size: Whether all frames must be of one size; several pictures of a talk need not.
    """

    one_size: ClassVar[bool] = True

    def __init__(self, folder: Path, names: Sequence[str], size: tuple[int, int] | None = None) -> None:
        self.folder = folder
        self.names = tuple(names)
        self._size = size

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels.

        Raises:
            DatasetError: The data set does not say it, and there is no first frame to tell.
        """
        if self._size is not None:
            return self._size
        if not self.names:
            raise DatasetError(f"{self.folder}: the clip has no frames, so no size", "no frames")
        return self.size_of(0)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        return (len(self.names), *self.size, 3)

    def path(self, index: int) -> Path:
        """A frame's file.

        Raises:
            DatasetError: There is none.
        """
        name = self.names[index]
        for suffix in (*FRAME_SUFFIXES, *map(str.upper, FRAME_SUFFIXES)):
            path = self.folder / f"{name}{suffix}"
            if path.is_file():
                return path
        raise DatasetError(
            f"expected a frame {self.folder / name}.jpg (or .jpeg, .png), found none", "missing frame"
        )

    def size_of(self, index: int) -> tuple[int, int]:
        """(H, W) of one frame's file, from its first bytes.

        Raises:
            DatasetError: No such file, or no picture.
        """
        with _open_picture(self.path(index)) as image:
            return image.height, image.width

    def read(self, index: int) -> NDArray[np.uint8]:
        """One frame, uint8 [H, W, 3], RGB.

        Raises:
            DatasetError: No such file, no whole picture, or of another size than the clip.
        """
        path = self.path(index)
        with _open_picture(path) as image:
            try:
                frame = np.asarray(image.convert("RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                raise DatasetError(f"{path}: not a whole picture ({error})", "broken frame") from error
        if frame.shape[:2] != self.size:
            got, expected = frame.shape[1::-1], self.size[::-1]
            raise DatasetError(
                f"{path}: expected {expected[0]}x{expected[1]} pixels like the clip, got {got[0]}x{got[1]}",
                "frame size",
            )
        return frame

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key):
        indices = np.arange(len(self))[key]
        if indices.ndim == 0:
            return self.read(int(indices))
        frames = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        for place, index in enumerate(indices):
            frames[place] = self.read(int(index))
        return frames

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype=dtype)


def frames_in(folder: Path, where: str) -> list[str]:
    """The names of the frames in a folder, without suffix, sorted.

    Args:
        folder: Where they lie.
        where: The file and key that name the folder, for the message.

    Raises:
        DatasetError: There is no such folder, or two files are one frame.
    """
    if not folder.is_dir():
        raise DatasetError(f"{where}: expected a folder {folder}, found none", "missing file")
    paths = (path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES)
    names = sorted(path.stem for path in paths)
    if len(set(names)) != len(names):
        raise DatasetError(f"{folder}: a frame has several files", "frame twice")
    return names


class LazyMasks:
    """All objects' masks of a clip, decoded when indexed and not kept: looks like bool [N, T, H, W].

    `masks[objects]` gives whole tubes and `masks[objects, frames]` single frames of them; each index is a
    number, a slice or a list.

    Args:
        annotation_ids: The objects' keys.
        frames: The clip's frames, for the shape.
        read: Gives the mask of a key and a frame index, bool [H, W].
    """

    dtype = np.dtype(bool)
    ndim = 4

    def __init__(
        self,
        annotation_ids: Sequence[str],
        frames: FrameFiles,
        read: Callable[[str, int], NDArray[np.bool_]],
    ) -> None:
        self.annotation_ids = tuple(annotation_ids)
        self._frames = frames
        self._read = read

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, T, H, W)."""
        return (len(self.annotation_ids), *self._frames.shape[:3])

    def __len__(self) -> int:
        return len(self.annotation_ids)

    def read_one(self, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        """One object's mask in one frame: bool [H, W]."""
        return self._read(annotation_id, frame_index)

    def __getitem__(self, key) -> NDArray[np.bool_]:
        objects, frames = key if isinstance(key, tuple) else (key, slice(None))
        objects = np.arange(len(self))[objects]
        frames = np.arange(len(self._frames))[frames]
        masks = np.empty((*objects.shape, *frames.shape, *self._frames.size), dtype=bool)
        for place in np.ndindex(objects.shape):
            annotation_id = self.annotation_ids[objects[place]]
            for time in np.ndindex(frames.shape):
                masks[place + time] = self._read(annotation_id, int(frames[time]))
        return masks

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype=dtype)

    def union(
        self, annotation_ids: Sequence[str], frame_indices: Sequence[int] | None = None
    ) -> NDArray[np.bool_]:
        """The pixels of any of these objects.

        Args:
            annotation_ids: Their keys, which need not be among the clip's own; () gives empty masks.
            frame_indices: Only these frames, in this order; None for all.

        Returns:
            bool [T, H, W].
        """
        wanted = range(len(self._frames)) if frame_indices is None else frame_indices
        masks = np.zeros((len(wanted), *self._frames.size), dtype=bool)
        for annotation_id in annotation_ids:
            for place, index in enumerate(wanted):
                masks[place] |= self._read(annotation_id, int(index))
        return masks


@dataclass(frozen=True, eq=False)
class Clip(Sample):
    """A video, or an image as a clip of one frame. Making one reads no file.

    Attributes:
        name: Its name, with "/" where nested; unique in its data set.
        frames: Lazy, uint8 [T, H, W, 3].
        masks: Lazy, bool [N, T, H, W]: one for each of `annotation_ids`. Some data sets' masks overlap.
        turns: One for each expression whose masks are known, in the expressions' order; the answer is the
            data set's own words, or "[SEG]" ("" for an absent object).
        expressions: In the file's order.
    """

    frames: FrameFiles
    masks: LazyMasks
    expressions: tuple[Expression, ...]

    @property
    def folder(self) -> Path:
        """The folder of the frames."""
        return self.frames.folder

    @property
    def frame_names(self) -> tuple[str, ...]:
        """Without suffix, in order."""
        return self.frames.names

    @property
    def height(self) -> int:
        """In pixels."""
        return self.frames.size[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.frames.size[1]

    @property
    def annotation_ids(self) -> tuple[str, ...]:
        """The keys of `masks`."""
        return self.masks.annotation_ids

    def first(self, num_frames: int) -> Clip:
        """Its first frames only, with all expressions."""
        names = self.frame_names[:num_frames]
        frames = FrameFiles(self.folder, names, self.frames.size)
        return make_clip(self.name, frames, self.expressions, self.masks.read_one, self.annotation_ids)

    def asking(self, expressions: Sequence[Expression]) -> Clip:
        """With these expressions in place of its own; the objects stay."""
        return make_clip(self.name, self.frames, expressions, self.masks.read_one, self.annotation_ids)

    def frame_paths(self) -> tuple[Path, ...]:
        """The frames' files, in order.

        Raises:
            DatasetError: A frame has no file.
        """
        return tuple(self.frames.path(index) for index in range(len(self.frames)))

    def target(
        self, asked: Turn | Expression, frame_indices: Sequence[int] | None = None
    ) -> NDArray[np.bool_]:
        """The pixels that are meant: bool [T, H, W], the union of the objects; empty if absent.

        Args:
            asked: One of the clip's turns or expressions.
            frame_indices: Only these frames, in this order; None for all.

        Raises:
            DatasetError: A mask is missing or broken.
        """
        if isinstance(asked, Turn):
            return self.masks.union([self.annotation_ids[item] for item in asked.object_ids], frame_indices)
        return self.masks.union(asked.annotation_ids, frame_indices)


def make_clip(
    name: str,
    frames: FrameFiles,
    expressions: Sequence[Expression],
    read: Callable[[str, int], NDArray[np.bool_]],
    annotation_ids: Sequence[str] | None = None,
) -> Clip:
    """Puts a clip together.

    Args:
        name: See `Clip`.
        frames: See `Clip`.
        expressions: See `Clip`.
        read: Gives the mask of an annotation and a frame index, bool [H, W].
        annotation_ids: Every object of the clip; None for those that the expressions name.
    """
    if annotation_ids is None:
        annotation_ids = dict.fromkeys(key for item in expressions for key in item.annotation_ids)
    order = {key: index for index, key in enumerate(annotation_ids)}
    return Clip(
        name=name,
        frames=frames,
        masks=LazyMasks(tuple(order), frames, read),
        turns=tuple(
            _turn(item, order) for item in expressions if item.annotation_ids or item.kind == "absent"
        ),
        expressions=tuple(expressions),
    )


def _turn(expression: Expression, order: dict[str, int]) -> Turn:
    answer = expression.answer
    if answer is None:
        answer = "" if expression.kind == "absent" else "[SEG]"
    return Turn(
        question=expression.text,
        answer=answer,
        kind=expression.kind,
        aspect=expression.aspect or "",
        object_ids=tuple(order[key] for key in expression.annotation_ids),
    )


def _open_picture(path: Path):
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: not a picture ({error})", "broken frame") from error
