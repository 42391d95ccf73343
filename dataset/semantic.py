"""Readers of images whose every pixel has a class: ADE20K, COCO-Stuff and Mapillary Vistas.

    ade20k/images/{training,validation}/<name>.jpg      ade20k/annotations/{...}/<name>.png
    ade20k/objectInfo150.txt                            its table of classes; label 0 is "other"
    cocostuff/{train2017,val2017}/<name>.png            coco/{...}/<name>.jpg
    mapillary/{training,validation}/images/<name>.jpg   mapillary/{...}/v2.0/labels/<name>.png
    mapillary/config_v2.0.json                          {"labels": [{"readable", "evaluate", ...}]}

These lie in one folder, ROOT; ROOT may also be `ade20k` or `mapillary` itself. Every class seen in an image
is an expression of its clip. Which these are stands in the label map, which is read when they are asked for.

Sources: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017; Caesar et al., "COCO-Stuff: Thing and
Stuff Classes in Context", CVPR 2018; Neuhold et al., "The Mapillary Vistas Dataset", ICCV 2017. As in LISA,
COCO-Stuff's catch-all classes, whose names have a hyphen, are left out.

Legend: N objects, H W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles, LazyMasks
from dataset.errors import DatasetError
from dataset.json_files import field, listing, read_json, read_text, text_field
from dataset.layout import place
from dataset.masks import read_label_map
from dataset.reader import Reader
from dataset.sample import Turn

# The names of its labels in order, as its makers list them (CC BY 4.0).
COCO_STUFF_NAMES = Path(__file__).parent / "class_names" / "cocostuff.txt"


class LabelledImage(Clip):
    """An image and its label map. Which classes it shows is found out when it is asked.

    Args:
        name: See `Clip`.
        frames: The image.
        labels: Gives the label map, [H, W].
        class_names: Label -> name; other labels are nothing.
    """

    def __init__(
        self,
        name: str,
        frames: FrameFiles,
        labels: Callable[[], NDArray[np.uint8]],
        class_names: Mapping[int, str],
    ) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "_labels", labels)
        object.__setattr__(self, "_class_names", class_names)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """One for each class in the image, by label."""
        return tuple(
            Expression(
                id=str(label),
                text=self._class_names[label],
                kind="referring",
                aspect="category",
                object_ids=(label,),
                annotation_ids=(str(label),),
            )
            for label in np.unique(self._labels()).tolist()
            if label in self._class_names
        )

    @property
    def turns(self) -> tuple[Turn, ...]:
        """One for each expression."""
        return tuple(
            Turn(item.text, "[SEG]", item.kind, item.aspect or "", (index,))
            for index, item in enumerate(self.expressions)
        )

    @property
    def masks(self) -> LazyMasks:
        """Bool [N, 1, H, W], one for each class in the image."""
        keys = [item.annotation_ids[0] for item in self.expressions]
        return LazyMasks(keys, self.frames, lambda key, _: self._labels() == int(key))


class SemanticReader(Reader):
    """What the three have in common; see `Reader`."""

    splits = ("val", "train")
    folders: ClassVar[Mapping[str, str]] = {"val": "validation", "train": "training"}

    def _read_clips(self) -> Iterable[Clip]:
        self._images, self.meta_path = self._places(self.folders[self.split])
        self.class_names = self._read_class_names()
        paths = sorted(self.meta_path.glob("*.png"))
        if not paths:
            raise DatasetError(f"{self.meta_path}: expected label maps (.png), found none", "missing file")
        self._last: tuple[str, NDArray[np.uint8]] | None = None
        for path in paths:
            frames = FrameFiles(self._images, [path.stem])
            yield LabelledImage(path.stem, frames, partial(self._labels, path.stem), self.class_names)

    @abstractmethod
    def _places(self, folder: str) -> tuple[Path, Path]:
        """The folders of images and label maps of a split."""

    @abstractmethod
    def _read_class_names(self) -> dict[int, str]:
        """Label -> name of every class that is asked for."""

    def _labels(self, name: str) -> NDArray[np.uint8]:
        # A training draw asks for an image's classes and then for their masks: one reading does.
        if self._last is None or self._last[0] != name:
            self._last = name, read_label_map(self.meta_path / f"{name}.png", self._by_name[name].frames.size)
        return self._last[1]

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        return clip.masks[clip.annotation_ids.index(annotation_id), frame_index]


class Ade20k(SemanticReader):
    """ADE20K's scene parsing benchmark, 150 classes; a class is asked for by the first of its names."""

    def _places(self, folder: str) -> tuple[Path, Path]:
        base = place(self.root, "ade20k", "ADEChallengeData2016", "")
        self._table = base / "objectInfo150.txt"
        return base / "images" / folder, base / "annotations" / folder

    def _read_class_names(self) -> dict[int, str]:
        names = {}
        for number, line in enumerate(read_text(self._table).splitlines()):
            cells = line.split("\t")
            if cells[0].strip().isdigit() and len(cells) >= 2:
                names[int(cells[0])] = cells[-1].partition(",")[0].strip()
            elif number and line.strip():
                raise DatasetError(
                    f"{self._table}: line {number + 1}: expected a number, shares and names between tabs"
                )
        return names


class CocoStuff(SemanticReader):
    """COCO-Stuff's 164,000 images, 182 classes without the catch-all ones; label 255 is nothing."""

    folders: ClassVar[Mapping[str, str]] = {"val": "val2017", "train": "train2017"}

    def _places(self, folder: str) -> tuple[Path, Path]:
        return place(self.root, f"coco/{folder}", folder), self.root / "cocostuff" / folder

    def _read_class_names(self) -> dict[int, str]:
        names = read_text(COCO_STUFF_NAMES).splitlines()
        return {label: name for label, name in enumerate(names) if "-" not in name}


class Mapillary(SemanticReader):
    """Mapillary Vistas 2.0: street scenes; classes that its own evaluation leaves out are not asked for."""

    def _places(self, folder: str) -> tuple[Path, Path]:
        base = place(self.root, "mapillary", "")
        self._table = base / "config_v2.0.json"
        return base / folder / "images", base / folder / "v2.0" / "labels"

    def _read_class_names(self) -> dict[int, str]:
        where = f"{self._table}: labels"
        records = listing(field(read_json(self._table), "labels", f"{self._table}"), where)
        names = {}
        for label, record in enumerate(records):
            name = text_field(record, "readable", f"{where}[{label}]").lower()
            if record.get("evaluate", True):
                names[label] = name
        return names
