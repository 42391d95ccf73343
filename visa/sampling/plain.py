"""Samplers that do not read the question: what the text-guided one is compared with."""

import zlib
from dataclasses import dataclass

from visa.sampling.choice import FrameChoice, FrameScorer, uniform_indices


@dataclass(frozen=True)
class FirstFrame:
    """The first frame is the target, references lie uniformly over the video."""

    num_references: int = 4

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        return FrameChoice(0, uniform_indices(num_frames, self.num_references))


@dataclass(frozen=True)
class MiddleFrame:
    """The middle frame is the target, references lie uniformly over the video."""

    num_references: int = 4

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        return FrameChoice(num_frames // 2, uniform_indices(num_frames, self.num_references))


@dataclass(frozen=True)
class UniformFrame:
    """Any frame may be the target, each as likely; the draw hangs on the question alone, to be repeatable."""

    num_references: int = 4

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        target = zlib.crc32(question.encode()) % num_frames
        return FrameChoice(target, uniform_indices(num_frames, self.num_references))
