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
from torch import Tensor

from model.xmem import XMemTracker
from model.xmem.framing import resize_images, resize_masks
from visa.mask_track import MaskTrack, as_tracks
from visa.propagation import ClipFeatures, Propagator, TrackedFrame
from visa.video import Video


def stream_anchored(
    propagator: Propagator,
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
    propagator: Propagator, features: ClipFeatures, frames: tuple[int, ...], tracks: Sequence[MaskTrack]
) -> Iterator[tuple[int, np.ndarray]]:
    video = features.video
    last, size = len(video) - 1, (video.height, video.width)
    present = np.array([track.any() for track in tracks], dtype=bool)
    anchors = [place for place in range(len(frames)) if any(track.areas[place] for track in tracks)]
    tracker = XMemTracker(propagator.network, propagator.config)
    for place in anchors:
        given = torch.from_numpy(np.stack([track[place] for track in tracks if track.any()]))
        _step(propagator, tracker, features[frames[place]], given)
        # What moved is no use at the next frame, which is of another time.
        tracker.memory.sensory = torch.zeros_like(tracker.memory.sensory)
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        for index in range(last + 1):
            masks = np.zeros((len(tracks), *size), bool)
            if index in frames:
                masks[:] = [track[frames.index(index)] for track in tracks]
            elif anchors:
                frame = features[index]
                if index < last and index + 1 not in frames:
                    features.read_ahead(index + 1, reader)
                probs = _step(propagator, tracker, frame, end=index == last)
                winner = resize_images(probs[None], size)[0].argmax(0).cpu().numpy()
                masks[present] = winner == np.arange(1, len(probs))[:, None, None]
                features.settle()
            yield index, masks


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
