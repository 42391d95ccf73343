"""Reader of ReasonVOS: questions whose answer needs thought, about clips of four other data sets.

    ROOT/meta_expressions.json      {"videos": {name: {"source", "frames": [...], "expressions": [...]}}}
    ROOT/JPEGImages/<video>/<frame>.jpg
    ROOT/Annotations/<source>_<video>_<object>/<frame>.png     everything but 0 is the object

An expression holds "obj_id", "exp_text", and in the first release "exp_id" and "is_sent" (a sentence rather
than a phrase). In the second release "expressions" is an object by key, and "is_sent" stands by the video.

Source: Bai et al., "One Token to Seg Them All: Language Instructed Reasoning Segmentation in Videos",
NeurIPS 2024.

Legend: H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.clip import FRAME_SUFFIXES, Clip, Expression, FrameFiles
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


class ReasonVos(Reader):
    """ReasonVOS. An annotation's key is its folder's name; the aspect is "sentence" or "phrase" if known.

    An expression's id is its "exp_id" or key; where several objects of a video use the same one, "<object>_"
    is put in front of it.

    Args:
        root: The data set's folder.
        split: "test", all there is.
        lenient: As for every reader.

    Raises:
        DatasetError: A file is missing or not of the layout, or a name climbs out of the root.
    """

    splits = ("test",)

    def _read_clips(self) -> Iterable[Clip]:
        self.meta_path = self.root / "meta_expressions.json"
        return self._each(videos_of(self.meta_path).items(), self._clip)

    def _clip(self, name: str, record: Any) -> Clip:
        where = f"{self.meta_path}: video {name!r}"
        safe_name(name, where)
        record = dictionary(record, where)
        source = safe_name(text_field(record, "source", where), f"{where}, source", nested=False)
        frames = [_without_suffix(frame) for frame in plain_names(record, "frames", where)]
        items = _listed(field(record, "expressions", where), where)
        made = self._each(
            ((key, item, f"{source.lower()}_{name}", record.get("is_sent"), where) for key, item in items),
            self._expression,
        )
        return self._make_clip(
            name, FrameFiles(self.root / "JPEGImages" / name, sorted(frames)), _with_own_ids(list(made))
        )

    def _expression(self, key: str, record: Any, start: str, is_sent: Any, where: str) -> Expression:
        where = f"{where}, expression {key!r}"
        record = dictionary(record, where)
        number = whole_number(field(record, "obj_id", where))
        if number is None:
            raise DatasetError(f"{where}: expected obj_id, a number, got {shortened(record['obj_id'])}")
        is_sent = record.get("is_sent", is_sent)
        return Expression(
            id=safe_name(str(record.get("exp_id", key)), where, nested=False),
            text=text_field(record, "exp_text", where),
            kind="reasoning",
            aspect=None if is_sent is None else "sentence" if _is_true(is_sent) else "phrase",
            object_ids=(number,),
            annotation_ids=(f"{start}_{number}",),
        )

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        folder = self.root / "Annotations" / annotation_id
        if not folder.is_dir():
            raise DatasetError(f"expected a folder of masks {folder}, found none", "unknown annotation")
        return read_label_map(folder / f"{clip.frame_names[frame_index]}.png", clip.frames.size) > 0


def _listed(expressions: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(expressions, list):
        return ((str(index), item) for index, item in enumerate(expressions))
    return iter(dictionary(expressions, f"{where}, 'expressions'").items())


def _with_own_ids(expressions: list[Expression]) -> list[Expression]:
    counts = Counter(item.id for item in expressions)
    return [
        item if counts[item.id] == 1 else replace(item, id=f"{item.object_ids[0]}_{item.id}")
        for item in expressions
    ]


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in FRAME_SUFFIXES else name


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes")
