"""Reader of Ref-DAVIS17: every object of DAVIS 2017 is described four times.

Either as ReferFormer's converter leaves it, which is what most systems use:

    ROOT/meta_expressions/<split>/meta_expressions.json     as `label_layout` says
    ROOT/<split>/JPEGImages/<video>/<frame>.jpg
    ROOT/<split>/Annotations/<video>/<frame>.png
    ROOT/<split>/meta.json                                  the objects, if it is there

or as it is downloaded, which this reader turns into the same expressions under the same ids:

    ROOT/DAVIS/ImageSets/2017/{train,val}.txt
    ROOT/DAVIS/JPEGImages/480p/<video>/<frame>.jpg
    ROOT/DAVIS/Annotations_unsupervised/480p/<video>/<frame>.png
    ROOT/davis_text_annotations/Davis17_annot{1,2}{,_full_video}.txt    lines: video object "words"

An object's expressions are consecutive: annotator 1 having seen the first frame, then the whole video, then
annotator 2 likewise. Annotator 2's files are in Latin-1.

Legend: T frames, H W pixels.

Source: Khoreva et al., "Video Object Segmentation with Language Referring Expressions", ACCV 2018.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression, frames_in
from dataset.errors import DatasetError
from dataset.json_files import read_text, safe_name, shortened, whole_number
from dataset.label_layout import LabelReader, object_number

NUM_ANNOTATORS = 4
VOID = 255
TEXT_FILES = (
    "Davis17_annot1.txt",
    "Davis17_annot1_full_video.txt",
    "Davis17_annot2.txt",
    "Davis17_annot2_full_video.txt",
)
# How the text files spell three videos, and what they are called.
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}


class RefDavis17(LabelReader):
    """Ref-DAVIS17. `Expression.annotator` tells the four descriptions of an object apart, 0 to 3.

    Args:
        root: The data set's folder, in either of its forms.
        split: "valid" (30 videos) or "train" (60).
        lenient: As for every reader.

    Raises:
        DatasetError: A file is missing or not of the layout, or a name climbs out of the root.
    """

    splits = ("valid", "train")

    def _read_clips(self) -> Iterable[Clip]:
        self.meta_path = self.root / "meta_expressions" / self.split / "meta_expressions.json"
        texts = self.root / "davis_text_annotations"
        if self.meta_path.is_file() or not texts.is_dir():
            self.frames_path = self.root / self.split / "JPEGImages"
            self.annotations_path = self.root / self.split / "Annotations"
            videos, objects = self._videos(self.meta_path), self._objects(self.objects_path)
        else:
            davis = self.root / "DAVIS"
            self.meta_path = (
                davis / "ImageSets" / "2017" / f"{'val' if self.split == 'valid' else 'train'}.txt"
            )
            self.frames_path = davis / "JPEGImages" / "480p"
            self.annotations_path = davis / "Annotations_unsupervised" / "480p"
            spoken = [self._spoken(texts / name) for name in TEXT_FILES]
            names = read_text(self.meta_path).split()
            return self._each(((name, spoken) for name in names), self._downloaded_clip)
        return self._each(((name, record, objects) for name, record in videos.items()), self._clip)

    def ignored(self, clip: Clip) -> NDArray[np.bool_] | None:
        """The pixels marked as void (255), bool [T, H, W]; None if there are none."""
        void = clip.masks.union([str(VOID)])
        return void if void.any() else None

    def _clip(self, name: str, record: Any, objects: dict[str, Any] | None) -> Clip:
        expressions = record.get("expressions") if isinstance(record, dict) else None
        if isinstance(expressions, dict):
            # four of an object follow each other by number, whatever their order in the file
            keys = sorted(expressions, key=lambda key: whole_number(key) or 0)
            record = {**record, "expressions": {key: expressions[key] for key in keys}}
        return super()._clip(name, record, objects)

    def _expression(self, key: str, record: Any, where: str, known: list[str] | None) -> Expression:
        expression = super()._expression(key, record, where, known)
        number = whole_number(key)
        if number is None:
            raise DatasetError(f"{where}: expected expressions numbered from 0 on, got {shortened(key)}")
        return replace(expression, annotator=number % NUM_ANNOTATORS)

    def _spoken(self, path: Path) -> dict[str, list[tuple[int, str]]]:
        """One text file: for every video its lines as (object, words), by object."""
        lines = defaultdict(list)
        items = ((number, line, path) for number, line in enumerate(read_text(path).split("\n"), 1))
        for video, number, words in self._each((item for item in items if item[1].strip()), _line):
            lines[video].append((number, words))
        # sorted as the converter sorts, by the number's digits, so that ids agree: 1, 10, 2
        return {video: sorted(spoken, key=lambda line: str(line[0])) for video, spoken in lines.items()}

    def _downloaded_clip(self, name: str, spoken: list[dict[str, list[tuple[int, str]]]]) -> Clip:
        """The clip of the record that the converter would have written."""
        where = f"{self.meta_path}: video {name!r}"
        safe_name(name, where, nested=False)
        per_annotator = [lines.get(name, []) for lines in spoken]
        numbers = [[number for number, _ in lines] for lines in per_annotator]
        if any(others != numbers[0] for others in numbers) or not numbers[0]:
            raise DatasetError(
                f"{where}: expected the same objects in all four text files, got {shortened(numbers)}"
            )
        expressions: dict[str, Any] = {}
        for described in zip(*per_annotator, strict=True):
            for number, words in described:
                expressions[str(len(expressions))] = {"exp": words, "obj_id": number}
        frames = frames_in(self.frames_path / name, where)
        return self._clip(name, {"frames": frames, "expressions": expressions}, None)


def _line(number: int, line: str, path: Path) -> tuple[str, int, str]:
    where = f"{path}: line {number}"
    parts = line.split(maxsplit=2)
    if len(parts) != 3:
        raise DatasetError(f'{where}: expected a video, an object and "words", got {shortened(line)}')
    words = " ".join(parts[2].split())
    if len(words) > 1 and words[0] == words[-1] == '"':
        words = words[1:-1]
    return MISSPELT.get(parts[0], parts[0]), object_number(parts[1], where), words
