"""What every frame sampler answers, whom it may ask, and the index arithmetic that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from visa.video import Video

# Asked of frame indices and a question: for each frame the probability [0, 1] that the thing asked for is
# seen in it.
FrameScorer = Callable[[Sequence[int], str], Sequence[float]]


@runtime_checkable
class VideoScorer(Protocol):
    """An MLLM that looks at one whole video; any model that can answer in words will do.

    name: which model with which settings; answers are kept on disk under it.
    video: what it looks at.
    """

    name: str
    video: Video

    def generate(self, question: str, number: int = 0) -> str:
        """One answer to the question about the video.

        Answers of different ``number`` may differ; asked again for one, also after a restart, a scorer of
        ours gives the same.
        """
        ...


@dataclass(frozen=True)
class FrameChoice:
    """Frame indices of one video.

    target: where the mask is drawn.
    references: what the MLLM sees besides, in order of time. The MLLM reads the references and then the
        target once more (VISA), or, where ``dense`` is not empty, the references alone (VideoLISA).
    dense: ascending positions in ``references`` of the frames that are shown with all of their tokens.
    anchors: further frames where the mask may be drawn as well, the surest first (`visa/reanchoring.py`).
    """

    target: int
    references: tuple[int, ...]
    dense: tuple[int, ...] = ()
    anchors: tuple[int, ...] = ()

    @property
    def dense_frames(self) -> tuple[int, ...]:
        """Frame indices of the dense frames; repeated where a short video repeats frames."""
        return tuple(self.references[position] for position in self.dense)

    def at_anchors(self) -> list[FrameChoice]:
        """The same choice with each of the anchors as its target."""
        return [replace(self, target=anchor, anchors=()) for anchor in self.anchors]


class Sampler(Protocol):
    """Picks the frames for one question."""

    def choose(self, num_frames: int, question: str, scorer: FrameScorer | VideoScorer) -> FrameChoice:
        """Choose among ``num_frames`` >= 1 frames.

        ``scorer`` asks the MLLM about single frames, or is a `VideoScorer`, or both at once; a sampler says
        which of them it needs.
        """
        ...


def uniform_indices(num_frames: int, count: int) -> tuple[int, ...]:
    """The middles of ``count`` equal stretches of the video, in order, without repetition.

    Raises:
        ValueError: no frame, or no index asked for.
    """
    if num_frames < 1 or count < 1:
        raise ValueError(
            f"uniform_indices needs at least one frame and one index, got {num_frames} and {count}"
        )
    count = min(count, num_frames)
    return tuple((2 * k + 1) * num_frames // (2 * count) for k in range(count))
