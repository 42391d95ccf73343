"""One video as one segmenter sees it: every frame is encoded once, however many questions are asked."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from model.sam.segmenter import FrameFeatures, SamSegmenter
from visa.propagation import ClipPropagator
from visa.sam2_propagation import Sam2FrameEncoder
from visa.video import Video

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True)
class ViewingLimits:
    """How much of a video is kept; the least recently used goes first. The figures are the embedded system's.

    sam_frames: frames whose SAM features are kept: those of recent questions' target frames (10 MB each).
    cell_frames: frames whose cells are kept (1 MB each).
    readings: kept, mostly those of single candidate frames (5 MB each).
    in_order: questions draw all frames in the same order. Then of SAM's features the newest goes first: who
        forgets the oldest has forgotten each frame of a long video just before it is asked for again.
    """

    sam_frames: int = 16
    cell_frames: int = 64
    readings: int = 16
    in_order: bool = False


class Viewing:
    """Lazily encoded frames of a video, shared by all questions about it.

    Args:
        video: what is seen.
        tower: frames uint8 [1, H, W, 3] to a list of one frame's cells: the MLLM's features of it.
        sam: encodes frames for drawing.
        propagator: encodes frames for tracking; None where nothing is tracked.
        limits: how much is kept.
    """

    def __init__(
        self,
        video: Video,
        tower: Callable[..., Sequence],
        sam: SamSegmenter,
        propagator: ClipPropagator | None,
        limits: ViewingLimits | None = None,
    ):
        self.video, self._tower, self._sam = video, tower, sam
        self.limits = limits or ViewingLimits()
        self.tracker_features = None if propagator is None else propagator.features(video)
        encoder = getattr(self.tracker_features, "encoder", None)
        self._tracks_on_sam = isinstance(encoder, Sam2FrameEncoder) and encoder.serves(sam)
        self._cells: OrderedDict[int, object] = OrderedDict()
        self._sam_features: OrderedDict[int, FrameFeatures] = OrderedDict()
        self._readings: OrderedDict[Hashable, object] = OrderedDict()

    def cells(self, indices: Sequence[int]) -> list:
        """The vision tower's cells of the frames ``indices``."""
        return [
            _remember(
                self._cells, self.limits.cell_frames, i, lambda i: self._tower(self.video.frames([i]))[0]
            )
            for i in indices
        ]

    def sam_features(self, index: int) -> FrameFeatures:
        """SAM's features of the frame ``index``; the tracker's own, where it follows on the same SAM 2."""
        return _remember(
            self._sam_features,
            self.limits.sam_frames,
            index,
            self._encode_for_sam,
            newest_first=self.limits.in_order,
        )

    def _encode_for_sam(self, index: int) -> FrameFeatures:
        if self._tracks_on_sam:
            return self.tracker_features[index].features
        return self._sam.encode(self.video.frames([index]))

    def reading(self, frames: Key, read: Callable[[Key], Value]) -> Value:
        """What ``read`` makes of ``frames``, before any question; made once for what is equal."""
        return _remember(self._readings, self.limits.readings, frames, read)

    def percent(self, index: int) -> int:
        """Where in the video the frame lies, in percent [0, 100]."""
        return round(100 * index / max(1, self.video.num_frames - 1))


def _remember(cache: OrderedDict, limit: int, key: Hashable, encode: Callable, *, newest_first: bool = False):
    if key not in cache:
        while len(cache) >= limit:  # before the new one is made: two readings may not fit
            cache.popitem(last=newest_first)
        cache[key] = encode(key)
    cache.move_to_end(key)
    return cache[key]
