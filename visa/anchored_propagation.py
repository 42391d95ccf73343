"""Masks of all frames from those of several: how VideoLISA's dense frames are carried to the others.

VideoLISA (Bai et al. 2024, arXiv 2409.19603) polishes its masks with XMem++ (Bekuzarov et al. 2023, arXiv
2307.15958): what was drawn is memorised before anything is tracked, then one pass goes from the first frame
to the last. Two things differ here: frames that were drawn keep their masks, and in a long video all of them
but the first are condensed in time, like any other frame in memory.

Shapes: N objects, F frames with masks, T frames, H W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.xmem import XMemTracker
from model.xmem.framing import resize_images, resize_masks
from visa.propagation import ClipFeatures, FrameProgress, Propagator, TrackedFrame
from visa.video import Video


def propagate_anchored(
    propagator: Propagator,
    video: Video,
    frames: Sequence[int],
    masks: np.ndarray,
    *,
    progress: FrameProgress | None = None,
    features: ClipFeatures | None = None,
) -> np.ndarray:
    """Masks of all frames.

    Args:
        propagator: whose network tracks.
        video: the clip.
        frames: F different frame indices.
        masks: bool [N, F, H, W]. Frames without any object are passed over; if all are, so is the clip.
        progress, features: as for `Propagator.propagate`.

    Returns:
        bool [N, T, H, W].

    Raises:
        ValueError: there are no such frames, or the masks do not have their number and the video's size.
    """
    length, size = len(video), (video.height, video.width)
    if len({*frames} & {*range(length)}) != len(frames):
        raise ValueError(f"frames must be different ones of 0..{length - 1}, got {list(frames)}")
    if masks.dtype != bool or masks.ndim != 4 or masks.shape[1:] != (len(frames), *size):
        raise ValueError(
            f"masks must be bool [N, {len(frames)}, {size[0]}, {size[1]}], "
            f"got {masks.dtype} {list(masks.shape)}"
        )
    result = np.zeros((len(masks), length, *size), dtype=bool)
    result[:, list(frames)] = masks
    features = features or propagator.features(video)
    present = masks.any((1, 2, 3))
    anchors = [place for place in range(len(frames)) if masks[:, place].any()]
    tracker = XMemTracker(propagator.network, propagator.config)
    for place in anchors:
        _step(propagator, tracker, features[frames[place]], torch.from_numpy(masks[present, place]))
        # What moved is no use at the next frame, which is of another time.
        tracker.memory.sensory = torch.zeros_like(tracker.memory.sensory)
    for index in range(length):
        if anchors and index not in frames:
            probs = _step(propagator, tracker, features[index], end=index == length - 1)
            winner = resize_images(probs[None], size)[0].argmax(0).cpu().numpy()
            result[present, index] = winner == np.arange(1, len(probs))[:, None, None]
        if progress is not None:
            progress(index + 1, length)
    return result


def _step(
    propagator: Propagator,
    tracker: XMemTracker,
    frame: TrackedFrame,
    masks: Tensor | None = None,
    end: bool = False,
) -> Tensor:
    image = frame.image
    if masks is not None:
        masks = resize_masks(masks, tuple(image.shape[-2:]))
    with torch.autocast(image.device.type, propagator.autocast, enabled=propagator.autocast is not None):
        return tracker.step(image, masks, end=end, frame_key=frame.frame_key, refine=frame.refine)
