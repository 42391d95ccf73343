"""Points, boxes and masks instead of a question: SAM or SAM 2 draws what was pointed at, the tracker follows
it.

    segmenter = visa.load("embedded")
    masks = track_prompts(segmenter, "clip.mp4", 12, points=[[[400, 210]], [[90, 60], [95, 88]]])

All coordinates are (x, y) pixels of the video, x to the right from 0 to W, y down from 0 to H; (0, 0) is the
upper left corner of the picture. Shapes: N objects, K points, T frames, H W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model.prompt import BoxPrompt, PointPrompt, Prompt
from model.segmentation import FrameFeatures, mask_prompt
from visa.errors import InputError
from visa.video import Video

if TYPE_CHECKING:
    from model.sam import SamSegmenter
    from model.sam2 import Sam2Segmenter
    from visa.propagation import FrameProgress
    from visa.segmenter import Segmenter

NO_POINT = -1
# As a user may give them: arrays, or lists of lists, of which points may have different lengths.
Numbers = np.ndarray | Tensor | Sequence


@dataclass(frozen=True)
class PromptedMasks:
    """What SAM drew.

    Attributes:
        masks: bool [N, H, W].
        quality: float32 [N], SAM's own estimate of each mask's IoU with the truth.
    """

    masks: np.ndarray
    quality: np.ndarray


@torch.inference_mode()
def draw_prompts(
    sam: SamSegmenter | Sam2Segmenter,
    video: Video,
    frame_index: int,
    *,
    points: Numbers | None = None,
    labels: Numbers | None = None,
    boxes: Numbers | None = None,
    masks: Numbers | None = None,
    multimask: bool | None = None,
) -> PromptedMasks:
    """Masks of N objects on one frame. What is given together describes the same N objects.

    Args:
        sam: draws.
        video: the clip.
        frame_index: 0 <= frame_index < T.
        points: [N, K, 2] (x, y), or N lists of points, which may have different lengths.
        labels: as long as ``points``: 1 inside the object, 0 outside; all inside by default.
        boxes: [N, 4] (x0, y0, x1, y1).
        masks: bool [N, H, W], rough ones for SAM to draw anew.
        multimask: draw three masks of each object and keep the one that SAM rates highest; None does so for a
            single point and nothing else, which may mean a thing or its part.

    Raises:
        InputError: no prompt, no such frame, a coordinate outside of the picture, or shapes that do not fit.
    """
    if not 0 <= frame_index < len(video):
        raise InputError(f"frame_index must be in 0..{len(video) - 1}, got {frame_index}")
    size = (video.height, video.width)
    given = _points(points, labels, size)
    rectangles = None if boxes is None else _boxes(boxes, size)
    rough = None if masks is None else _masks(masks, size)
    counts = {len(each) for each in (given and given[0], rectangles, rough) if each is not None}
    if not counts:
        raise InputError("give points, boxes or masks: nothing was pointed at")
    if len(counts) > 1:
        raise InputError(f"points, boxes and masks must be of the same objects, got {sorted(counts)} of them")
    if not counts.pop():
        return PromptedMasks(np.zeros((0, *size), dtype=bool), np.zeros(0, dtype=np.float32))
    if multimask is None:
        multimask = given is not None and given[0].shape[1] == 1 and rectangles is None and rough is None
    features = sam.encode(video.frames([frame_index]))
    prompts = _prompts(features, given, rectangles, rough, sam.image_size)
    drawn = sam.decode(features, prompts, multimask=multimask)
    best = drawn.iou.argmax(1)
    rows = torch.arange(len(best), device=best.device)
    logits = sam.to_frame(drawn.mask_logits[rows, best][:, None], features)[:, 0]
    return PromptedMasks((logits > 0).cpu().numpy(), drawn.iou[rows, best].cpu().numpy())


def track_prompts(
    segmenter: Segmenter,
    video: Video | str | Path,
    frame_index: int,
    *,
    points: Numbers | None = None,
    labels: Numbers | None = None,
    boxes: Numbers | None = None,
    masks: Numbers | None = None,
    multimask: bool | None = None,
    progress: FrameProgress | None = None,
) -> np.ndarray:
    """Draw on one frame as `draw_prompts` does, and follow what was drawn through the whole video.

    Args:
        segmenter: whose SAM draws and whose tracker follows.
        video: an open `Video`, a file, or a folder of frames.
        progress: called after every frame.

    Returns:
        bool [N, T, H, W].

    Raises:
        InputError: as `draw_prompts`; or the system has no tracker.
    """
    if segmenter.propagator is None:
        raise InputError("this system draws every frame and follows nothing: load it with a tracker")
    video = video if isinstance(video, Video) else Video.open(video)
    drawn = draw_prompts(
        segmenter.reasoner.sam,
        video,
        frame_index,
        points=points,
        labels=labels,
        boxes=boxes,
        masks=masks,
        multimask=multimask,
    )
    return segmenter.propagator.propagate(video, frame_index, drawn.masks, progress=progress)


def _prompts(
    features: FrameFeatures,
    points: tuple[Tensor, Tensor] | None,
    boxes: Tensor | None,
    masks: Tensor | None,
    side: int,
) -> list[Prompt]:
    """The prompts in the coordinates of the network's input."""
    prompts: list[Prompt] = []
    if points is not None:
        prompts.append(PointPrompt(features.to_input(points[0]), points[1]))
    if boxes is not None:
        prompts.append(BoxPrompt(features.to_input(boxes)))
    if masks is not None:
        prompts.append(mask_prompt(masks, features, side))
    return prompts


def _points(
    points: Numbers | None, labels: Numbers | None, size: tuple[int, int]
) -> tuple[Tensor, Tensor] | None:
    """Points [N, K, 2] and labels [N, K], the shorter lists filled up with `NO_POINT`."""
    if points is None:
        if labels is not None:
            raise InputError("labels belong to points, and there are none")
        return None
    rows = [_numbers(row, "points", (None, 2)) for row in points]
    marks = [torch.ones(len(row)) for row in rows]
    if labels is not None:
        marks = [_numbers(row, "labels", (None,)) for row in labels]
        if [len(row) for row in marks] != [len(row) for row in rows]:
            raise InputError("labels must be as many as points, one for each")
        if any(((row != 0) & (row != 1)).any() for row in marks):
            raise InputError("labels must be 1 (inside the object) or 0 (outside)")
    if any(not len(row) for row in rows):
        raise InputError("every object needs a point, got an empty list")
    for row in rows:
        _check_inside(row, size, "points")
    most = max((len(row) for row in rows), default=1)
    filled = torch.zeros(len(rows), most, 2)
    kinds = torch.full((len(rows), most), float(NO_POINT))
    for place, (row, mark) in enumerate(zip(rows, marks, strict=True)):
        filled[place, : len(row)], kinds[place, : len(row)] = row, mark
    return filled, kinds


def _boxes(boxes: Numbers, size: tuple[int, int]) -> Tensor:
    found = _numbers(boxes, "boxes", (None, 4))
    _check_inside(found.view(-1, 2), size, "boxes")
    if (found[:, 2:] <= found[:, :2]).any():
        raise InputError("boxes must be (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    return found


def _masks(masks: Numbers, size: tuple[int, int]) -> Tensor:
    found = torch.as_tensor(np.asarray(_on_the_cpu(masks)))
    if found.dtype != torch.bool or found.ndim != 3 or tuple(found.shape[1:]) != size:
        raise InputError(
            f"masks must be bool [N, {size[0]}, {size[1]}] like the video, "
            f"got {found.dtype} {list(found.shape)}"
        )
    return found


def _on_the_cpu(values: Numbers) -> np.ndarray | Sequence:
    """A tensor as an array, wherever it was and whatever it remembers; anything else as it is."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _numbers(values: Numbers, name: str, pattern: tuple[int | None, ...]) -> Tensor:
    wanted = ", ".join("any" if size is None else str(size) for size in pattern)
    try:
        array = np.asarray(_on_the_cpu(values), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers of shape [{wanted}] for each object: {error}") from error
    if array.size == 0 and pattern[0] is None:
        array = array.reshape(0, *pattern[1:])
    if array.ndim != len(pattern) or any(
        size not in (None, given) for size, given in zip(pattern, array.shape, strict=True)
    ):
        raise InputError(f"{name} must have shape [{wanted}], got {list(array.shape)}")
    return torch.from_numpy(array)


def _check_inside(places: Tensor, size: tuple[int, int], name: str) -> None:
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32)
    outside = ~((places >= 0) & (places <= limits)).all(-1)  # NaN is nowhere
    if outside.any():
        x, y = places[outside][0].tolist()
        raise InputError(
            f"{name} must lie in the picture, {size[1]} wide and {size[0]} high, got (x, y) = ({x:g}, {y:g})"
        )
