"""The result: words, and the mask of what was asked for in every frame; and its form on disk.

Masks are kept as run lengths (`visa/mask_track.py`) and taken a frame at a time: a result of a long video
fits into memory, and so does writing it. Only who reads `Tracklet.masks` has all of them decoded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from visa.mask_track import MaskTrack, as_tracks
from visa.video import Video

RESULT_NAME = "result.json"
OVERLAY_NAME = "overlay.mp4"
CONTACT_SHEET_NAME = "contact_sheet.png"


@dataclass(frozen=True, init=False, eq=False, repr=False)
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
        masks: bool [T, H, W] at the video's own size, read-only. The masks of all frames are decoded when
            this is first read, and then stay in memory: of a long video take `mask(index)`.
        video: the video, for drawing; not compared.
        frame_names: one name per frame, the video's own where left out.
        object_masks: bool [N, T, H, W], one row per object where several are told apart, else None; decoded
            as `masks` is. Of a long video take `masks_at(index)`.
        tells_apart: whether several objects are told apart, or one of them is.
        tracks: the masks as they are kept: one track per object, at least one.
        union: the track of `masks`.
    """

    question: str
    answer: str
    found: bool
    score: float
    target_frame: int | None
    masks: np.ndarray
    video: Video
    frame_names: tuple[str, ...]
    object_masks: np.ndarray | None

    def __init__(
        self,
        question: str,
        answer: str,
        found: bool,
        score: float,
        target_frame: int | None,
        masks: np.ndarray | MaskTrack | None,
        video: Video,
        frame_names: Sequence[str] = (),
        object_masks: np.ndarray | Sequence[MaskTrack] | None = None,
    ) -> None:
        """Attributes as above; masks and those of objects may also be given as tracks.

        With `object_masks` there need be no `masks`: None makes them their union.

        Raises:
            ValueError: these contradict one another or the video.
        """
        shape = (video.num_frames, video.height, video.width)
        frame_names = tuple(frame_names) or tuple(video.frame_names)
        if len(frame_names) != shape[0]:
            raise ValueError(f"expected {shape[0]} frame names, got {len(frame_names)}")
        if target_frame is not None and not 0 <= target_frame < shape[0]:
            raise ValueError(f"expected a target frame in [0, {shape[0]}), got {target_frame}")
        if not math.isfinite(score):
            raise ValueError(f"expected a finite score, got {score}")
        tracks = None if object_masks is None else _object_tracks(object_masks, shape)
        union = MaskTrack.union(tracks) if masks is None else _track(masks, shape)
        if tracks and masks is not None and MaskTrack.union(tracks) != union:
            raise ValueError("expected masks to be the union of object_masks; they differ")
        if not found and union.any():
            raise ValueError("nothing was found, yet there are masks: give empty masks or found=True")
        vars(self).update(question=question, answer=answer, found=found, score=score, video=video)
        vars(self).update(target_frame=target_frame, frame_names=frame_names)
        vars(self).update(union=union, tracks=tracks or (union,), tells_apart=tracks is not None)

    @cached_property
    def masks(self) -> np.ndarray:
        """See `Tracklet`."""
        return _read_only(self.union.decoded())

    @cached_property
    def object_masks(self) -> np.ndarray | None:
        """See `Tracklet`."""
        return _read_only(np.stack([track.decoded() for track in self.tracks])) if self.tells_apart else None

    def mask(self, index: int) -> np.ndarray:
        """The mask of one frame, bool [H, W]."""
        return self.union[index]

    def masks_at(self, index: int) -> np.ndarray:
        """The masks of one frame, bool [N, H, W]: one for each object, or all as one object."""
        return np.stack([track[index] for track in self.tracks])

    def areas(self) -> np.ndarray:
        """What part of each frame the mask covers, float64 [T] in [0, 1]."""
        return self.union.areas / (self.video.height * self.video.width)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tracklet):
            return NotImplemented
        return self._words() == other._words() and self.tracks == other.tracks

    __hash__ = None  # type: ignore[assignment]  # masks are compared by value

    def __repr__(self) -> str:
        found = f"found in {self.video.name!r}" if self.found else f"not found in {self.video.name!r}"
        return f"Tracklet({self.question!r}, {self.answer!r}, {found}, score {self.score:.3g})"

    def _words(self) -> tuple:
        return self.question, self.answer, self.found, self.score, self.target_frame, self.frame_names

    def save(self, folder: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Write the result to a folder, made if need be.

        It holds `<frame name>.png` for every frame (mode L, 0 or 255), `overlay.mp4` (H.264, plays in a
        browser), `contact_sheet.png` and `result.json` (see `as_json`). `result.json` comes last: a folder
        without it is not finished. Masks of an earlier result in that folder do not stay behind.

        Args:
            folder: where.
            progress: called as progress(done, total) before each mask and each frame of the video is written,
                and at the end.

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
        tell, length = progress or (lambda done, total: None), len(self.frame_names)
        for index, (name, mask) in enumerate(zip(self.frame_names, self.union, strict=True)):
            tell(index, 2 * length)
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.png")
        drawn = self._drawn_frames(lambda index: tell(length + index, 2 * length))
        write_video(folder / OVERLAY_NAME, drawn, self.video.fps)
        draw_contact_sheet(self).save(folder / CONTACT_SHEET_NAME)
        partial = folder / f".{RESULT_NAME}.part"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(self.as_json(), file, ensure_ascii=False, indent=1, allow_nan=False)
            file.write("\n")
        partial.replace(folder / RESULT_NAME)
        tell(2 * length, 2 * length)
        return folder

    def as_json(self) -> dict[str, Any]:
        """The result for `result.json`, without null.

        `target_frame` is -1 where there is none. `masks` has one COCO run-length encoding per frame,
        {"size": [H, W], "counts": str}, empty masks too. `objects` holds such a list for every object where
        several are told apart, else nothing.
        """
        objects = self.tracks if self.tells_apart else ()
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
            "masks": self.union.as_json(),
            "objects": [track.as_json() for track in objects],
        }

    def _drawn_frames(self, tell: Callable[[int], None]) -> Iterator[np.ndarray]:
        from visa.overlay import draw_masks

        for index in range(self.video.num_frames):
            tell(index)
            yield draw_masks(self.video[index], self.masks_at(index))


def _read_only(masks: np.ndarray) -> np.ndarray:
    """Marked so that nobody writes into what would not be saved."""
    masks.flags.writeable = False
    return masks


def _track(masks: np.ndarray | MaskTrack, shape: tuple[int, int, int]) -> MaskTrack:
    if isinstance(masks, np.ndarray) and (masks.dtype != bool or masks.shape != shape):
        raise ValueError(f"expected bool masks {list(shape)}, got {masks.dtype} {list(masks.shape)}")
    track = MaskTrack.of(masks) if isinstance(masks, np.ndarray) else masks
    if track.shape != shape:
        raise ValueError(f"expected a track of masks {list(shape)}, got {list(track.shape)}")
    return track


def _object_tracks(
    masks: np.ndarray | Sequence[MaskTrack], shape: tuple[int, int, int]
) -> tuple[MaskTrack, ...]:
    is_array = isinstance(masks, np.ndarray)
    if is_array and (masks.dtype != bool or masks.ndim != 4 or masks.shape[1:] != shape):
        raise ValueError(
            f"expected bool object_masks [N, {shape[0]}, {shape[1]}, {shape[2]}], "
            f"got {masks.dtype} {list(masks.shape)}"
        )
    tracks = as_tracks(masks)
    if not tracks or any(track.shape != shape for track in tracks):
        raise ValueError(f"expected object_masks of one object at least, each of {list(shape)}")
    return tracks


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
