"""Text-guided target frame: the MLLM is asked of candidate frames whether what the question means is there.

VISA asks a second, larger video model for a percentage mark (VISA, section 3.2). A small model cannot count
marks, but it can say of one frame whether it would find the thing in it; so it is asked that of frames spread
over the video, and the surest one becomes the target.
"""

from dataclasses import dataclass

from visa.sampling.choice import FrameChoice, FrameScorer, uniform_indices


@dataclass(frozen=True)
class TextGuided:
    """The candidate frame in which the MLLM is surest to find the thing.

    Args:
        num_references: reference frames, spread over the video; they are candidates too, and so read already.
        num_candidates: frames asked about, spread uniformly.
        tolerance: scores this close to the best count as equally good; among them the one nearest to the
            middle of the video wins, since the mask then travels the shortest way in both directions.
    """

    num_references: int = 4
    num_candidates: int = 8
    tolerance: float = 0.02

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        candidates = uniform_indices(num_frames, self.num_candidates)
        scores = scorer(candidates, question)
        enough = max(scores) - self.tolerance
        good = [index for index, score in zip(candidates, scores, strict=True) if score >= enough]
        target = min(good, key=lambda index: abs(2 * index + 1 - num_frames))
        spread = uniform_indices(len(candidates), self.num_references)
        return FrameChoice(target, tuple(candidates[place] for place in spread))
