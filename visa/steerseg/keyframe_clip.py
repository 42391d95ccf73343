"""The keyframes of a video as a clip of their own, on which candidates are tried out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from visa.tracked_frames import ClipFeatures
from visa.video import Video


@dataclass(frozen=True)
class KeyframeClip:
    """K keyframes in order of time.

    video: of K frames. features: as the tracker takes them.
    """

    video: Video
    features: ClipFeatures


class KeyframeFeatures(ClipFeatures):
    """The tracker's frames of the keyframes, which are those of the whole video: none is encoded twice.

    Args:
        video: the clip of the keyframes.
        keyframes: their indices in the whole video.
        whole: the whole video's.
    """

    def __init__(self, video: Video, keyframes: Sequence[int], whole: ClipFeatures) -> None:
        super().__init__(video, whole.encoder, 0)
        self.keyframes, self.whole = tuple(keyframes), whole

    def __getitem__(self, index: int) -> Any:
        """Keyframe ``index`` as the tracker takes it."""
        return self.whole[self.keyframes[index]]

    def read_ahead(self, index: int, reader: Executor) -> None:
        """See `ClipFeatures`."""
        self.whole.read_ahead(self.keyframes[index], reader)

    def settle(self) -> None:
        """See `ClipFeatures`."""
        self.whole.settle()


def keyframe_clip(
    video: Video, keyframes: Sequence[int], tracker: Any, whole: ClipFeatures | None
) -> KeyframeClip:
    """The clip of some frames of a video.

    Args:
        tracker: what will carry masks over it. whole: features of the whole video, as far as there are some;
            they are shared where the tracker takes frames as they were made.
    """
    clip = Video.from_frames(video.frames(keyframes), video.fps, video.name)
    if whole is not None and getattr(whole, "encoder", None) is getattr(tracker, "encoder", tracker):
        return KeyframeClip(clip, KeyframeFeatures(clip, keyframes, whole))
    return KeyframeClip(clip, tracker.features(clip))
