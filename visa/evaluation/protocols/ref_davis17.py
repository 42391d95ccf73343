"""Ref-DAVIS17: all objects of a video in one picture of labels, and the mean of four annotators' scores.

For each annotator's words: where the masks of several objects overlap the first one wins, as it does when the
masks are painted with a palette; then DAVIS's unsupervised evaluation pairs the painted objects with the true
ones so that the sum of their J&F is highest. The mean goes over objects, then over annotators. Pixels that
DAVIS leaves open (255) count for neither.

Source: Khoreva et al., "Video Object Segmentation with Language Referring Expressions", ACCV 2018; Caelles et
al., "The 2019 DAVIS Challenge on VOS: Unsupervised Multi-Object Segmentation", 2019, sec. 4.

Legend: T frames, N objects, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression
from dataset.reader import Reader
from visa import metrics
from visa.evaluation.predictions import PredictedMasks, PredictionError, Predictions
from visa.evaluation.protocols.protocol import Protocol
from visa.evaluation.scored import Line, Scored, means
from visa.evaluation.tracks import runs_of_frames


class RefDavis17Protocol(Protocol):
    """See above. A row's scores are those of its object, whichever painted object was paired with it."""

    columns = ("J&F", "J", "F")
    worst_by = "J&F"
    note = "overall: the mean of the annotators; every annotator's the mean over objects"

    def score_clip(
        self, reader: Reader, clip: Clip, predictions: Predictions, *, allow_missing: bool = False
    ) -> list[Scored]:
        rows: dict[str, Scored] = {}
        for annotator in dict.fromkeys(item.annotator for item in clip.expressions):
            asked = [item for item in clip.expressions if item.annotator == annotator]
            try:
                scored = self._score_annotator(reader, clip, asked, predictions, allow_missing)
            except (ValueError, OSError) as error:
                scored = [Scored.of(clip, item, {}, str(error)) for item in asked]
            rows |= {row.expression_id: row for row in scored}
        return [rows[item.id] for item in clip.expressions]

    def score(
        self, reader: Reader, clip: Clip, expression: Expression, predictions: Predictions
    ) -> dict[str, float]:
        raise RuntimeError("the expressions of an annotator are scored together: call score_clip")

    def zero(self, clip: Clip, expression: Expression) -> dict[str, float]:
        return dict.fromkeys(self.columns, 0.0)

    def summary(self, rows: Sequence[Scored]) -> list[Line]:
        rows = [row for row in rows if row.values]
        annotators = sorted({int(row.values["annotator"]) for row in rows})
        lines = [
            means(f"annotator {number}", [r for r in rows if r.values["annotator"] == number], self.columns)
            for number in annotators
        ]
        if not lines:
            return []
        overall = {name: sum(line.values[name] for line in lines) / len(lines) for name in self.columns}
        return [*lines, Line("overall", None, overall)]

    def _score_annotator(self, reader, clip, asked, predictions, allow_missing) -> list[Scored]:
        if not clip.frame_names:
            raise ValueError(f"video {clip.name!r} has no frames: expected one or more")
        found, faults = zip(*(_find_whole(clip, item, predictions) for item in asked), strict=True)
        if any(faults) and not allow_missing:
            # The objects are painted and paired together, so one that is missing spoils the others.
            first = next(fault for fault in faults if fault)
            return [
                Scored.of(clip, item, {}, fault or f"not scored, because another object has {first}")
                for item, fault in zip(asked, faults, strict=True)
            ]
        j, f = pair_with_truth(*_j_and_f(clip, asked, found, reader.ignored(clip)))
        rows = []
        for item, mean_j, mean_f, fault in zip(asked, j.tolist(), f.tolist(), faults, strict=True):
            values = {"J&F": (mean_j + mean_f) / 2, "J": mean_j, "F": mean_f}
            rows.append(Scored.of(clip, item, values | {"annotator": float(item.annotator or 0)}, fault))
        return rows


def _find_whole(
    clip: Clip, expression: Expression, predictions: Predictions
) -> tuple[PredictedMasks | None, str | None]:
    """An expression's masks, every one of which can be read, or else what is wrong with them."""
    try:
        masks = predictions.find(clip, expression)
        for frames in runs_of_frames(len(clip.frame_names)):
            masks.read(frames)
    except PredictionError as error:
        return None, str(error)
    return masks, None


def paint(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Makes masks disjoint, bool [N, T, H, W]: a pixel of several goes to the first of them."""
    painted = masks.copy()
    taken = np.zeros(masks.shape[1:], dtype=bool)
    for mask in painted:
        mask &= ~taken
        taken |= mask
    return painted


def pair_with_truth(
    j: NDArray[np.float64], f: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gives every true object the painted one with which the sum of all J&F is highest.

    Args:
        j: Mean J of every painted object (rows) with every true one (columns), float [N, N].
        f: Mean F, likewise.

    Returns:
        J and F of every true object, float [N] each.
    """
    from scipy.optimize import linear_sum_assignment

    painted, true = linear_sum_assignment(-(j + f) / 2)
    order = np.argsort(true)
    return j[painted[order], true[order]], f[painted[order], true[order]]


def _j_and_f(
    clip: Clip,
    asked: Sequence[Expression],
    found: Sequence[PredictedMasks | None],
    ignored: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean J and F of every painted object with every true one, float [N, N] each."""
    num_objects, num_frames = len(asked), len(clip.frame_names)
    j, f = (np.zeros((num_objects, num_objects)) for _ in range(2))
    for frames in runs_of_frames(num_frames):
        shape = (len(frames), clip.height, clip.width)
        drawn = [np.zeros(shape, bool) if masks is None else masks.read(frames) != 0 for masks in found]
        painted = paint(np.stack(drawn))
        void = None if ignored is None else ignored[frames.start : frames.stop]
        for column, expression in enumerate(asked):
            true = clip.target(expression, frames)
            for row in range(num_objects):
                j[row, column] += metrics.region_similarity(true, painted[row], void).sum()
                f[row, column] += metrics.contour_accuracy(true, painted[row], void).sum()
    return j / num_frames, f / num_frames
