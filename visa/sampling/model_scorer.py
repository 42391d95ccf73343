"""One of our own MLLMs as a scorer: of single frames, and of the whole video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visa.sampling.choice import FrameScorer, uniform_indices
from visa.video import Video


@dataclass(frozen=True)
class ModelScorer:
    """Answers for a model that is loaded already; both a `FrameScorer` and a `VideoScorer`.

    Args:
        name: the model with its settings, say ``"visa-7b, 12 frames, temperature 0.6"``: kept answers are
            found again by it, so another model or setting needs another name.
        video: what is looked at.
        answer: called with frame indices in order of time, a question, and which of several answers is
            wanted; what the model says in words.
        score_frames: as `FrameScorer`.
        num_frames: frames that stand for the whole video, spread over it.
    """

    name: str
    video: Video
    answer: Callable[[tuple[int, ...], str, int], str]
    score_frames: FrameScorer
    num_frames: int = 12

    def generate(self, question: str, number: int = 0) -> str:
        """See `VideoScorer`. A model that always takes the likeliest word need be asked only once."""
        return self.answer(uniform_indices(len(self.video), self.num_frames), question, number)

    def __call__(self, frames: Sequence[int], question: str) -> Sequence[float]:
        """See `FrameScorer`."""
        return self.score_frames(frames, question)
