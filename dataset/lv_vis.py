"""Reader of LV-VIS: every category in a video is asked for by its name.

Either the official files, in the form of YouTube-VIS:

    ROOT/<split>_instances.json                     {"videos": [{"id", "file_names", "height", "width"}],
                                                     "categories": [{"id", "name"}],
                                                     "annotations": [{"id", "video_id", "category_id",
                                                                      "segmentations": [RLE or null]}]}
    ROOT/<split>/JPEGImages/<video>/<frame>.jpg     or ROOT/JPEGImages/<split>/...

or what VISA made of them by a script that is not public: ROOT/<split>/{meta_expressions,mask_dict}.json as
`rle_layout` says, each expression being a category's name.

Source: Wang et al., "Towards Open-Vocabulary Video Instance Segmentation", ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from dataset.clip import Clip, Expression, FrameFiles
from dataset.errors import DatasetError
from dataset.json_files import dictionary, field, listing, read_json, safe_name, shortened, text_field
from dataset.rle_layout import RleReader


class LvVis(RleReader):
    """LV-VIS. A name, with spaces for "_", means all objects of that category.

    Args:
        root: The data set's folder, in either of its forms.
        split: "train" or "val"; the test split's masks are not public.
        lenient: As for every reader.

    Raises:
        DatasetError: A file is missing or not of the layout, or a name climbs out of the root.
    """

    splits = ("train", "val")

    def _text(self, text: str) -> str:
        return text.replace("_", " ")

    def _find_files(self) -> None:
        folder = self.root / self.split
        self.meta_path = folder / "meta_expressions.json"
        self.mask_path = folder / "mask_dict.json"
        self.frames_path = _first_of(
            [folder / "JPEGImages", self.root / "JPEGImages" / self.split], Path.is_dir
        )

    def _read_clips(self) -> Iterable[Clip]:
        self._find_files()
        if self.meta_path.is_file():
            return super()._read_clips()
        name = f"{self.split}_instances.json"
        folders = (self.root, self.root / "Annotations", self.root / "annotations")
        self.meta_path = self.mask_path = _first_of([folder / name for folder in folders], Path.is_file)
        content = dictionary(read_json(self.meta_path), f"{self.meta_path}")
        categories = dict(self._each(self._records(content, "categories"), self._category))
        videos = dict(self._each(self._records(content, "videos"), self._video))
        named: dict[int, dict[str, list[str]]] = {number: {} for number in videos}
        instances = ((record, videos, categories) for (record,) in self._records(content, "annotations"))
        for video, category, key in self._each(instances, self._instance):
            named[video].setdefault(category, []).append(key)
        # for the masks; the rest of the file is no longer needed
        self._mask_lists = _segmentations(content)
        return self._each(((*videos[number], ids_of) for number, ids_of in named.items()), self._named_clip)

    def _records(self, content: dict[str, Any], key: str) -> list[tuple[Any]]:
        return [
            (item,)
            for item in listing(field(content, key, f"{self.meta_path}"), f"{self.meta_path}, {key!r}")
        ]

    def _category(self, record: Any) -> tuple[int, str]:
        where = f"{self.meta_path}, a category"
        return _number(record, "id", where), text_field(record, "name", where)

    def _video(self, record: Any) -> tuple[int, tuple[str, FrameFiles]]:
        """A video's number, with its name and frames."""
        number = _number(record, "id", f"{self.meta_path}, a video")
        where = f"{self.meta_path}: video {number}"
        names = listing(field(record, "file_names", where), f"{where}, 'file_names'")
        paths = [PurePosixPath(safe_name(name, f"{where}, 'file_names'")) for name in names]
        if not paths:
            raise DatasetError(f"{where} has no frames", "no frames")
        folders = {str(path.parent) for path in paths}
        if len(folders) > 1 or folders == {"."}:
            raise DatasetError(
                f"{where}: expected file_names in one folder, got {shortened(sorted(folders))}"
            )
        (name,) = folders
        # in the file's order, which is the masks'
        stems = [path.stem for path in paths]
        return number, (name, FrameFiles(self.frames_path / name, stems, self._size(record, where)))

    def _instance(
        self, record: Any, videos: dict[int, Any], categories: dict[int, str]
    ) -> tuple[int, str, str]:
        """An annotation's video, category's name and key."""
        key = _number(record, "id", f"{self.meta_path}, an annotation")
        where = f"{self.meta_path}: annotation {key}"
        video, category = _number(record, "video_id", where), _number(record, "category_id", where)
        for sort, number, known in (("video", video, videos), ("category", category, categories)):
            if number not in known:
                raise DatasetError(
                    f"{where} is of {sort} {number}, which is not in the file", "unknown annotation"
                )
        return video, categories[category], str(key)

    def _named_clip(self, name: str, frames: FrameFiles, ids_of: dict[str, list[str]]) -> Clip:
        expressions = (
            Expression(
                id=str(index),
                text=self._text(category),
                kind="referring",
                aspect=None,
                object_ids=tuple(int(key) for key in keys),
                annotation_ids=tuple(keys),
            )
            for index, (category, keys) in enumerate(ids_of.items())
        )
        return self._make_clip(name, frames, tuple(expressions))

    @cached_property
    def _mask_lists(self) -> dict[str, Any]:
        content = dictionary(read_json(self.mask_path), f"{self.mask_path}")
        return content if self.mask_path != self.meta_path else _segmentations(content)


def _segmentations(content: dict[str, Any]) -> dict[str, Any]:
    return {
        str(record.get("id")): record.get("segmentations")
        for record in content["annotations"]
        if isinstance(record, dict)
    }


def _number(record: Any, key: str, where: str) -> int:
    value = field(record, key, where)
    if not isinstance(value, int):
        raise DatasetError(f"{where}: expected {key}, a whole number, got {shortened(value)}")
    return value


def _first_of(paths: list[Path], is_there: Callable[[Path], bool]) -> Path:
    return next((path for path in paths if is_there(path)), paths[0])
