"""Takes a visitor's clips and questions and puts what is to be shown into the visitor's folder.

No page is needed for it: `page.py` calls it and shows what it returns.
"""

from __future__ import annotations

import os
import shutil
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from visa.errors import InputError
from visa.questions import clean_question
from visa.tracklet import OVERLAY_NAME, RESULT_NAME, Tracklet
from visa.video import Video
from visa.web.limits import SUFFIXES, Limits
from visa.web.visitors import MAX_ANSWERS, MAX_CLIPS, Visitor

CLIPS, ANSWERS = "clips", "answers"
TARGET_NAME, MASKS_NAME, PREVIEW_NAME = "target.jpg", "masks.zip", "preview.jpg"
# The segmenter keeps what it needs of a clip; this only spares decoding.
CACHE_BYTES = 64 * 2**20
MAX_NAME = 80
# Called as progress(stage, done, total): the segmenter's stages, then "save".
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Clip:
    """A clip on the desk. key: what finds it again, for its owner alone."""

    key: str
    name: str
    num_frames: int
    height: int
    width: int
    fps: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """An answer, ready to be shown.

    Attributes:
        key: of the folder with overlay.mp4, masks.zip and, if something was found, target.jpg.
        question, answer, found, score: as `Tracklet` has them.
        target: index of the frame that was chosen to be segmented, found or not; None if that is not known.
        looked_at: indices of the frames that the model read together, ascending.
        areas: float [T] in [0, 1], how much of each frame the masks cover.
        fps: frames per second.
        num_objects: how many were told apart.
        warnings: what was wrong with the clip, one line each.
    """

    key: str
    question: str
    answer: str
    found: bool
    score: float
    target: int | None
    looked_at: tuple[int, ...]
    areas: np.ndarray
    fps: float
    num_objects: int
    warnings: tuple[str, ...]


class RecordedSampler:
    """A sampler that remembers what the one within has chosen."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.choice: Any = None

    def choose(self, num_frames: int, question: str, scorer: Any) -> Any:
        """As the sampler within."""
        self.choice = self._sampler.choose(num_frames, question, scorer)
        return self.choice

    def looked_at(self) -> tuple[int, ...]:
        """Indices of the frames the model read, ascending; see `visa.sampling.FrameChoice`."""
        if self.choice is None:
            return ()
        read = self.choice.references if self.choice.dense else (*self.choice.references, self.choice.target)
        return tuple(sorted({int(index) for index in read}))


class Desk:
    """Opens clips and answers questions, one at a time.

    Args:
        segmenter: as `visa.load` gives it.
        limits: what is accepted.
    """

    def __init__(self, segmenter: Any, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._segmenter = segmenter
        self._lock = threading.Lock()
        self._is_closed = False
        # The clip that was asked about last, by its folder: the segmenter knows a clip by identity.
        self._open: tuple[Path, Video] | None = None

    def open(self, visitor: Visitor, path: Path, name: str) -> Clip:
        """Check a file and keep it, with a picture of its middle, among the visitor's clips.

        Args:
            path: the file. name: as its owner calls it, for messages and the masks' names.

        Raises:
            InputError: the file cannot be used; the message names no path of this machine.
        """
        name = _plain_name(name)
        if not path.is_file():
            raise InputError(f"{name} is not here any more: upload it again")
        self.limits.check_file(path, name)
        suffix = Path(name).suffix.lower()
        folder = visitor.new_folder(CLIPS, MAX_CLIPS)
        kept = folder / ("clip" + (suffix if suffix in SUFFIXES else ".mp4"))
        try:
            try:
                os.link(path, kept)
            except OSError:  # another file system
                shutil.copyfile(path, kept)
            video = _open_as(kept, name)
            self.limits.check_length(video, name)
            _save_jpeg(video[len(video) // 2], folder / PREVIEW_NAME)
        except InputError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise InputError(str(error).replace(str(kept), name)) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / "name").write_text(name, encoding="utf-8")
        size = (len(video), video.height, video.width, video.fps)
        return Clip(folder.name, name, *size, tuple(video.warnings))

    def ask(
        self,
        visitor: Visitor,
        clip_key: str | None,
        question: str,
        progress: Progress | None = None,
    ) -> Shown:
        """Answer a question about one of the visitor's clips.

        Args:
            clip_key: `Clip.key`. question: as typed.
            progress: called as progress(stage, done, total).

        Raises:
            InputError: no such clip, or the question or the clip cannot be used.
        """
        folder = visitor.find(CLIPS, clip_key) if clip_key else None
        if folder is None:
            raise InputError("upload a clip first, or pick an example")
        try:
            question = clean_question(question)
        except InputError as error:
            raise InputError(
                str(error).replace(", such as --query 'the red car'", ", such as: the red car")
            ) from error
        with self._lock:
            video = self._video(folder)
            recorded = RecordedSampler(self._segmenter.sampler)

            def report(stage: str, done: int, total: int) -> None:
                if self._is_closed:
                    raise RuntimeError("the page has ended")
                if progress is not None:
                    progress(stage, done, total)

            try:
                tracklet = self._segmenter.segment(video, question, sampler=recorded, progress=report)
                return self._save(visitor, tracklet, recorded, report)
            except BaseException:
                self._open = None  # its decoder may be in the middle of something
                raise

    def close(self, seconds: float = 5.0) -> bool:
        """Stop the running answer at its next report; whether it did within that time, or there was none."""
        self._is_closed = True
        return self._lock.acquire(timeout=seconds)

    def _video(self, folder: Path) -> Video:
        if self._open is None or self._open[0] != folder:
            self._open = None
            path = next(path for path in folder.iterdir() if path.stem == "clip")
            self._open = folder, _open_as(path, (folder / "name").read_text(encoding="utf-8"))
        return self._open[1]

    @staticmethod
    def _save(visitor: Visitor, tracklet: Tracklet, recorded: RecordedSampler, report: Progress) -> Shown:
        folder = visitor.new_folder(ANSWERS, MAX_ANSWERS)
        try:
            tracklet.save(folder, progress=partial(report, "save"))
            _add_downloads(folder, tracklet)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        target = tracklet.target_frame
        if target is None and recorded.choice is not None:
            target = int(recorded.choice.target)
        return Shown(
            key=folder.name,
            question=tracklet.question,
            answer=tracklet.answer,
            found=bool(tracklet.found),
            score=float(tracklet.score),
            target=target,
            looked_at=recorded.looked_at(),
            areas=tracklet.areas(),
            fps=tracklet.video.fps,
            num_objects=len(tracklet.tracks) if tracklet.found else 0,
            warnings=tuple(tracklet.video.warnings),
        )


def _add_downloads(folder: Path, tracklet: Tracklet) -> None:
    """Add what the page offers beside a saved answer: all files in one, and the target frame with masks."""
    with zipfile.ZipFile(folder / MASKS_NAME, "w") as masks:  # PNGs are packed already
        for name in (*(f"{frame}.png" for frame in tracklet.frame_names), RESULT_NAME, OVERLAY_NAME):
            masks.write(folder / name, f"{tracklet.video.name}/{name}")
    if tracklet.target_frame is not None:
        from visa.overlay import draw_masks

        index = tracklet.target_frame
        drawn = draw_masks(tracklet.video[index], tracklet.masks_at(index))
        _save_jpeg(drawn, folder / TARGET_NAME)


def _open_as(path: Path, name: str) -> Video:
    video = Video.open(path, cache_bytes=CACHE_BYTES)
    video.name = Path(name).stem
    return video


def _plain_name(name: str) -> str:
    """The name without folders and without what cannot be printed or stand in a file's name; not too long."""
    plain = "".join(
        c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable() and c not in '<>:"|?*'
    )
    stem, dot, suffix = plain.strip(" .").rpartition(".")
    return f"{stem[:MAX_NAME]}{dot}{suffix[:8]}" if stem else plain.strip(" .")[:MAX_NAME] or "clip"


def _save_jpeg(frame: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(frame).save(path, quality=90)
