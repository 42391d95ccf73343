"""Masks of all frames from those of several: how VideoLISA's dense frames are carried to the others.

VideoLISA (Bai et al. 2024, arXiv 2409.19603) polishes its masks with XMem++ (Bekuzarov et al. 2023, arXiv
2307.15958): what was drawn is memorised before anything is tracked, then one pass goes from the first frame
to the last. Two things differ here: frames that were drawn keep their masks, and in a long video all of them
but the first are condensed in time, like any other frame in memory.

Shapes: N objects, F frames with masks, T frames, H W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from visa.mask_track import MaskTrack, as_tracks
from visa.propagation import ClipFeatures, ClipPropagator, winners
from visa.video import Video


def stream_anchored(
    propagator: ClipPropagator,
    video: Video,
    frames: Sequence[int],
    masks: np.ndarray | Sequence[MaskTrack],
    *,
    features: ClipFeatures | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Masks of all frames, from the first to the last, each as soon as it is known.

    Memory does not grow with the clip. Nobody reads the video between two frames, so several may be streamed
    in step, and find each frame encoded once.

    Args:
        propagator: whose network tracks.
        video: the clip.
        frames: F different frame indices.
        masks: bool [N, F, H, W], or N tracks of F frames. Frames without any object are passed over; if all
            are, so is the clip.
        features: as for `Propagator.stream`.

    Returns:
        (frame index, bool [N, H, W]) for each.

    Raises:
        ValueError: there are no such frames, or the masks do not have their number and the video's size.
    """
    length, size = len(video), (video.height, video.width)
    if len({*frames} & {*range(length)}) != len(frames):
        raise ValueError(f"frames must be different ones of 0..{length - 1}, got {list(frames)}")
    tracks = as_tracks(masks)
    if any(track.shape != (len(frames), *size) for track in tracks):
        raise ValueError(
            f"masks must be bool [N, {len(frames)}, {size[0]}, {size[1]}], "
            f"got some of {[list(track.shape) for track in tracks]}"
        )
    return _stream(propagator, features or propagator.features(video), tuple(frames), tracks)


@torch.inference_mode()
def _stream(
    propagator: ClipPropagator, features: ClipFeatures, frames: tuple[int, ...], tracks: Sequence[MaskTrack]
) -> Iterator[tuple[int, np.ndarray]]:
    video = features.video
    last, size = len(video) - 1, (video.height, video.width)
    present = np.array([track.any() for track in tracks], dtype=bool)
    anchors = [place for place in range(len(frames)) if any(track.areas[place] for track in tracks)]
    follower = propagator.follower(last + 1)
    for place in anchors:
        given = torch.from_numpy(np.stack([track[place] for track in tracks if track.any()]))
        follower.know(frames[place], features[frames[place]], given)
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        for index in range(last + 1):
            masks = np.zeros((len(tracks), *size), bool)
            if index in frames:
                masks[:] = [track[frames.index(index)] for track in tracks]
            elif anchors:
                frame = features[index]
                if index < last and index + 1 not in frames:
                    features.read_ahead(index + 1, reader)
                masks[present] = winners(follower.find(index, frame, end=index == last), size)
                features.settle()
            yield index, masks
