"""The result: words, and the mask of what was asked for in every frame; and its form on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visa.video import Video

RESULT_NAME = "result.json"
OVERLAY_NAME = "overlay.mp4"
CONTACT_SHEET_NAME = "contact_sheet.png"


@dataclass(frozen=True, eq=False)
class Tracklet:
    """What was found for one question about one video.

    Invariant: `masks` is the union of `object_masks` where those are given, and where nothing was found
    (`found` is False) no mask has a pixel.

    Attributes:
        question: the question, as it was put to the model.
        answer: the model's words.
        found: whether the video shows what was asked for.
        score: how sure the system is, higher is surer; finite.
        target_frame: index of the frame in which the object was segmented first; None if there is none.
        masks: bool [T, H, W] at the video's own size.
        video: the video, for drawing; not compared.
        frame_names: one name per frame, the video's own where left out.
        object_masks: bool [N, T, H, W], one row per object where several are told apart.
    """

    question: str
    answer: str
    found: bool
    score: float
    target_frame: int | None
    masks: np.ndarray = field(repr=False)
    video: Video
    frame_names: tuple[str, ...] = ()
    object_masks: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        shape = (self.video.num_frames, self.video.height, self.video.width)
        if self.masks.dtype != bool or self.masks.shape != shape:
            raise ValueError(
                f"expected bool masks {list(shape)}, got {self.masks.dtype} {list(self.masks.shape)}"
            )
        if not self.frame_names:
            object.__setattr__(self, "frame_names", tuple(self.video.frame_names))
        if len(self.frame_names) != shape[0]:
            raise ValueError(f"expected {shape[0]} frame names, got {len(self.frame_names)}")
        if self.target_frame is not None and not 0 <= self.target_frame < shape[0]:
            raise ValueError(f"expected a target frame in [0, {shape[0]}), got {self.target_frame}")
        if not math.isfinite(self.score):
            raise ValueError(f"expected a finite score, got {self.score}")
        if not self.found and self.masks.any():
            raise ValueError("nothing was found, yet there are masks: give empty masks or found=True")
        if self.object_masks is not None:
            self._check_objects(shape)

    def _check_objects(self, shape: tuple[int, int, int]) -> None:
        masks = self.object_masks
        if masks.dtype != bool or masks.ndim != 4 or masks.shape[1:] != shape:
            raise ValueError(
                f"expected bool object_masks [N, {shape[0]}, {shape[1]}, {shape[2]}], "
                f"got {masks.dtype} {list(masks.shape)}"
            )
        if not np.array_equal(masks.any(axis=0), self.masks):
            raise ValueError("expected masks to be the union of object_masks; they differ")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tracklet):
            return NotImplemented
        return (
            self._words() == other._words()
            and np.array_equal(self.masks, other.masks)
            and np.array_equal(self.masks_by_object(), other.masks_by_object())
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are compared by value

    def _words(self) -> tuple:
        return self.question, self.answer, self.found, self.score, self.target_frame, self.frame_names

    def masks_by_object(self) -> np.ndarray:
        """bool [N, T, H, W]: `object_masks`, or all of `masks` as one object."""
        return self.masks[None] if self.object_masks is None else self.object_masks

    def save(self, folder: str | Path) -> Path:
        """Write the result to a folder, made if need be.

        It holds `<frame name>.png` for every frame (mode L, 0 or 255), `overlay.mp4` (H.264, plays in a
        browser), `contact_sheet.png` and `result.json` (see `as_json`). `result.json` comes last: a folder
        without it is not finished. Masks of an earlier result in that folder do not stay behind.

        Returns:
            The folder.

        Raises:
            OSError: the folder cannot be written.
            InputError: a frame of the video cannot be read any more.
        """
        from PIL import Image

        from visa.contact_sheet import draw_contact_sheet
        from visa.overlay import write_video

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _remove_result(folder)
        for name, mask in zip(self.frame_names, self.masks, strict=True):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.png")
        write_video(folder / OVERLAY_NAME, self._drawn_frames(), self.video.fps)
        draw_contact_sheet(self).save(folder / CONTACT_SHEET_NAME)
        text = json.dumps(self.as_json(), ensure_ascii=False, indent=1, allow_nan=False)
        partial = folder / f".{RESULT_NAME}.part"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(folder / RESULT_NAME)
        return folder

    def as_json(self) -> dict[str, Any]:
        """The result for `result.json`, without null.

        `target_frame` is -1 where there is none. `masks` has one COCO run-length encoding per frame,
        {"size": [H, W], "counts": str}, empty masks too. `objects` holds such a list for every object where
        several are told apart, else nothing.
        """
        objects = [] if self.object_masks is None else [encode_masks(masks) for masks in self.object_masks]
        return {
            "question": self.question,
            "answer": self.answer,
            "found": bool(self.found),
            "score": float(self.score),
            "target_frame": -1 if self.target_frame is None else int(self.target_frame),
            "video": self.video.name,
            "height": self.video.height,
            "width": self.video.width,
            "fps": self.video.fps,
            "num_frames": self.video.num_frames,
            "frame_names": list(self.frame_names),
            "masks": encode_masks(self.masks),
            "objects": objects,
        }

    def _drawn_frames(self) -> Iterator[np.ndarray]:
        from visa.overlay import draw_masks

        by_object = self.masks_by_object()
        for index in range(self.video.num_frames):
            yield draw_masks(self.video[index], by_object[:, index])


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Masks bool [T, H, W] as COCO run-length encodings {"size": [H, W], "counts": str}, one per frame."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(masks.astype(np.uint8).transpose(1, 2, 0)))
    return [{"size": list(one["size"]), "counts": one["counts"].decode("ascii")} for one in encoded]


def decode_masks(encoded: list[dict[str, Any]]) -> np.ndarray:
    """COCO run-length encodings as masks bool [T, H, W]; the inverse of `encode_masks`."""
    from pycocotools import mask as coco_mask

    return coco_mask.decode(encoded).astype(bool).transpose(2, 0, 1)


def _remove_result(folder: Path) -> None:
    """Take back an earlier result of ours: first its result.json, then the masks it named."""
    result = folder / RESULT_NAME
    try:
        names = json.loads(result.read_text(encoding="utf-8"))["frame_names"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        names = []
    result.unlink(missing_ok=True)
    for name in names:
        if isinstance(name, str) and Path(name).name == name:
            (folder / f"{name}.png").unlink(missing_ok=True)
