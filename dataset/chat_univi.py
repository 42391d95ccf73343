"""Readers of what Chat-UniVi was tuned on: talk about images and videos, school questions with a picture.

    ROOT/Fine-tuning/MIMIC_imageonly/MIMIC-IT-imageonly.json, {CGD,LA,SD}/images/  an image, or several
    ROOT/ScienceQA_tuning/llava_train_QCM-LEA.json, train/                         those with an image only
    ROOT/Fine-tuning/VIDEO/video_chat.json, Activity_Videos/

Of every conversation the last question is taken, as in VISA.

Source: Jin et al., "Chat-UniVi", CVPR 2024; Li et al., "MIMIC-IT", 2023; Lu et al., ScienceQA, NeurIPS 2022.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from dataset.clip import FrameFiles
from dataset.errors import DatasetError
from dataset.json_files import field, safe_name, shortened
from dataset.layout import place
from dataset.pictures import PictureFiles, VideoFile
from dataset.talk import TalkReader

MIMIC_PARTS = ("CGD", "LA", "SD")


class Mimic(TalkReader):
    """MIMIC-IT's pictures: pairs to compare (CGD), LLaVA's images in context (LA), pairs of scenes (SD)."""

    last_only = True

    def _find_file(self) -> Path:
        self._folder = place(self.root, "Fine-tuning/MIMIC_imageonly", "MIMIC_imageonly", "")
        return self._folder / "MIMIC-IT-imageonly.json"

    def _frames(self, record: dict[str, Any], where: str) -> FrameFiles:
        given = field(record, "image", where)
        names = [safe_name(name, where) for name in (given if isinstance(given, list) else [given])]
        part = next((part for part in MIMIC_PARTS if names and part in names[0]), None)
        if part is None:
            raise DatasetError(
                f"{where}: expected an image of {', '.join(MIMIC_PARTS)}, got {shortened(given)}"
            )
        return PictureFiles([self._folder / part / "images" / name for name in names])


class ScienceQa(TalkReader):
    """ScienceQA's questions that come with a picture."""

    last_only = True

    def _find_file(self) -> Path:
        self._folder = place(self.root, "ScienceQA_tuning", "")
        return self._folder / "llava_train_QCM-LEA.json"

    def _frames(self, record: dict[str, Any], where: str) -> FrameFiles | None:
        if "image" not in record:
            return None
        name = str(record["image"]).replace("\\", "/")  # written on Windows
        path = PurePosixPath(safe_name(name, where))
        return FrameFiles(self._folder / "train" / path.parent, [path.stem])


class VideoTalk(TalkReader):
    """Talk about ActivityNet's videos."""

    last_only = True

    def _find_file(self) -> Path:
        self._folder = place(self.root, "Fine-tuning/VIDEO", "VIDEO", "")
        return self._folder / "video_chat.json"

    def _frames(self, record: dict[str, Any], where: str) -> FrameFiles:
        return VideoFile(self._folder / "Activity_Videos" / safe_name(field(record, "video", where), where))
