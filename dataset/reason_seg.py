"""Reader of ReasonSeg: questions that take reasoning, about images whose answers are outlined with polygons.

    ROOT/{train,val,test}/<name>.jpg
    ROOT/{train,val,test}/<name>.json    {"text": [...], "is_sentence": bool,
                                          "shapes": [{"label", "points": [[x, y], ...]}]}
    ROOT/explanatory/train.json          [{"image": "<name>.jpg", "query", "outputs"}]: reasons; optional

ROOT may also be a folder above `ReasonSeg` or `reason_seg/ReasonSeg`. All texts of an image ask for the same
pixels. Smaller outlines lie above larger ones; "ignore" is neither right nor wrong, and "flag" says nothing.
"test-short" and "test-long" are the halves of the test split whose texts are phrases and sentences.

Source: Lai et al., "LISA: Reasoning Segmentation via Large Language Model", CVPR 2024.

Legend: H W pixels, K points.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, FrameFiles
from dataset.errors import DatasetError
from dataset.json_files import field, listing, read_json, shortened, text_field
from dataset.layout import place
from dataset.masks import MAX_COORDINATE
from dataset.reader import Reader

TARGET_KEY = "target"
ASPECTS = ("short", "long")  # by is_sentence
_TARGET, _IGNORED = 1, 2


class ReasonSeg(Reader):
    """See the file's description and `Reader`. An expression's aspect is "long" for sentences, or "short"."""

    splits = ("val", "test", "test-short", "test-long", "train")

    def _read_clips(self) -> Iterable[Clip]:
        base = place(self.root, "reason_seg/ReasonSeg", "ReasonSeg", "")
        folder, _, self._half = self.split.partition("-")
        self.meta_path = base / folder
        self.reasons_path = base / "explanatory" / "train.json"
        if not self.meta_path.is_dir():
            raise DatasetError(f"expected a folder {self.meta_path}, found none", "missing file")
        records = sorted(self.meta_path.glob("*.json"))
        if not records:
            raise DatasetError(f"{self.meta_path}: expected a .json file beside every .jpg, found none")
        for clip in self._each(((path,) for path in records), self._clip):
            if not self._half or clip.expressions[0].aspect == self._half:
                yield clip

    def ignored(self, clip: Clip) -> NDArray[np.bool_]:
        """The pixels that do not count: bool [1, H, W]."""
        return (self._labels(clip) == _IGNORED)[None]

    def _clip(self, path: Path) -> Clip:
        record = read_json(path)
        sentence = field(record, "is_sentence", f"{path}")
        if sentence not in (True, False):
            raise DatasetError(f"{path}: expected is_sentence, true or false, got {shortened(sentence)}")
        texts = field(record, "text", f"{path}")
        texts = listing([texts] if isinstance(texts, str) else texts, f"{path}, text")
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DatasetError(f"{path}: expected text, a list of texts, got {shortened(texts)}")
        listing(field(record, "shapes", f"{path}"), f"{path}, shapes")
        expressions = [
            Expression(
                id=str(number),
                text=text.strip(),
                kind="reasoning",
                aspect=ASPECTS[sentence],
                object_ids=(0,),
                annotation_ids=(TARGET_KEY,),
                answer=self._reasons.get(path.stem),
            )
            for number, text in enumerate(texts)
        ]
        return self._make_clip(path.stem, FrameFiles(path.parent, [path.stem]), expressions)

    def _mask(self, clip: Clip, annotation_id: str, frame_index: int) -> NDArray[np.bool_]:
        return self._labels(clip) == _TARGET

    def _labels(self, clip: Clip) -> NDArray[np.uint8]:
        path = self.meta_path / f"{clip.name}.json"
        shapes = listing(field(read_json(path), "shapes", f"{path}"), f"{path}, shapes")
        layers = []
        for number, shape in enumerate(shapes):
            where = f"{path}: shape {number}"
            label = text_field(shape, "label", where).lower()
            if label != "flag":
                outline = _outline(field(shape, "points", where), clip.frames.size, where)
                layers.append((outline, _IGNORED if "ignore" in label else _TARGET))
        labels = np.zeros(clip.frames.size, dtype=np.uint8)
        for outline, label in sorted(layers, key=lambda layer: -np.count_nonzero(layer[0])):
            labels[outline] = label
        return labels

    @cached_property
    def _reasons(self) -> dict[str, str]:
        """Image's name -> why the answer is what it is."""
        if self.split != "train" or not self.reasons_path.is_file():
            return {}
        where = f"{self.reasons_path}"
        return {
            Path(text_field(record, "image", where)).stem: text_field(record, "outputs", where)
            for record in listing(read_json(self.reasons_path), where)
        }


def _outline(points: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """The pixels on and in an outline.

    Args:
        points: [[x, y]] * K in pixels; fractions are cut off.
        size: (H, W).
        where: The file and key, for the message.
    """
    import cv2

    try:
        corners = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or not (np.abs(corners) <= MAX_COORDINATE).all():
        raise DatasetError(
            f"{where}: expected points [x, y] in the picture, got {shortened(points)}", "broken mask"
        )
    area = np.zeros(size, dtype=np.uint8)
    corners = corners.astype(np.int32)[None]
    cv2.polylines(area, corners, True, 1)
    cv2.fillPoly(area, corners, 1)
    return area.astype(bool)
