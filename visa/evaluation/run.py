"""Runs a system over a folder in the ReVOS layout and scores every answer.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset.counting import count_of
from dataset.revos import Expression, Revos, RevosVideo
from visa.evaluation.clip import open_clip
from visa.evaluation.report import Report
from visa.evaluation.score import ExpressionScore, score_expression

if TYPE_CHECKING:
    from visa.tracklet import Tracklet
    from visa.video import Video


class System(Protocol):
    """What can be evaluated: `visa.load`'s segmenter, or a baseline."""

    def segment_many(self, video: Video, questions: Sequence[str]) -> Sequence[Tracklet]:
        """One tracklet for each question, in order."""
        ...


def evaluate(
    system: System,
    root: str | Path,
    *,
    name: str = "system",
    split: str = "valid",
    num_frames: int | None = None,
    num_videos: int | None = None,
    ask: Callable[[RevosVideo, Expression], str] | None = None,
    select: Callable[[Expression, NDArray[np.bool_]], bool] | None = None,
    progress: bool = True,
) -> Report:
    """Asks a system every question of a data set and scores the answers.

    Args:
        system: What to evaluate. It is given each video once, with all its questions.
        root: A folder in the ReVOS layout.
        name: The system's name in the report.
        split: Which meta file.
        num_frames: Use each video's first frames only; questions whose object is not visible there are left
            out.
        num_videos: Use the first videos only.
        ask: Replaces the question's text, for controls.
        select: Keeps a question; it is given the object's pixels, bool [T, H, W].
        progress: Draw a progress bar on stderr.

    Returns:
        The report.

    Raises:
        ValueError: The data set is broken, no question is left, or an answer is missing or of another shape.
            A missing answer is an error, never a zero.
    """
    from tqdm import tqdm

    data = Revos(root, split)
    start = time.perf_counter()
    scores: list[ExpressionScore] = []
    for video in tqdm(
        data[:num_videos], desc=f"{name} on {Path(root).name}", unit="video", disable=not progress
    ):
        annotations = {key: data.annotation(video, key)[:num_frames] for key in video.annotation_ids}
        chosen = [
            expression
            for expression in video.expressions
            if _is_kept(expression, annotations, limited=num_frames is not None, select=select)
        ]
        if chosen:
            scores += _score_video(system, video, chosen, annotations, num_frames, ask)
    if not scores:
        raise ValueError(f"{data.meta_path}: no question is left to ask among {count_of(len(data), 'video')}")
    return Report(name, Path(root).name, tuple(scores), time.perf_counter() - start)


def _is_kept(expression, annotations, *, limited, select) -> bool:
    if expression.kind == "absent":
        target = np.zeros_like(next(iter(annotations.values()))) if annotations else np.zeros((1, 1, 1), bool)
    else:
        target = np.any([annotations[key] for key in expression.annotation_ids], axis=0)
        if limited and not target.any():
            return False
    return select is None or select(expression, target)


def _score_video(system, video, chosen, annotations, num_frames, ask) -> list[ExpressionScore]:
    questions = [expression.text if ask is None else ask(video, expression) for expression in chosen]
    clip = open_clip(video, num_frames)
    tracklets = list(system.segment_many(clip, questions))
    if len(tracklets) != len(questions):
        raise ValueError(
            f"video {video.name!r}: expected {len(questions)} answers from the system, got {len(tracklets)}"
        )
    return [
        score_expression(video.name, expression, question, tracklet, annotations)
        for expression, question, tracklet in zip(chosen, questions, tracklets, strict=True)
    ]
