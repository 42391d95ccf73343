"""Reader of the ReVOS layout: videos as folders of frames, expressions with their masks as RLE, all lazy.

    ROOT/JPEGImages/<video>/<frame>.jpg         video names may be nested: "UVO/all/-fbscFfkh4M"
    ROOT/meta_expressions_<split>_.json         as `rle_layout` says, with "height" and "width"
    ROOT/mask_dict.json                         as `rle_layout` says; one file for all splits
    ROOT/mask_dict_foreground.json              {name: {"masks_rle": [RLE or null]}}, optional

An expression also holds "type_id" (0 referring, 1 reasoning, 2 absent), and in our own benchmark, which
`python -m dataset.synthetic write` makes, "aspect" (a finer sort of question) and "answer".

Source: Yan et al., "VISA: Reasoning Video Object Segmentation via Large Language Models", ECCV 2024.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression
from dataset.errors import DatasetError
from dataset.json_files import dictionary, field, picture_size, read_json, shortened
from dataset.rle_layout import RleReader, mask_of_list
from dataset.sample import KINDS, Kind

__all__ = ["Expression", "Revos", "RevosVideo"]

RevosVideo = Clip  # its name before there were other data sets


class Revos(RleReader):
    """A data set in the ReVOS layout. The mask file is read when the first mask is asked for.

    Args:
        root: Its folder.
        split: "valid", "train" or "train_sub", the part of the meta file's name.
        lenient: As for every reader.

    Raises:
        DatasetError: A file is missing or not of the layout, or a name climbs out of the root. The message
            names the file and the key.
    """

    splits = ("valid", "train", "train_sub")

    def foreground(self, clip: Clip) -> NDArray[np.bool_]:
        """The union of all annotated objects, bool [T, H, W]: read if the file exists, else made here.

        Raises:
            DatasetError: The file lacks the video or is broken, or an annotation is.
        """
        if not self.foreground_path.is_file():
            return super().foreground(clip)
        masks = [self._foreground_mask(clip, index) for index in range(len(clip.frame_names))]
        return np.array(masks, dtype=bool).reshape(clip.frames.shape[:3])

    def frame_faults(
        self, clip: Clip, frame_index: int, annotated: NDArray[np.bool_]
    ) -> Iterator[DatasetError]:
        """Where the foreground file, if there is one, is broken or leaves annotated pixels out."""
        if not self.foreground_path.is_file():
            return
        try:
            left_out = (annotated & ~self._foreground_mask(clip, frame_index)).any()
        except DatasetError as error:
            yield error
            return
        if left_out:
            where = f"{self.foreground_path}: video {clip.name!r}"
            yield DatasetError(f"{where}: annotated pixels are not in the foreground", "foreground")

    def _foreground_mask(self, clip: Clip, frame_index: int) -> NDArray[np.bool_]:
        where = f"{self.foreground_path}: video {clip.name!r}"
        if clip.name not in self._foreground_lists:
            raise DatasetError(f"{where} is not in the file", "foreground")
        encoded = field(self._foreground_lists[clip.name], "masks_rle", where)
        return mask_of_list(encoded, clip, frame_index, where)

    def _find_files(self) -> None:
        self.meta_path = self.root / f"meta_expressions_{self.split}_.json"
        self.mask_path = self.root / "mask_dict.json"
        self.foreground_path = self.root / "mask_dict_foreground.json"
        self.frames_path = self.root / "JPEGImages"

    def _size(self, record: dict[str, Any], where: str) -> tuple[int, int]:
        return picture_size(record, where)

    def _kind(self, record: dict[str, Any], annotations: list[Any], where: str) -> Kind:
        type_id = record.get("type_id")
        if not isinstance(type_id, int) or type_id not in range(len(KINDS)):
            raise DatasetError(f"{where}: expected type_id 0, 1 or 2, got {shortened(type_id)}")
        kind = KINDS[type_id]
        if (kind == "absent") != (not annotations):
            expected = "no annotation" if kind == "absent" else "an annotation"
            raise DatasetError(
                f"{where}: a {kind} expression has {expected}, got anno_id {shortened(annotations)}",
                "expression without object" if kind != "absent" else "broken record",
            )
        return kind

    @cached_property
    def _foreground_lists(self) -> dict[str, Any]:
        return dictionary(read_json(self.foreground_path), f"{self.foreground_path}")
