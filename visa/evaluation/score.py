"""What one answer is worth: J and F, and which of the video's objects it found.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset.revos import Expression
from visa import metrics

if TYPE_CHECKING:
    from visa.tracklet import Tracklet

RIGHT_IOU = 0.5  # an object counts as the one found above this


@dataclass(frozen=True)
class ExpressionScore:
    """The score of one question about one video. All scores are fractions, not percent.

    Attributes:
        video: The video's name.
        expression_id: The expression's key.
        kind: "referring", "reasoning" or "absent".
        aspect: The data set's finer sort of question, or None.
        question: What was asked.
        answer: What the system said.
        found: Whether it says that it found something.
        certainty: The tracklet's score.
        target_frame: Index of the frame in which the mask was drawn, or None.
        num_frames: T.
        in_first_frame: Whether the object is visible in the first frame; None for an absent one.
        j: Mean region similarity over the frames; None for an absent object.
        f: Mean contour accuracy over the frames; None for an absent object.
        right_iou: IoU over the whole clip with the object meant; None for an absent one.
        other_ious: The same with each other object of the video.
        robustness: For an absent object: mean R over the frames, 1 where nothing is drawn; otherwise None.
    """

    video: str
    expression_id: str
    kind: str
    aspect: str | None
    question: str
    answer: str
    found: bool
    certainty: float
    target_frame: int | None
    num_frames: int
    in_first_frame: bool | None
    j: float | None
    f: float | None
    right_iou: float | None
    other_ious: tuple[float, ...]
    robustness: float | None

    @property
    def j_and_f(self) -> float | None:
        """Mean of J and F; None for an absent object."""
        return None if self.j is None else (self.j + self.f) / 2

    @property
    def right(self) -> bool | None:
        """Whether the object meant was found; None for an absent one."""
        return None if self.right_iou is None else self.right_iou > RIGHT_IOU

    @property
    def wrong(self) -> bool | None:
        """Whether another object of the video was found; None where there is none to confuse it with."""
        return None if self.right_iou is None or not self.other_ious else max(self.other_ious) > RIGHT_IOU


def tube_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """IoU of two tracks, bool [T, H, W] each, over the pixels of all frames together; 1 if both are empty.

    Unlike the mean over frames it does not reward frames in which both are empty.
    """
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 1.0


def score_expression(
    video_name: str,
    expression: Expression,
    question: str,
    tracklet: Tracklet,
    annotations: Mapping[str, NDArray[np.bool_]],
) -> ExpressionScore:
    """Scores one answer.

    The object meant is the union of the expression's own annotations. The others are the video's remaining
    annotations, each by itself, except those that are never visible or are the same thing under another key
    (IoU over 0.5 with the object meant).

    Args:
        video_name: The video's name.
        expression: The question's record.
        question: What was asked, which may be another clip's question.
        tracklet: The system's answer.
        annotations: Every annotation of the video by its key, bool [T, H, W]; none only where all of its
            questions are absent ones.

    Raises:
        ValueError: The answer's masks are not bool, or of another shape than the annotations.
    """
    masks = np.asarray(tracklet.masks)
    expected = next(iter(annotations.values())).shape if annotations else masks.shape
    if masks.dtype != bool or masks.shape != expected:
        raise ValueError(
            f"video {video_name!r}, expression {expression.id!r}: expected masks bool {list(expected)}, "
            f"got {masks.dtype} {list(masks.shape)}"
        )
    target = np.zeros(masks.shape, dtype=bool)
    for key in expression.annotation_ids:
        target |= annotations[key]
    present = expression.kind != "absent"
    others = [
        mask for key, mask in annotations.items() if key not in expression.annotation_ids and mask.any()
    ]
    if present:
        others = [mask for mask in others if tube_iou(mask, target) <= RIGHT_IOU]
    return ExpressionScore(
        video=video_name,
        expression_id=expression.id,
        kind=expression.kind,
        aspect=expression.aspect,
        question=question,
        answer=tracklet.answer,
        found=bool(tracklet.found),
        certainty=float(tracklet.score),
        target_frame=tracklet.target_frame,
        num_frames=len(masks),
        in_first_frame=bool(target[0].any()) if present else None,
        j=float(metrics.region_similarity(target, masks).mean()) if present else None,
        f=float(metrics.contour_accuracy(target, masks).mean()) if present else None,
        right_iou=tube_iou(target, masks) if present else None,
        other_ious=tuple(tube_iou(mask, masks) for mask in others),
        robustness=None if present else _robustness(masks, annotations),
    )


def _robustness(masks: NDArray[np.bool_], annotations: Mapping[str, NDArray[np.bool_]]) -> float:
    foreground = np.zeros(masks.shape, dtype=bool)
    for mask in annotations.values():
        foreground |= mask
    return float(metrics.robustness(np.zeros_like(masks), masks, foreground).mean())
