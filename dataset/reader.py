"""What all readers are: a sequence of clips, read from a folder on disk.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles, make_clip
from dataset.errors import DatasetError

Made = TypeVar("Made")


class Reader(Sequence[Clip], ABC):
    """A data set on disk as a sequence of clips. Descriptions are read at once, pictures and masks later.

    Args:
        root: Its folder.
        split: One of `splits`; None for the first of them.
        lenient: Leave a broken clip or expression out and note it in `skipped`, instead of raising.

    Attributes:
        splits: The splits it has, the one to evaluate on first.
        meta_path: The file that lists the clips.
        skipped: What was left out.

    Raises:
        DatasetError: No such split, or a file is missing or not of the layout. The message names the file
            and the key.
    """

    splits: ClassVar[tuple[str, ...]]
    meta_path: Path

    def __init__(self, root: str | Path, split: str | None = None, *, lenient: bool = False) -> None:
        self.root = Path(root)
        self.split = self.splits[0] if split is None else split
        self.lenient = lenient
        self.skipped: list[DatasetError] = []
        if self.split not in self.splits:
            offered = ", ".join(self.splits)
            raise DatasetError(f"{self.root}: expected a split among {offered}, got {split!r}", "split")
        self._by_name: dict[str, Clip] = {}
        list(self._each(((clip,) for clip in self._read_clips()), self._add))
        self._clips = tuple(self._by_name.values())

    @property
    def has_masks(self) -> bool:
        """Whether this split's masks are public."""
        return True

    @abstractmethod
    def _read_clips(self) -> Iterable[Clip]:
        """All clips, from the descriptions only; `_make_clip` and `_each` help."""

    @abstractmethod
    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        """One object's mask in one frame: bool [H, W]; DatasetError if it is missing or broken."""

    def __getstate__(self) -> dict[str, Any]:
        """Without what was read later than the descriptions, so that worker processes start fast."""
        read_later = {
            name
            for kind in type(self).__mro__
            for name, value in vars(kind).items()
            if isinstance(value, cached_property)
        }
        return {name: value for name, value in vars(self).items() if name not in read_later}

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index):
        return self._clips[index]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self._clips)

    def video(self, name: str) -> Clip:
        """The clip of a name.

        Raises:
            DatasetError: No such clip.
        """
        if name not in self._by_name:
            raise DatasetError(f"{self.meta_path}: no video {name!r} among its {len(self)}")
        return self._by_name[name]

    def target(self, clip: Clip, expression: Expression) -> NDArray[np.bool_]:
        """The pixels an expression means: bool [T, H, W], the union of its annotations; empty if absent."""
        return clip.target(expression)

    def annotation(self, clip: Clip, annotation_id: str) -> NDArray[np.bool_]:
        """One object's pixels: bool [T, H, W].

        Raises:
            DatasetError: No such annotation, or it is broken or of another length or size.
        """
        return clip.masks.union([annotation_id])

    def foreground(self, clip: Clip) -> NDArray[np.bool_]:
        """The union of all annotated objects: bool [T, H, W]."""
        return clip.masks.union(clip.annotation_ids)

    def ignored(self, clip: Clip) -> NDArray[np.bool_] | None:
        """The pixels that no score counts, bool [T, H, W]; None where the data set leaves none out."""
        return None

    def frame_faults(
        self, clip: Clip, frame_index: int, annotated: NDArray[np.bool_]
    ) -> Iterator[DatasetError]:
        """What is wrong and only this format can tell, for `python -m dataset check`; usually nothing.

        Args:
            clip: One of these.
            frame_index: One of its frames.
            annotated: The union of all objects in that frame, bool [H, W].
        """
        yield from ()

    def _add(self, clip: Clip) -> None:
        if clip.name in self._by_name:
            raise DatasetError(f"{self.meta_path}: there are two videos {clip.name!r}")
        self._by_name[clip.name] = clip

    def _make_clip(
        self,
        name: str,
        frames: FrameFiles,
        expressions: Sequence[Expression],
        annotation_ids: Sequence[str] | None = None,
    ) -> Clip:
        where = f"{self.meta_path}: clip {name!r}"
        own = tuple(self._each(((item, where) for item in expressions), _OwnIds()))
        return make_clip(name, frames, own, partial(self._mask_by_name, name), annotation_ids)

    def _mask_by_name(self, name: str, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        return self._mask(self._by_name[name], annotation_id, frame_index)

    def _each(self, items: Iterable[Any], make: Callable[..., Made]) -> Iterator[Made]:
        """What `make` makes of every item; a broken one raises, or is noted and left out if lenient."""
        for item in items:
            try:
                yield make(*item)
            except DatasetError as error:
                if not self.lenient:
                    raise
                self.skipped.append(error)


class _OwnIds:
    """Lets a clip's expressions through whose ids are new: predictions lie in folders of these names."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, item: Expression, where: str) -> Expression:
        if item.id in self._seen:
            raise DatasetError(f"{where}: there are two expressions {item.id!r}", "expression twice")
        self._seen.add(item.id)
        return item
