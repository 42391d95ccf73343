"""Reader of YouTube-VOS for training: every category in a video is asked for by its name.

    ROOT/train/meta.json                        the objects, as `label_layout` says
    ROOT/train/JPEGImages/<video>/<frame>.jpg
    ROOT/train/Annotations/<video>/<frame>.png

A name means all objects of that category, as VideoLISA trains on it.

Source: Xu et al., "YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark", 2018.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dataset.clip import Clip, Expression, FrameFiles, frames_in
from dataset.json_files import dictionary, field, safe_name, text_field
from dataset.label_layout import LabelReader, object_number


class YoutubeVos(LabelReader):
    """YouTube-VOS. An expression is a category's name with spaces for "_", its id a number.

    Args:
        root: The folder of the split's folder.
        split: "train"; the others' masks are not public.
        lenient: As for every reader.

    Raises:
        DatasetError: A file is missing or not of the layout, or a name climbs out of the root.
    """

    splits = ("train",)

    def _read_clips(self) -> Iterable[Clip]:
        folder = self.root / self.split
        self.meta_path = folder / "meta.json"
        self.frames_path = folder / "JPEGImages"
        self.annotations_path = folder / "Annotations"
        return self._each(self._videos(self.meta_path).items(), self._clip_of_categories)

    def _clip_of_categories(self, name: str, record: Any) -> Clip:
        where = f"{self.meta_path}: video {name!r}"
        safe_name(name, where)
        objects = dictionary(field(record, "objects", where), f"{where}, 'objects'")
        numbers_of: dict[str, list[int]] = {}
        known = []
        for key, item in objects.items():
            number = object_number(key, f"{where}, object {key!r}")
            category = text_field(item, "category", f"{where}, object {key!r}")
            numbers_of.setdefault(category, []).append(number)
            known.append(str(number))
        expressions = tuple(
            Expression(
                id=str(index),
                text=category.replace("_", " "),
                kind="referring",
                aspect=None,
                object_ids=tuple(numbers),
                annotation_ids=tuple(str(number) for number in numbers),
            )
            for index, (category, numbers) in enumerate(numbers_of.items())
        )
        folder = self.frames_path / name
        return self._make_clip(name, FrameFiles(folder, frames_in(folder, where)), expressions, known)
