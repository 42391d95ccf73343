"""One video as one segmenter sees it: every frame is encoded once, however many questions are asked."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from model.mllm.cells import ClassifierTower, FrameCells
from model.mllm.mllm import Reading
from model.sam.segmenter import FrameFeatures, SamSegmenter
from visa.propagation import Propagator
from visa.video import Video

# Frames whose SAM features are kept: those of the target frames of recent questions (about 10 MB each).
MAX_SAM_FRAMES = 16
# Frames whose cells are kept (about 1 MB each).
MAX_CELL_FRAMES = 64
# Readings kept, mostly those of single candidate frames (about 5 MB each).
MAX_READINGS = 16


class Viewing:
    """Lazily encoded frames of a video, shared by all questions about it."""

    def __init__(self, video: Video, tower: ClassifierTower, sam: SamSegmenter, propagator: Propagator):
        self.video, self._tower, self._sam = video, tower, sam
        self.tracker_features = propagator.features(video)
        self._cells: OrderedDict[int, FrameCells] = OrderedDict()
        self._sam_features: OrderedDict[int, FrameFeatures] = OrderedDict()
        self._readings: OrderedDict[tuple[int, ...], Reading] = OrderedDict()

    def cells(self, indices: Sequence[int]) -> list[FrameCells]:
        """The vision tower's cells of the frames ``indices``."""
        return [
            _remember(self._cells, MAX_CELL_FRAMES, index, lambda i: self._tower(self.video.frames([i]))[0])
            for index in indices
        ]

    def sam_features(self, index: int) -> FrameFeatures:
        """SAM's features of the frame ``index``."""
        return _remember(
            self._sam_features, MAX_SAM_FRAMES, index, lambda i: self._sam.encode(self.video.frames([i]))
        )

    def reading(
        self, frames: tuple[int, ...], read: Callable[[list[FrameCells], list[int]], Reading]
    ) -> Reading:
        """The frames (references, then target) as the MLLM's ``read`` takes them in, before any question."""
        return _remember(
            self._readings,
            MAX_READINGS,
            frames,
            lambda chosen: read(self.cells(chosen), [self.percent(index) for index in chosen]),
        )

    def percent(self, index: int) -> int:
        """Where in the video the frame lies, in percent [0, 100]."""
        return round(100 * index / max(1, self.video.num_frames - 1))


def _remember(cache: OrderedDict, limit: int, key, encode: Callable):
    if key not in cache:
        cache[key] = encode(key)
        if len(cache) > limit:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
