"""Drawn masks carried to all frames of a video, for all questions of one walk, frame by frame.

Shapes: N objects, F frames that were drawn, T frames, H W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from visa.anchored_propagation import stream_anchored
from visa.mask_track import MaskTrack
from visa.propagation import Anchor, ClipFeatures, ClipPropagator, FrameProgress
from visa.sightings import Strand
from visa.video import Video


@torch.inference_mode()
def carry(
    propagator: ClipPropagator | None,
    video: Video,
    strands: Sequence[Strand],
    features: ClipFeatures | None,
    progress: FrameProgress,
) -> list[tuple[MaskTrack, ...]]:
    """Masks of all frames, kept as run lengths as they come.

    What was drawn on one frame is followed from there both ways, what was drawn on several from the first
    frame to the last, what was drawn on all is left as it is.

    Args:
        propagator: carries them; None where all frames are drawn.
        video: the clip.
        strands: what goes through it together.
        features: the clip's frames as the propagator takes them.
        progress: called after every frame, in frames summed over the strands that are carried.

    Returns:
        N tracks of T frames for each strand.

    Raises:
        ValueError: a strand does not fit the video.
    """
    shape = (len(video), video.height, video.width)
    moving = [number for number, strand in enumerate(strands) if len(strand.frames) < len(video)]
    carried = [strand.masks for strand in strands]
    for number in moving:
        carried[number] = tuple(MaskTrack(shape) for _ in strands[number].masks)
    frames = _carried(propagator, video, [strands[number] for number in moving], features)
    for done, (place, index, masks) in enumerate(frames, start=1):
        for track, mask in zip(carried[moving[place]], masks, strict=True):
            track.put(index, mask)
        progress(done, len(video) * len(moving))
    return carried


def _carried(
    propagator: ClipPropagator, video: Video, strands: list[Strand], features: ClipFeatures | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(strand, frame index, bool [N, H, W]), each as soon as it is known."""
    by_one = [number for number, strand in enumerate(strands) if len(strand.frames) == 1]
    if by_one:
        anchors = [Anchor(strands[number].frames[0], strands[number].first) for number in by_one]
        for place, index, masks in propagator.stream_many(video, anchors, features=features):
            yield by_one[place], index, masks
    by_several = [number for number, strand in enumerate(strands) if len(strand.frames) > 1]
    streams = [
        stream_anchored(propagator, video, strands[number].frames, strands[number].masks, features=features)
        for number in by_several
    ]
    for step in zip(*streams, strict=True):  # a frame of each, so that it is encoded once for all
        yield from ((number, *frame) for number, frame in zip(by_several, step, strict=True))
