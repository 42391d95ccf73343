"""Propagate: carry the masks of one frame through the whole clip, both ways in time, whoever tracks.

VISA (Yan et al., ECCV 2024, section 3.4) runs XMem forwards and backwards from the target frame. Here the
target frame keeps the masks it was given, and all questions about a clip walk it together: a frame is read
and encoded once for all of them, with it what the decoder makes of it whatever the object, and questions with
one target frame share memory keys and affinity. The objects of a question are one batch. Those of several are
not, though that would save a few percent more: in bfloat16 half a percent of a mask's pixels hang on who else
is in the batch, and a question must come out the same, bit by bit, alone, among others, and in a run that was
broken off between them.

Shapes: N objects, T frames, H W pixels of the video, h w pixels at which it is tracked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from model.xmem.contests import per_contest
from model.xmem.framing import resize_images
from visa.recognition import Recogniser
from visa.tracked_frames import ClipFeatures, FrameEncoder, ImageEncoder, TrackedFrame
from visa.video import Video

__all__ = [
    "Anchor",
    "ClipFeatures",
    "ClipPropagator",
    "Follower",
    "FrameProgress",
    "ImageEncoder",
    "Track",
    "TrackedFrame",
    "winners",
]

# Called as progress(done, total), in frames, summed over the questions.
FrameProgress = Callable[[int, int], None]

# Objects that walk the clip together; more questions walk it again. At 480p the published network takes about
# 150 MB for each in float32, 75 MB in bfloat16.
OBJECTS_AT_ONCE = 8
# Frames held where nobody else will ask for them: the first one, of which both ways start, stays.
ONE_WALK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Anchor:
    """What a question starts from.

    Attributes:
        target_frame: 0 <= target_frame < T.
        masks: bool [N, H, W] in that frame.
    """

    target_frame: int
    masks: np.ndarray | Tensor


class Follower(Protocol):
    """Objects that are known in several frames, looked for in the others from the first frame to the last."""

    def know(self, index: int, frame: Any, masks: Tensor) -> None:
        """Memorise bool masks [N, H, W] of a frame; for all such frames before the first ``find``."""

    def find(self, index: int, frame: Any, *, end: bool) -> Tensor:
        """float [1 + N, h, w], background first; the largest wins. ``end``: of the clip."""


@dataclass
class Track:
    """Questions that share a target frame, and with it a memory.

    Attributes:
        questions: their numbers.
        masks: bool [n, H, W] of each, without empty ones.
        present: bool [N] of each, which of its masks are not empty.
        tracker: what follows them.
        recognisers: one for each question, of what is recognised after a cut; or none.
    """

    target_frame: int
    questions: list[int]
    masks: list[np.ndarray]
    present: list[np.ndarray]
    tracker: Any = None
    recognisers: tuple[Recogniser, ...] = ()

    @property
    def num_objects(self) -> int:
        return sum(len(masks) for masks in self.masks)

    def answers(self, mask_probs: Tensor, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
        """(question, bool [N, H, W]) from the tracker's probabilities."""
        contests = [len(masks) for masks in self.masks]
        parts = per_contest(mask_probs, contests)
        for question, present, probs in zip(self.questions, self.present, parts, strict=True):
            masks = np.zeros((len(present), *size), dtype=bool)
            masks[present] = winners(probs, size)
            yield question, masks


class ClipPropagator(ABC):
    """Carries masks from one frame of a video to all of its frames, whoever tracks.

    Attributes:
        encoder: how a frame is read.
    """

    encoder: FrameEncoder

    def features(self, video: Video) -> ClipFeatures:
        """Frames of a clip to share between calls."""
        return ClipFeatures(video, self.encoder)

    def propagate(
        self,
        video: Video,
        target_frame: int,
        masks: np.ndarray | Tensor,
        *,
        progress: FrameProgress | None = None,
        features: ClipFeatures | None = None,
    ) -> np.ndarray:
        """Masks of all frames.

        Args:
            video: the clip.
            target_frame: the frame that ``masks`` belong to, 0 <= target_frame < T.
            masks: bool [N, H, W]. An empty mask stays empty in all frames, and the network does not run for
                it.
            progress: called after every frame.
            features: of this clip, when it is propagated more than once.

        Returns:
            bool [N, T, H, W]; at most one object per pixel outside the target frame.

        Raises:
            ValueError: there is no such frame, or the masks do not have the video's size.
        """
        return self.propagate_many(
            video, [Anchor(target_frame, masks)], progress=progress, features=features
        )[0]

    def propagate_many(
        self,
        video: Video,
        anchors: Sequence[Anchor],
        *,
        progress: FrameProgress | None = None,
        features: ClipFeatures | None = None,
    ) -> list[np.ndarray]:
        """Masks of all frames for several questions at once, each as if it were alone. See ``propagate``.

        Returns:
            bool [N, T, H, W] of each question.
        """
        size = (len(video), video.height, video.width)
        results = [np.zeros((len(anchor.masks), *size), dtype=bool) for anchor in anchors]
        frames = self.stream_many(video, anchors, features=features)
        for done, (question, index, masks) in enumerate(frames, start=1):
            results[question][:, index] = masks
            if progress is not None:
                progress(done, len(video) * len(anchors))
        return results

    def stream(
        self,
        video: Video,
        target_frame: int,
        masks: np.ndarray | Tensor,
        *,
        features: ClipFeatures | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """The same frame by frame, as soon as each is known: (frame index, bool [N, H, W]).

        Order: the target frame, on to the last frame, then from the target frame back to the first. Memory
        does not grow with the clip.
        """
        frames = self.stream_many(video, [Anchor(target_frame, masks)], features=features)
        return ((index, masks) for _, index, masks in frames)

    def stream_many(
        self, video: Video, anchors: Sequence[Anchor], *, features: ClipFeatures | None = None
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Several questions frame by frame: (question, frame index, bool [N, H, W]).

        Each question has the order of ``stream``; the questions alternate. The video may be read between two
        frames.
        """
        checked = [_checked(video, anchor) for anchor in anchors]
        if features is None:
            several = len({anchor.target_frame for anchor in checked}) > 1
            features = self.features(video) if several else ClipFeatures(video, self.encoder, ONE_WALK_BYTES)
        return self._stream(features, checked)

    def _stream(self, features: ClipFeatures, anchors: list[Anchor]) -> Iterator[tuple[int, int, np.ndarray]]:
        last = len(features.video) - 1
        for question, anchor in enumerate(anchors):
            yield question, anchor.target_frame, anchor.masks.copy()
            if not anchor.masks.any():
                others = [*range(anchor.target_frame + 1, last + 1), *range(anchor.target_frame - 1, -1, -1)]
                yield from ((question, index, np.zeros_like(anchor.masks)) for index in others)
        with ThreadPoolExecutor(1, "read-ahead") as reader:
            for tracks in _waves(anchors):
                yield from self._walk(features, tracks, last, 1, reader)
                yield from self._walk(features, tracks, 0, -1, reader)

    def _walk(
        self, features: ClipFeatures, tracks: list[Track], end: int, step: int, reader: ThreadPoolExecutor
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """One way through the clip, up to and with the frame ``end``."""
        waiting = sorted((track for track in tracks if track.target_frame != end), key=_target_frame)
        waiting = waiting if step == 1 else waiting[::-1]
        size = (features.video.height, features.video.width)
        running: list[Track] = []
        for index in range(waiting[0].target_frame if waiting else end, end + step, step):
            if not waiting and not running:
                return
            frame = features[index]
            if index != end:
                features.read_ahead(index + step, reader)
            shared = self._shared(frame)
            known = []
            for track in running:
                probs = self._follow(track, frame, shared, index, step, end=index == end)
                known += [(question, index, masks) for question, masks in track.answers(probs, size)]
            while waiting and waiting[0].target_frame == index:
                running.append(waiting.pop(0))
                self._start(running[-1], frame, len(features.video))
            features.settle()
            yield from known

    def _shared(self, frame: Any) -> Any:
        """What of a frame serves all who take it."""
        return None

    @abstractmethod
    def _start(self, track: Track, frame: Any, num_frames: int) -> None:
        """Memorise a track's masks on its target frame; done before each of the two ways."""

    @abstractmethod
    def _follow(self, track: Track, frame: Any, shared: Any, index: int, step: int, *, end: bool) -> Tensor:
        """Find a track's objects in the next frame: float [K + N, h, w], for each of its K questions the
        background and then its objects; the largest wins.
        """

    @abstractmethod
    def follower(self, num_frames: int) -> Follower:
        """For objects that are known in several of T frames."""


def _target_frame(track: Track) -> int:
    return track.target_frame


def _checked(video: Video, anchor: Anchor) -> Anchor:
    masks = np.asarray(anchor.masks.cpu() if isinstance(anchor.masks, Tensor) else anchor.masks)
    if not 0 <= anchor.target_frame < len(video):
        raise ValueError(f"target_frame must be in 0..{len(video) - 1}, got {anchor.target_frame}")
    if masks.dtype != bool or masks.ndim != 3 or masks.shape[1:] != (video.height, video.width):
        raise ValueError(
            f"masks must be bool [N, {video.height}, {video.width}] like the video, "
            f"got {masks.dtype} {list(masks.shape)}"
        )
    return Anchor(anchor.target_frame, masks)


def _waves(anchors: list[Anchor]) -> Iterator[list[Track]]:
    """Questions that walk together, at most ``OBJECTS_AT_ONCE`` objects unless one question has more."""
    wave: list[Track] = []
    for question in sorted(range(len(anchors)), key=lambda number: anchors[number].target_frame):
        anchor = anchors[question]
        present = anchor.masks.any((1, 2))
        if not present.any():
            continue
        if wave and sum(track.num_objects for track in wave) + present.sum() > OBJECTS_AT_ONCE:
            yield wave
            wave = []
        if not wave or wave[-1].target_frame != anchor.target_frame:
            wave.append(Track(anchor.target_frame, [], [], []))
        wave[-1].questions.append(question)
        wave[-1].masks.append(anchor.masks[present])
        wave[-1].present.append(present)
    if wave:
        yield wave


def winners(mask_probs: Tensor, size: tuple[int, int]) -> np.ndarray:
    """float [1 + N, h, w] -> bool [N, H, W], where the object's probability is the largest."""
    winner = resize_images(mask_probs[None], size)[0].argmax(0)
    objects = torch.arange(1, len(mask_probs), device=winner.device)
    return (winner == objects[:, None, None]).cpu().numpy()
