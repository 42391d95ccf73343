"""SAM 2 carries masks through a clip, with the face of `visa.propagation.ClipPropagator`.

The walk, its order and what it shares are those of XMem's: a frame is read and encoded once for all
questions, objects and both ways. SAM 2's objects do not know of one another; where two of one question
overlap, the pixel is the surer one's. Of a clip only the memory banks and `ClipFeatures` are held.

Shapes: N objects, T frames, H W pixels of the video, S side of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.sam import SamSegmenter
from model.sam2 import Sam2Network, Sam2Segmenter, Sam2Tracker
from model.segmentation import FrameFeatures
from visa.propagation import ClipPropagator, Follower, Track


@dataclass(frozen=True)
class Sam2Frame:
    """A frame as the tracker takes it.

    Attributes:
        features: of this frame alone.
    """

    features: FrameFeatures

    @property
    def num_bytes(self) -> int:
        """Memory that the frame takes."""
        return sum(each.nbytes for each in (self.features.embedding, *self.features.levels))


@dataclass(frozen=True)
class Sam2FrameEncoder:
    """Reads a frame for SAM 2.

    Args:
        network: of the tracker.
    """

    network: Sam2Network

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> Sam2Frame:
        """uint8 [H, W, 3] RGB -> Sam2Frame on the network's device."""
        return Sam2Frame(Sam2Segmenter(self.network).encode(np.ascontiguousarray(frame)[None]))

    def serves(self, sam: SamSegmenter | Sam2Segmenter) -> bool:
        """Whether ``Sam2Frame.features`` are what this segmenter would make of the frame."""
        return isinstance(sam, Sam2Segmenter) and sam.network is self.network


class Sam2Propagator(ClipPropagator):
    """SAM 2 carries the masks, as given: they are the prompt.

    The way back looks at the first frames of the way there, as in the library.

    Args:
        network: with memory.

    Raises:
        ValueError: the network is SAM 2's image part alone.
    """

    def __init__(self, network: Sam2Network) -> None:
        self.network = network
        self.encoder = Sam2FrameEncoder(network)
        Sam2Tracker(network)  # says at once if it cannot track

    def _start(self, track: Track, frame: Sam2Frame, num_frames: int) -> None:
        if track.tracker is not None:
            return
        # Each question's objects are a batch of their own, so that it comes out as alone bit by bit.
        track.tracker = [Sam2Tracker(self.network, num_frames) for _ in track.masks]
        for tracker, masks in zip(track.tracker, track.masks, strict=True):
            tracker.prompt_masks(track.target_frame, frame.features, torch.from_numpy(masks))

    def _follow(
        self, track: Track, frame: Sam2Frame, shared: None, index: int, step: int, *, end: bool
    ) -> Tensor:
        trackers: Sequence[Sam2Tracker] = track.tracker
        found = [tracker.track(index, frame.features, step).mask_logits for tracker in trackers]
        return torch.cat([_with_background(mask_logits) for mask_logits in found])

    def follower(self, num_frames: int) -> Follower:
        """See `ClipPropagator`. Frames before the first known one look at those to come."""
        return _Sam2Follower(Sam2Tracker(self.network, num_frames))


@dataclass(frozen=True)
class _Sam2Follower:
    """See `Follower`."""

    tracker: Sam2Tracker

    def know(self, index: int, frame: Sam2Frame, masks: Tensor) -> None:
        """See `Follower`."""
        self.tracker.prompt_masks(index, frame.features, masks)

    def find(self, index: int, frame: Sam2Frame, *, end: bool) -> Tensor:
        """See `Follower`."""
        return _with_background(self.tracker.track(index, frame.features).mask_logits)


def _with_background(mask_logits: Tensor) -> Tensor:
    """[N, h, w] -> [1 + N, h, w]: where all objects are below 0, nothing is."""
    return torch.cat([torch.zeros_like(mask_logits[:1]), mask_logits])
