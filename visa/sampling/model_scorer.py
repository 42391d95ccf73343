"""One of our own MLLMs as a scorer: of single frames, and of the whole video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from visa.sampling.choice import FrameChoice, FrameScorer, Sampler, VideoScorer, uniform_indices
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

    def telling(self, tell: Callable[[int, int], None]) -> ModelScorer:
        """The same scorer, calling tell(done, total) before each frame that it is asked about."""

        def score_each(frames: Sequence[int], question: str) -> list[float]:
            scores = []
            for done, frame in enumerate(frames):
                tell(done, len(frames))
                scores += self.score_frames([frame], question)
            return scores

        return replace(self, score_frames=score_each)


def choose_frames(
    sampler: Sampler,
    num_frames: int,
    question: str,
    scorer: ModelScorer | FrameScorer | VideoScorer | None,
    tell: Callable[[int, int], None],
) -> FrameChoice:
    """What a sampler chooses, told as tell(done, total): its steps are the frames it asks about.

    A sampler that asks about no single frame, or not one of our own models, takes one step. One that asks
    nobody needs no scorer.
    """
    steps = 1

    def told(done: int, total: int) -> None:
        nonlocal steps
        steps = total
        tell(done, total)

    tell(0, 1)
    heard = scorer.telling(told) if isinstance(scorer, ModelScorer) else scorer
    choice = sampler.choose(num_frames, question, heard)
    tell(steps, steps)
    return choice
