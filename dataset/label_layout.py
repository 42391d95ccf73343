"""The layout of YouTube-VOS and all that follows it: one PNG per frame whose values are the objects' numbers.

    expressions     {"videos": {name: {"frames": [...], "expressions": {id: {"exp", "obj_id": "1"}}}}}
    objects         {"videos": {name: {"objects": {"1": {"category": "person"}}}}}
    masks           <annotations>/<video>/<frame>.png, palette indices or grey values; 0 is no object

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles
from dataset.errors import DatasetError
from dataset.json_files import (
    dictionary,
    field,
    plain_names,
    safe_name,
    shortened,
    text_field,
    videos_of,
    whole_number,
)
from dataset.masks import read_label_map
from dataset.reader import Reader

# As many frames as the longest clips of these data sets have: each file is decoded once for all its objects.
CACHED_FRAMES = 128


class LabelReader(Reader):
    """A data set of that layout; an annotation's key is its object's number.

    Attributes:
        frames_path: Holds a folder of frames for every video.
        annotations_path: Holds a folder of masks for every video.
    """

    frames_path: Path
    annotations_path: Path

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        if not self.has_masks:
            raise DatasetError(
                f"{self.root}: the masks of split {self.split!r} are not public", "masks not public"
            )
        path = self.annotations_path / clip.name / f"{clip.frame_names[frame_index]}.png"
        return _labels(path, clip.frames.size) == int(annotation_id)

    def _videos(self, path: Path) -> dict[str, Any]:
        """The records of a file's videos."""
        return videos_of(path)

    def _objects(self, path: Path) -> dict[str, Any] | None:
        """The records of the file of objects; None if there is no such file."""
        return self._videos(path) if path.is_file() else None

    def _clip(self, name: str, record: Any, objects: dict[str, Any] | None) -> Clip:
        """The clip of a record with expressions.

        Args:
            name: The video's name.
            record: What the file of expressions says about it.
            objects: What the file of objects says, by video; None if unknown.
        """
        where = f"{self.meta_path}: video {name!r}"
        safe_name(name, where)
        record = dictionary(record, where)
        frames = sorted(plain_names(record, "frames", where))
        items = dictionary(field(record, "expressions", where), f"{where}, 'expressions'")
        known = None if objects is None or not self.has_masks else self._object_ids(objects, name)
        return self._make_clip(
            name,
            FrameFiles(self.frames_path / name, frames),
            tuple(self._each(((key, item, where, known) for key, item in items.items()), self._expression)),
            known,
        )

    def _object_ids(self, objects: dict[str, Any], name: str) -> list[str]:
        """The numbers of a video's objects, as text."""
        where = f"{self.objects_path}: video {name!r}"
        record = field(objects, name, f"{self.objects_path}, 'videos'")
        numbers = dictionary(field(record, "objects", where), f"{where}, 'objects'")
        return [str(object_number(number, where)) for number in numbers]

    @property
    def objects_path(self) -> Path:
        """The file of objects."""
        return self.annotations_path.parent / "meta.json"

    def _expression(self, key: str, record: Any, where: str, known: list[str] | None) -> Expression:
        where = f"{where}, expression {key!r}"
        safe_name(key, where, nested=False)  # it becomes the name of an output folder
        text = text_field(record, "exp", where)
        if self.has_masks:
            number = object_number(field(record, "obj_id", where), where)
            if known is not None and str(number) not in known:
                objects = ", ".join(known) or "none"
                raise DatasetError(
                    f"{where}: object {number} is not among {objects} of {self.objects_path}",
                    "unknown annotation",
                )
            objects = (number,)
        else:
            objects = ()
        return Expression(
            id=key,
            text=text,
            kind="referring",
            aspect=None,
            object_ids=objects,
            annotation_ids=tuple(str(number) for number in objects),
        )


def object_number(value: Any, where: str) -> int:
    """An object's number, which may be written as text.

    Raises:
        DatasetError: It is no number above 0, which is the background's.
    """
    number = whole_number(value)
    if number is None or number < 1:
        raise DatasetError(f"{where}: expected an object's number from 1 on, got {shortened(value)}")
    return number


@lru_cache(maxsize=CACHED_FRAMES)
def _labels(path: Path, size: tuple[int, int]) -> NDArray[np.integer]:
    labels = read_label_map(path, size)
    labels.flags.writeable = False
    return labels
