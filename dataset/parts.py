"""Readers of objects and their parts: PACO-LVIS and Pascal-Part, both written as COCO writes annotations.

    vlpart/paco/annotations/paco_lvis_v1_{train,val,test}.json    coco/<file_name>
    vlpart/pascal_part/{train,val}.json
    vlpart/pascal_part/VOCdevkit/VOC2010/JPEGImages/<file_name>

These lie in one folder, ROOT. A category is an object ("mug_(container)") or one of its parts ("dog:head").
All of an image's annotations of one category are one expression: LISA and its followers ask for a single one
of them, which is wrong wherever an image shows two.

Sources: Ramanathan et al., "PACO: Parts and Attributes of Common Objects", CVPR 2023; Chen et al., "Detect
What You Can", CVPR 2014, as written by Sun et al., "Going Denser with Open-Vocabulary Part Segmentation",
ICCV 2023.

Legend: H W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles
from dataset.errors import DatasetError
from dataset.json_files import (
    field,
    listing,
    picture_size,
    read_json,
    record_key,
    safe_name,
    shortened,
    text_field,
    whole_number,
)
from dataset.layout import place
from dataset.masks import decode_segmentation
from dataset.reader import Reader


def part_wordings(category: str) -> tuple[str, ...]:
    """The ways to ask for a category.

    "mug_(container)" is asked for as "mug", and "dog:head" as "the head of the dog" or "dog head".
    """
    thing, _, part = (piece.partition("_(")[0].replace("_", " ") for piece in category.strip().partition(":"))
    return (f"the {part} of the {thing}", f"{thing} {part}") if part else (thing,)


class PartsReader(Reader):
    """What the two have in common; see `Reader`. An annotation id is a category's number in the image."""

    splits = ("train", "val")

    def _read_clips(self) -> Iterable[Clip]:
        self.meta_path, self._images = self._places()
        content = read_json(self.meta_path)
        self._categories = dict(self._each(self._listed(content, "categories"), self._category))
        self._segmentations: dict[int | str, dict[int, list[Any]]] = {}
        for image_id, category, annotation in self._each(self._listed(content, "annotations"), _annotation):
            self._segmentations.setdefault(image_id, {}).setdefault(category, []).append(annotation)
        self._image_ids: dict[str, int | str] = {}
        for clip in self._each(self._listed(content, "images"), self._clip):
            if clip.expressions:
                yield clip

    @abstractmethod
    def _places(self) -> tuple[Path, Path]:
        """The annotation file and the folder of the images."""

    def _listed(self, content: Any, key: str) -> Iterable[tuple[Any, str]]:
        where = f"{self.meta_path}: {key}"
        for number, record in enumerate(listing(field(content, key, f"{self.meta_path}"), where)):
            yield record, f"{where}[{number}]"

    def _category(self, record: Any, where: str) -> tuple[int, str]:
        return _category_number(record, "id", where), text_field(record, "name", where)

    def _clip(self, record: Any, where: str) -> Clip:
        image_id = record_key(record, "id", where)
        path = PurePosixPath(safe_name(field(record, "file_name", where), where))
        size = picture_size(record, where)
        name = str(path.with_suffix(""))
        self._image_ids[name] = image_id
        expressions = [
            self._expression(category, where) for category in sorted(self._segmentations.get(image_id, {}))
        ]
        return self._make_clip(name, FrameFiles(self._images / path.parent, [path.stem], size), expressions)

    def _expression(self, category: int, where: str) -> Expression:
        if category not in self._categories:
            raise DatasetError(f"{where}: an annotation's category {shortened(category)} is not in the file")
        text, *others = part_wordings(self._categories[category])
        return Expression(
            id=str(category),
            text=text,
            kind="referring",
            aspect="part" if others else "category",
            object_ids=(category,),
            annotation_ids=(str(category),),
            other_texts=tuple(others),
        )

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        found = self._segmentations[self._image_ids[clip.name]].get(int(annotation_id), [])
        mask = np.zeros(clip.frames.size, dtype=bool)
        for key, segmentation in found:
            mask |= decode_segmentation(segmentation, clip.frames.size, f"{self.meta_path}: annotation {key}")
        return mask


def _annotation(record: Any, where: str) -> tuple[int | str, int, tuple[int | str, Any]]:
    """An annotation's image and category, and its key with its mask."""
    image_id, category = record_key(record, "image_id", where), _category_number(record, "category_id", where)
    return image_id, category, (record_key(record, "id", where), record.get("segmentation"))


def _category_number(record: Any, key: str, where: str) -> int:
    number = whole_number(field(record, key, where))
    if number is None:
        raise DatasetError(f"{where}: expected {key}, a category's number, got {shortened(record[key])}")
    return number


class PacoLvis(PartsReader):
    """PACO-LVIS: 75 objects of everyday life and 456 of their parts, on COCO's images."""

    splits = ("val", "test", "train")

    def _places(self) -> tuple[Path, Path]:
        table = f"annotations/paco_lvis_v1_{self.split}.json"
        return place(self.root, f"vlpart/paco/{table}", f"paco/{table}", table), place(self.root, "coco", "")


class PascalPart(PartsReader):
    """Pascal-Part: the parts of 20 kinds of animals, vehicles and things."""

    splits = ("val", "train")

    def _places(self) -> tuple[Path, Path]:
        base = place(self.root, "vlpart/pascal_part", "pascal_part", "")
        return base / f"{self.split}.json", base / "VOCdevkit" / "VOC2010" / "JPEGImages"
