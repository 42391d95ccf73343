"""Keyframes spread over the whole video, for systems that look at all of them alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visa.sampling.choice import FrameChoice, FrameScorer, VideoScorer


@dataclass(frozen=True)
class Keyframes:
    """``count`` frames from the first to the last, evenly spaced, each once: DecAF's 16 (arXiv 2510.19592).

    All are references; which of them the mask is drawn on is decided later, so the target is the middle one.
    """

    count: int = 16

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"at least one keyframe is needed, not {self.count}")

    def choose(self, num_frames: int, question: str, scorer: FrameScorer | VideoScorer) -> FrameChoice:
        """See `Sampler`. Neither the question nor the scorer counts."""
        places = np.linspace(0, num_frames - 1, min(self.count, num_frames)).astype(int)
        keyframes = tuple(dict.fromkeys(places.tolist()))
        return FrameChoice(keyframes[len(keyframes) // 2], keyframes)
