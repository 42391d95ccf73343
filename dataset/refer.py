"""Readers of the refer layout, phrases about objects in images: RefCOCO, +, g, RefCLEF and gRefCOCO.

    ROOT/refcoco/instances.json          COCO's images and annotations
    ROOT/refcoco/refs(unc).p             a pickled list of records, one for each object:
                                         {ref_id, ann_id, image_id, split, sentences: [{sent_id, sent, ...}]}
    ROOT/grefcoco/grefs(unc).json        the same as JSON; ann_id is a list, [-1] where nothing is meant
    ROOT/images/mscoco/images/train2014/*.jpg, ROOT/images/saiapr_tc-12/*.jpg (RefCLEF)

ROOT may also be the folder above `refer_seg`. A clip is an image with all that this split says about it.

Sources: Kazemzadeh et al., "ReferItGame", EMNLP 2014; Yu et al., "Modeling Context in Referring Expressions",
ECCV 2016; Mao et al., CVPR 2016 (RefCOCOg); Liu et al., "GRES", CVPR 2023 (gRefCOCO).

Legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles
from dataset.errors import DatasetError
from dataset.json_files import field, listing, picture_size, read_json, safe_name, text_field
from dataset.layout import place
from dataset.masks import decode_segmentation
from dataset.reader import Reader
from dataset.safe_pickle import load_pickle

COCO_FOLDERS = ("images/mscoco/images/train2014", "images/train2014", "../coco/train2014")
SAIAPR_FOLDERS = ("images/saiapr_tc-12",)


class ReferReader(Reader):
    """One data set of the layout; the classes below say which. See `Reader`."""

    folder: ClassVar[str]
    references: ClassVar[tuple[str, ...]] = ("refs(unc).p",)
    pictures: ClassVar[tuple[str, ...]] = COCO_FOLDERS

    def _read_clips(self) -> Iterable[Clip]:
        own = place(self.root, self.folder, f"refer_seg/{self.folder}")
        self.meta_path = place(own, *self.references)
        self.instances_path = own / "instances.json"
        self._pictures = place(own.parent, *self.pictures)
        instances = read_json(self.instances_path)
        images, annotations = (self._by_id(instances, key) for key in ("images", "annotations"))
        said: dict[str, list[Expression]] = {}
        for image_id, expressions in self._each(enumerate(self._records()), self._expressions):
            if expressions:
                said.setdefault(image_id, []).extend(expressions)
        named = {key for expressions in said.values() for item in expressions for key in item.annotation_ids}
        self._segmentations = {
            key: annotations[key].get("segmentation") for key in named & annotations.keys()
        }
        yield from self._each(((images, *item) for item in said.items()), self._clip)

    def _records(self) -> list[Any]:
        content = load_pickle(self.meta_path) if self.meta_path.suffix == ".p" else read_json(self.meta_path)
        return listing(content, f"{self.meta_path}")

    def _by_id(self, instances: Any, key: str) -> dict[str, dict[str, Any]]:
        where = f"{self.instances_path}: {key}"
        records = listing(field(instances, key, f"{self.instances_path}"), where)
        return {str(field(record, "id", where)): record for record in records}

    def _expressions(self, number: int, record: Any) -> tuple[str, list[Expression]]:
        """The image's key and what one record says about it; nothing if it is of another split."""
        where = f"{self.meta_path}: record {number}"
        image_id = str(field(record, "image_id", where))
        if text_field(record, "split", where) != self.split:
            return image_id, []
        keys = field(record, "ann_id", where)
        keys = keys if isinstance(keys, list) else [keys]
        annotation_ids = tuple(str(key) for key in keys if key not in (None, -1))
        sentences = listing(field(record, "sentences", where), f"{where}, sentences")
        return image_id, [
            Expression(
                id=safe_name(str(field(sentence, "sent_id", where)), where, nested=False),
                text=text_field(sentence, "sent", where),
                kind="referring" if annotation_ids else "absent",
                aspect=None,
                object_ids=tuple(int(key) for key in keys if key not in (None, -1) and str(key).isdigit()),
                annotation_ids=annotation_ids,
            )
            for sentence in sentences
        ]

    def _clip(self, images: dict[str, dict[str, Any]], image_id: str, said: list[Expression]) -> Clip:
        where = f"{self.instances_path}: image {image_id}"
        if image_id not in images:
            raise DatasetError(f"{where}, which {self.meta_path.name} speaks of, is not in the file")
        record = images[image_id]
        name = PurePosixPath(safe_name(field(record, "file_name", where), where))
        size = picture_size(record, where)
        folder = self._pictures / name.parent
        return self._make_clip(str(name.with_suffix("")), FrameFiles(folder, [name.stem], size), said)

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        where = f"{self.instances_path}: annotation {annotation_id}"
        if annotation_id not in self._segmentations:
            raise DatasetError(f"{where} of image {clip.name!r} is not in the file", "missing annotation")
        return decode_segmentation(self._segmentations[annotation_id], clip.frames.size, where)


class Refcoco(ReferReader):
    """RefCOCO, split by UNC."""

    splits = ("val", "testA", "testB", "train")
    folder = "refcoco"


class RefcocoPlus(ReferReader):
    """RefCOCO+, whose phrases avoid places in the image."""

    splits = ("val", "testA", "testB", "train")
    folder = "refcoco+"


class Refcocog(ReferReader):
    """RefCOCOg with its longer phrases, split by UMD."""

    splits = ("val", "test", "train")
    folder, references = "refcocog", ("refs(umd).p",)


class Refclef(ReferReader):
    """RefCLEF (ReferIt), split by UNC; its images are those of SAIAPR TC-12."""

    splits = ("val", "testA", "testB", "testC", "test", "train")
    folder = "refclef"
    pictures = SAIAPR_FOLDERS


class Grefcoco(ReferReader):
    """gRefCOCO: phrases that mean several objects, or none."""

    splits = ("val", "testA", "testB", "train")
    folder, references = "grefcoco", ("grefs(unc).json", "grefs(unc).p", "refs(unc).p")
