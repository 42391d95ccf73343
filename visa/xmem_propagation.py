"""XMem carries masks through a clip, with the face of `visa.propagation.ClipPropagator`.

What was pointed at is recognised after a cut (`visa.recognition`) where frames have a look to know it by.
Shapes: N objects, h w pixels at which they are tracked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.xmem import FrameParts, MemoryConfig, XMem, XMemTracker
from model.xmem.framing import resize_masks
from visa.propagation import ClipPropagator, Follower, Track
from visa.recognition import Recogniser
from visa.tracked_frames import FrameEncoder, ImageEncoder, TrackedFrame


class Propagator(ClipPropagator):
    """XMem carries the masks.

    Args:
        network: XMem, in evaluation mode; ``for_tracking`` makes it faster.
        config: how memory is kept; VISA's settings by default.
        encoder: how a frame is read; ``ImageEncoder(network)`` by default.
        autocast: dtype of the convolutions, such as bfloat16; None for the network's own.
    """

    def __init__(
        self,
        network: XMem,
        config: MemoryConfig | None = None,
        encoder: FrameEncoder | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.network = network
        self.autocast = autocast
        self.config = MemoryConfig() if config is None else config
        self.encoder = ImageEncoder(network) if encoder is None else encoder

    def _shared(self, frame: TrackedFrame) -> FrameParts:
        return self.network.frame_parts(frame.frame_key)

    def _start(self, track: Track, frame: TrackedFrame, num_frames: int) -> None:
        track.tracker = XMemTracker(self.network, self.config, [len(masks) for masks in track.masks])
        if frame.look is not None:
            track.recognisers = tuple(
                Recogniser(frame.look, torch.from_numpy(masks).to(frame.look.device)) for masks in track.masks
            )
        self.step(track.tracker, frame, torch.from_numpy(np.concatenate(track.masks)))

    def _follow(
        self, track: Track, frame: TrackedFrame, shared: FrameParts, index: int, step: int, *, end: bool
    ) -> Tensor:
        return self.step(track.tracker, frame, parts=shared, end=end, recognisers=track.recognisers)

    def follower(self, num_frames: int) -> Follower:
        """See `ClipPropagator`."""
        return _XMemFollower(self)

    def step(
        self,
        tracker: XMemTracker,
        frame: TrackedFrame,
        masks: Tensor | None = None,
        parts: FrameParts | None = None,
        end: bool = False,
        recognisers: Sequence[Recogniser] = (),
    ) -> Tensor:
        """One frame of one tracker, see `XMemTracker.step`; ``masks`` at the video's size.

        Args:
            recognisers: of its contests, each.
        """
        image, waiting = frame.image, iter(recognisers)

        def refine(mask_probs: Tensor) -> Tensor:
            mask_probs = frame.refine(mask_probs) if frame.refine else mask_probs
            recogniser = next(waiting, None)
            return recogniser(frame.look, mask_probs) if recogniser else mask_probs

        if masks is not None:
            masks = resize_masks(masks, tuple(image.shape[-2:]))
        with self._precision(frame):
            return tracker.step(
                image,
                masks,
                end=end,
                frame_key=frame.frame_key,
                frame_parts=parts,
                refine=refine if frame.refine or recognisers else None,
            )

    def _precision(self, frame: TrackedFrame) -> torch.autocast:
        return torch.autocast(frame.pixels.device.type, self.autocast, enabled=self.autocast is not None)


class _XMemFollower:
    """See `Follower`.

    Args:
        propagator: whose network tracks.
    """

    def __init__(self, propagator: Propagator) -> None:
        self.propagator = propagator
        self.tracker = XMemTracker(propagator.network, propagator.config)

    def know(self, index: int, frame: TrackedFrame, masks: Tensor) -> None:
        """See `Follower`."""
        self.propagator.step(self.tracker, frame, masks)
        # What moved is no use at the next frame, which is of another time.
        self.tracker.memory.sensory = torch.zeros_like(self.tracker.memory.sensory)

    def find(self, index: int, frame: TrackedFrame, *, end: bool) -> Tensor:
        """See `Follower`."""
        return self.propagator.step(self.tracker, frame, end=end)
