"""How well one expression's masks follow the truth through a video, a few frames in memory at a time.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression
from visa import metrics
from visa.evaluation.predictions import PredictedMasks
from visa.metrics.tubes import temporal_and_volume_iou

FRAMES_AT_ONCE = 16


def runs_of_frames(num_frames: int) -> Iterator[range]:
    """All frames' indices, a run at a time."""
    for start in range(0, num_frames, FRAMES_AT_ONCE):
        yield range(start, min(start + FRAMES_AT_ONCE, num_frames))


def score_track(
    clip: Clip,
    expression: Expression,
    masks: PredictedMasks,
    *,
    foreground: NDArray[np.bool_] | None = None,
    legacy: bool = False,
) -> dict[str, float]:
    """What one expression's masks are worth, means over the video's frames.

    Args:
        clip: The video.
        expression: One of its expressions.
        masks: What was predicted for it.
        foreground: The union of all annotated objects, bool [T, H, W], for A and R; None to leave them out.
        legacy: Add A and R as VISA's script has them, on the values as written, with instances summed up.

    Returns:
        "J&F", "J", "F", "tIoU", "vIoU", and "found", 1 if anything was drawn, else 0; with a foreground "A"
        and "R"; and perhaps "A legacy", "R legacy".

    Raises:
        ValueError: A mask, predicted or true, is missing or broken, or the video has no frames.
    """
    if not clip.frame_names:
        raise ValueError(f"video {clip.name!r} has no frames: expected one or more")
    found = defaultdict(list)
    for frames in runs_of_frames(len(clip.frame_names)):
        true, written = clip.target(expression, frames), masks.read(frames)
        predicted = written != 0
        found["J"].append(metrics.region_similarity(true, predicted))
        found["F"].append(metrics.contour_accuracy(true, predicted))
        found["in true"].append(true.any(axis=(1, 2)))
        found["in predicted"].append(predicted.any(axis=(1, 2)))
        if foreground is not None:
            present = foreground[frames.start : frames.stop]
            found["A"].append(metrics.pixel_accuracy(true, predicted))
            found["R"].append(metrics.robustness(true, predicted, present))
            if legacy:
                summed = _summed(clip, expression, frames)
                found["A legacy"].append(metrics.pixel_accuracy(summed, written, legacy=True))
                found["R legacy"].append(metrics.robustness(summed, written, present, legacy=True))
    arrays = {name: np.concatenate(values) for name, values in found.items()}
    in_true, in_predicted = arrays.pop("in true"), arrays.pop("in predicted")
    scores = {name: float(values.mean()) for name, values in arrays.items()}
    tiou, viou = temporal_and_volume_iou(in_true, in_predicted, arrays["J"])
    scores |= {"J&F": (scores["J"] + scores["F"]) / 2, "tIoU": tiou, "vIoU": viou}
    return scores | {"found": float(in_predicted.any())}


def _summed(clip: Clip, expression: Expression, frames: range) -> NDArray[np.uint8]:
    """The number of the expression's instances on every pixel, uint8 [T, H, W]."""
    summed = np.zeros((len(frames), clip.height, clip.width), dtype=np.uint8)
    for annotation_id in expression.annotation_ids:
        summed += clip.masks.union([annotation_id], frames)
    return summed
