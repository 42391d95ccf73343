"""Target frame at a percentage mark of the video: asked of a video MLLM, or given."""

from __future__ import annotations

from dataclasses import dataclass, field

from visa.sampling.answer_cache import AnswerCache, AnswerKey
from visa.sampling.choice import FrameChoice, FrameScorer, VideoScorer
from visa.sampling.percent import frame_at, mean_percent, percent_question
from visa.sampling.references import reference_frames, require_rule
from visa.sampling.video_content import content_hash


@dataclass(frozen=True)
class PercentGuided:
    """A video MLLM says which percentage mark of the video to check (VISA, section 3.2).

    It is asked several times, as its answers are drawn by chance, and the marks are averaged. Its answers are
    kept on disk, so that the same question about the same video is asked once and for all.

    Args:
        num_references: see `visa.sampling.references.reference_frames`.
        references: the rule by which they are laid.
        num_answers: how many answers are averaged.
        cache: where answers are kept; None keeps none.
    """

    num_references: int = 11
    references: str = "strided"
    num_answers: int = 10
    cache: AnswerCache | None = field(default_factory=AnswerCache)

    def __post_init__(self):
        require_rule(self.references, self.num_references)
        if (
            isinstance(self.num_answers, bool)
            or not isinstance(self.num_answers, int)
            or self.num_answers < 1
        ):
            raise ValueError(f"num_answers must be a whole number from 1 on, not {self.num_answers!r}")

    def choose(self, num_frames: int, question: str, scorer: FrameScorer | VideoScorer) -> FrameChoice:
        """See `Sampler`; needs a `VideoScorer`.

        Raises:
            ValueError: the scorer is none, or answers something else than words.
        """
        if not isinstance(scorer, VideoScorer):
            raise ValueError(
                "percent_guided asks a video MLLM: expected a scorer with name, video and "
                f"generate(question, number), got {type(scorer).__name__}; choose another sampler for other "
                "models"
            )
        target = frame_at(num_frames, mean_percent(self._answers(scorer, percent_question(question))))
        return FrameChoice(target, reference_frames(self.references, num_frames, target, self.num_references))

    def _answers(self, scorer: VideoScorer, question: str) -> list[str]:
        """``num_answers`` answers, those that are kept first; each new one is kept at once."""
        answers: list[str] = []
        if self.cache is not None:
            key = AnswerKey(content_hash(scorer.video), question, scorer.name)
            answers = self.cache.read(key)[: self.num_answers]
        while len(answers) < self.num_answers:
            answer = scorer.generate(question, len(answers))
            if not isinstance(answer, str):
                raise ValueError(f"{scorer.name} must answer in words, got {type(answer).__name__}")
            answers.append(answer)
            if self.cache is not None:
                self.cache.write(key, answers)
        return answers


@dataclass(frozen=True)
class AtPercent:
    """The target frame at a known fraction [0, 1] of the video, such as one expression's published ``tp``.

    Args:
        fraction: where in the video.
        num_references: see `visa.sampling.references.reference_frames`.
        references: the rule by which they are laid.
    """

    fraction: float = 0.5
    num_references: int = 11
    references: str = "strided"

    def __post_init__(self):
        require_rule(self.references, self.num_references)
        frame_at(1, self.fraction)

    def choose(self, num_frames: int, question: str, scorer: FrameScorer | VideoScorer) -> FrameChoice:
        """See `Sampler`."""
        target = frame_at(num_frames, self.fraction)
        return FrameChoice(target, reference_frames(self.references, num_frames, target, self.num_references))
