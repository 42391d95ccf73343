"""Text-guided target frame: the MLLM is asked of candidate frames whether what the question means is there.

VISA asks a second, larger video model for a percentage mark (VISA, section 3.2). A small model cannot count
marks, but it can say of one frame whether it would find the thing in it; so it is asked that of frames spread
over the video, and the surest one becomes the target.
"""

from collections.abc import Sequence
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
        num_anchors: frames where the mask is drawn, the target among them: more than one lets it be anchored
            again where the tracker may have drifted.
        anchor_score: a further anchor's least score, a probability.
        anchor_gap: how far anchors are apart, as a share of the video.
    """

    num_references: int = 4
    num_candidates: int = 8
    tolerance: float = 0.02
    num_anchors: int = 1
    anchor_score: float = 0.5
    anchor_gap: float = 0.15

    def __post_init__(self):
        if self.num_anchors < 1:
            raise ValueError(f"num_anchors must be at least 1, the target frame, not {self.num_anchors}")

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        candidates = uniform_indices(num_frames, self.num_candidates)
        scores = scorer(candidates, question)
        enough = max(scores) - self.tolerance
        good = [index for index, score in zip(candidates, scores, strict=True) if score >= enough]
        target = min(good, key=lambda index: abs(2 * index + 1 - num_frames))
        spread = uniform_indices(len(candidates), self.num_references)
        references = tuple(candidates[place] for place in spread)
        return FrameChoice(target, references, anchors=self._anchors(num_frames, target, candidates, scores))

    def _anchors(
        self, num_frames: int, target: int, candidates: Sequence[int], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """The surest candidates besides the target that lie apart; the earlier of two equals."""
        chosen, surest = [target], sorted(zip(scores, candidates, strict=True), key=lambda each: -each[0])
        for score, index in surest:
            apart = all(abs(index - other) >= self.anchor_gap * num_frames for other in chosen)
            if len(chosen) < self.num_anchors and score >= self.anchor_score and apart and index != target:
                chosen.append(index)
        return tuple(chosen[1:])
