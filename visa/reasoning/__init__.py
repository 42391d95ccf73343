"""Stages 2 and 3 as the pipeline sees them: what reads frames, answers, and draws where the answer points.

`visa.reasoning.embedded`, `visa.reasoning.published`, `visa.reasoning.backbone` and `visa.reasoning.steerseg`
are some of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from model.sam.segmenter import SamSegmenter
from visa.mask_track import MaskTrack
from visa.sampling import FrameChoice, ModelScorer
from visa.viewing import Viewing, ViewingLimits

# Called as progress(done, total) while masks are drawn.
DrawProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class GivenAnswer:
    """What was answered to one question.

    question: as it was asked. text: the words, [SEG] included. found: whether the answer points at something.
    score: how sure that is, [0, 1]. pointing: what `Reasoner.draw` needs of it, its own affair.
    """

    question: str
    text: str
    found: bool
    score: float
    pointing: Any = None


@dataclass(frozen=True)
class DrawnFrames:
    """Masks of what an answer points at.

    answer: the answer, or the one that took its place because there was nothing to draw.
    frames: F frame indices, ascending.
    masks: bool [N, F, H, W] at the video's size; where F may be large, N tracks of F frames.
    starts: None where every object was drawn on all frames. Otherwise each was drawn on one of them alone and
        is carried on from there by itself: N positions in ``frames``.
    """

    answer: GivenAnswer
    frames: tuple[int, ...]
    masks: np.ndarray | tuple[MaskTrack, ...]
    starts: tuple[int, ...] | None = None


class Reasoner(Protocol):
    """A model that answers with [SEG], and how its [SEG] becomes masks.

    sam: draws. tower: frames uint8 [1, H, W, 3] to a list of one frame's features. limits: how much of a
    video is kept between questions.
    """

    sam: SamSegmenter
    tower: Callable
    limits: ViewingLimits

    def scorer(self, viewing: Viewing) -> ModelScorer:
        """Whom the sampler may ask about the video."""
        ...

    def answer(self, viewing: Viewing, choice: FrameChoice, question: str) -> GivenAnswer:
        """Read the chosen frames with the question and answer it."""
        ...

    def draw(
        self, viewing: Viewing, choice: FrameChoice, answer: GivenAnswer, progress: DrawProgress
    ) -> DrawnFrames:
        """Masks of what a found answer points at, on one frame, some, or all of them."""
        ...
