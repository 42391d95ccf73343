"""The layout that MeViS introduced and ReVOS follows: one JSON file of expressions, one of run-length masks.

    meta file   {"videos": {name: {"frames": [...], "expressions": {id: {"exp", "obj_id": [...],
                                                                         "anno_id": [...]}}}}}
    mask file   {annotation id: [RLE or null for every frame, frames sorted by name]}

Video names may be nested: "UVO/all/-fbscFfkh4M". The masks of several annotations may overlap.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles
from dataset.counting import count_of
from dataset.errors import DatasetError
from dataset.json_files import (
    dictionary,
    field,
    picture_size,
    plain_names,
    read_json,
    safe_name,
    shortened,
    text_field,
    videos_of,
)
from dataset.masks import decode_segmentation
from dataset.reader import Reader
from dataset.sample import Kind


class RleReader(Reader):
    """A data set of that layout. The mask file is read when the first mask is asked for."""

    meta_path: Path
    mask_path: Path
    frames_path: Path

    @abstractmethod
    def _find_files(self) -> None:
        """Sets `meta_path`, `mask_path` and `frames_path` for this root and split."""

    def _kind(self, record: dict[str, Any], annotations: list[Any], where: str) -> Kind:
        """An expression's kind; here everything is referred to, and what names no annotation is absent."""
        return "referring" if annotations or not self.has_masks else "absent"

    def _text(self, text: str) -> str:
        """How an expression is put to the system."""
        return text

    def _size(self, record: dict[str, Any], where: str) -> tuple[int, int] | None:
        """(H, W), None if the meta file does not say it."""
        return picture_size(record, where) if "height" in record or "width" in record else None

    def _read_clips(self) -> Iterable[Clip]:
        self._find_files()
        return self._each(videos_of(self.meta_path).items(), self._clip)

    def _clip(self, name: str, record: Any) -> Clip:
        where = f"{self.meta_path}: video {name!r}"
        safe_name(name, where)
        record = dictionary(record, where)
        frames = sorted(plain_names(record, "frames", where))  # as the masks are
        size = self._size(record, where)
        expressions = dictionary(field(record, "expressions", where), f"{where}, 'expressions'")
        return self._make_clip(
            name,
            FrameFiles(self.frames_path / name, frames, size),
            tuple(self._each(((key, item, where) for key, item in expressions.items()), self._expression)),
        )

    def _expression(self, key: str, record: Any, where: str) -> Expression:
        where = f"{where}, expression {key!r}"
        safe_name(key, where, nested=False)  # it becomes the name of an output folder
        record = dictionary(record, where)
        text = text_field(record, "exp", where)
        objects, annotations = (record.get(name, []) for name in ("obj_id", "anno_id"))
        if not isinstance(objects, list) or not isinstance(annotations, list):
            raise DatasetError(f"{where}: expected obj_id and anno_id, two lists")
        kind = self._kind(record, annotations, where)
        aspect, answer = record.get("aspect"), record.get("answer")
        for name, value in (("aspect", aspect), ("answer", answer)):
            if value is not None and not isinstance(value, str):
                raise DatasetError(f"{where}: expected {name}, a text, got {shortened(value)}")
        return Expression(
            id=key,
            text=self._text(text),
            kind=kind,
            aspect=aspect,
            object_ids=tuple(objects),
            annotation_ids=tuple(dict.fromkeys(map(str, annotations))) if self.has_masks else (),
            answer=answer,
        )

    @cached_property
    def _mask_lists(self) -> dict[str, Any]:
        return dictionary(read_json(self.mask_path), f"{self.mask_path}")

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        where = f"{self.mask_path}: annotation {annotation_id!r}"
        if annotation_id not in self._mask_lists:
            raise DatasetError(f"{where} of video {clip.name!r} is not in the file", "unknown annotation")
        return mask_of_list(self._mask_lists[annotation_id], clip, frame_index, where)


def mask_of_list(encoded: Any, clip: Clip, frame_index: int, where: str) -> NDArray[np.bool_]:
    """The mask of one frame out of a list of one for every frame: bool [H, W].

    Args:
        encoded: Masks in one of COCO's forms, None where the object is not seen.
        clip: Whose they are.
        frame_index: Which one.
        where: The file and key, for the message.

    Raises:
        DatasetError: The list is of another length than the clip, or the mask is broken.
    """
    num_frames = len(clip.frame_names)
    if not isinstance(encoded, list) or len(encoded) != num_frames:
        got = count_of(len(encoded), "mask") if isinstance(encoded, list) else shortened(encoded)
        raise DatasetError(
            f"{where}: expected one mask or null for each of {num_frames} frames, got {got}", "broken mask"
        )
    where = f"{where}, frame {clip.frame_names[frame_index]}"
    return decode_segmentation(encoded[frame_index], clip.frames.size, where)
