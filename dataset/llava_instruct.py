"""Reader of LLaVA-Instruct: conversations about COCO's images, every turn of them.

    ROOT/llava_dataset/llava_instruct_150k.json, ROOT/coco/train2017/*.jpg

ROOT may also be `llava_dataset`, if `coco` is beside it.

Source: Liu et al., "Visual Instruction Tuning", NeurIPS 2023.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from dataset.clip import FrameFiles
from dataset.json_files import field, safe_name
from dataset.layout import place
from dataset.talk import TalkReader

FILE = "llava_instruct_150k.json"


class LlavaInstruct(TalkReader):
    """See the file's description and `Reader`."""

    def _find_file(self) -> Path:
        self._images = place(self.root, "coco/train2017", "train2017", "../coco/train2017")
        return place(self.root, f"llava_dataset/{FILE}", FILE)

    def _frames(self, record: dict[str, Any], where: str) -> FrameFiles:
        path = PurePosixPath(safe_name(field(record, "image", where), where))
        return FrameFiles(self._images / path.parent, [path.stem])
