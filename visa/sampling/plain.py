"""Samplers that do not read the question: what the text-guided ones are compared with."""

import zlib
from dataclasses import dataclass

from visa.sampling.choice import FrameChoice, FrameScorer
from visa.sampling.references import reference_frames, require_rule


@dataclass(frozen=True)
class FirstFrame:
    """The first frame is the target; references as in `visa.sampling.references`."""

    num_references: int = 4
    references: str = "global"

    def __post_init__(self):
        require_rule(self.references, self.num_references)

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        return FrameChoice(0, reference_frames(self.references, num_frames, 0, self.num_references))


@dataclass(frozen=True)
class MiddleFrame:
    """The middle frame is the target; references as in `visa.sampling.references`."""

    num_references: int = 4
    references: str = "global"

    def __post_init__(self):
        require_rule(self.references, self.num_references)

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        target = num_frames // 2
        return FrameChoice(target, reference_frames(self.references, num_frames, target, self.num_references))


@dataclass(frozen=True)
class UniformFrame:
    """Any frame may be the target, each as likely; the draw hangs on the question alone, to be repeatable."""

    num_references: int = 4
    references: str = "global"

    def __post_init__(self):
        require_rule(self.references, self.num_references)

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        target = zlib.crc32(question.encode()) % num_frames
        return FrameChoice(target, reference_frames(self.references, num_frames, target, self.num_references))
