"""A tracker that carries the same mask through the same clip only once, for systems that differ elsewhere."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

import numpy as np

from visa.mask_track import MaskTrack


class RememberedWalks:
    """A propagator's face; what it carried is kept as run lengths as long as the clip is open.

    Args:
        propagator: does the walking.
    """

    def __init__(self, propagator) -> None:
        self.propagator, self.encoder = propagator, propagator.encoder
        self.walks = 0
        self._known: WeakKeyDictionary = WeakKeyDictionary()

    def features(self, video):
        """See `visa.propagation.ClipPropagator`."""
        return self.propagator.features(video)

    def propagate(self, video, target_frame, masks, *, progress=None, features=None) -> np.ndarray:
        """See `visa.propagation.ClipPropagator`."""
        known = self._known.setdefault(video, {})
        masks = np.asarray(masks)
        key = target_frame, hashlib.sha256(np.packbits(masks).tobytes()).digest()
        if key not in known:
            self.walks += 1
            carried = self.propagator.propagate(video, target_frame, masks, features=features)
            known[key] = tuple(MaskTrack.of(each) for each in carried)
        if progress is not None:
            progress(len(video), len(video))
        return np.stack([track.decoded() for track in known[key]])

    def stream_many(self, video, anchors, *, features=None):
        """See `visa.propagation.ClipPropagator`; one question after the other, in the order of the frames."""
        for question, anchor in enumerate(anchors):
            carried = self.propagate(video, anchor.target_frame, anchor.masks, features=features)
            yield from ((question, index, carried[:, index]) for index in range(len(video)))
