"""Reader of Ref-YouTube-VOS: descriptions of single objects.

    ROOT/meta_expressions/<split>/meta_expressions.json     as `label_layout` says; "obj_id" in "train" only
    ROOT/<split>/JPEGImages/<video>/<frame>.jpg
    ROOT/train/Annotations/<video>/<frame>.png
    ROOT/train/meta.json                                    the objects, if it is there

The file of "valid" lists 507 videos, because it was made before a test split was cut from it. The benchmark
scores the 202 that are not in the file of "test", and this reader gives these 202.

Source: Seo et al., "URVOS: Unified Referring Video Object Segmentation Network with a Large-Scale Benchmark",
ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dataset.clip import Clip
from dataset.errors import DatasetError
from dataset.label_layout import LabelReader

NUM_SCORED = 202


class RefYoutubeVos(LabelReader):
    """Ref-YouTube-VOS. What it needs beyond the official files is made from them; no "mask_dict.pkl".

    Args:
        root: The folder of "meta_expressions" and of the splits' folders.
        split: "valid" (the videos that are scored), "train" or "test". Only "train" has masks.
        lenient: As for every reader.

    Raises:
        DatasetError: A file is missing or not of the layout, or a name climbs out of the root.
    """

    splits = ("valid", "train", "test")

    @property
    def has_masks(self) -> bool:
        """Whether this split's masks are public."""
        return self.split == "train"

    def _meta_path(self, split: str) -> Path:
        return self.root / "meta_expressions" / split / "meta_expressions.json"

    def _read_clips(self) -> Iterable[Clip]:
        self.meta_path = self._meta_path(self.split)
        self.frames_path = self.root / self.split / "JPEGImages"
        self.annotations_path = self.root / self.split / "Annotations"
        videos = self._videos(self.meta_path)
        if self.split == "valid":
            videos = self._scored(videos)
        objects = self._objects(self.objects_path)
        return self._each(((name, record, objects) for name, record in videos.items()), self._clip)

    def _scored(self, videos: dict[str, Any]) -> dict[str, Any]:
        test_path = self._meta_path("test")
        if test_path.is_file():
            test = self._videos(test_path)
            return {name: record for name, record in videos.items() if name not in test}
        if len(videos) > NUM_SCORED:
            raise DatasetError(
                f"{self.meta_path}: lists {len(videos)} videos, of which only those are scored that are not "
                f"in {test_path}: expected this file too, found none",
                "missing file",
            )
        return videos
