"""What every frame sampler answers, and the index arithmetic that they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

# Asked of frame indices and a question: for each frame the probability [0, 1] that the thing asked for is
# seen in it.
FrameScorer = Callable[[Sequence[int], str], Sequence[float]]


@dataclass(frozen=True)
class FrameChoice:
    """Frame indices of one video: the target frame, and reference frames in order of time."""

    target: int
    references: tuple[int, ...]


class Sampler(Protocol):
    """Picks the frames for one question."""

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """Choose among ``num_frames`` >= 1 frames; ``scorer`` asks the MLLM about single frames."""
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
