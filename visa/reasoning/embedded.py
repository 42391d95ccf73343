"""Reason and segment as the embedded system does: a small MLLM, a choice of masks, a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from model.mllm.mllm import MLLM, Answer, Reading, RefusalPolicy
from model.sam.segmenter import SamSegmenter
from visa.mask_drawing import MaskDrawing
from visa.reasoning import DrawnFrames, DrawProgress, GivenAnswer
from visa.sampling import FrameChoice, ModelScorer
from visa.second_look import SecondLook
from visa.viewing import Viewing, ViewingLimits

# What the MLLM is asked to answer by when its first answer points nowhere in particular.
CERTAIN_REFUSAL = RefusalPolicy(bias=1e4)


@dataclass
class EmbeddedReasoner:
    """See `Reasoner`.

    mllm: reads frames and answers. sam: as published. drawing: how the [SEG] head prompts SAM.
    refusal: when the MLLM answers "not there". look: at what was drawn; None believes what is drawn.
    name: under which answers to a sampler are kept.
    """

    mllm: MLLM
    sam: SamSegmenter
    drawing: MaskDrawing
    refusal: RefusalPolicy = field(default_factory=RefusalPolicy)
    look: SecondLook | None = None
    name: str = "embedded"
    limits: ViewingLimits = field(default_factory=ViewingLimits)

    @property
    def tower(self):
        """The MLLM's vision tower."""
        return self.mllm.tower

    def scorer(self, viewing: Viewing) -> ModelScorer:
        """See `Reasoner`."""
        return ModelScorer(
            self.name,
            viewing.video,
            lambda frames, asked, number: self.mllm.answer(self._read(viewing, frames), asked).text,
            lambda frames, asked: self._found_probs(viewing, frames, asked),
        )

    def answer(self, viewing: Viewing, choice: FrameChoice, question: str) -> GivenAnswer:
        """See `Reasoner`. The MLLM reads the reference frames and then the target frame."""
        reading = self._read(viewing, (*choice.references, choice.target))
        answer = self.mllm.answer(reading, question, refusal=self.refusal)
        return GivenAnswer(question, answer.text, answer.found, answer.found_prob, (reading, answer))

    def draw(
        self, viewing: Viewing, choice: FrameChoice, answer: GivenAnswer, progress: DrawProgress
    ) -> DrawnFrames:
        """See `Reasoner`. An answer that points nowhere in particular or at another thing is taken back."""
        reading, given = answer.pointing
        progress(0, 1)
        drawn = self.drawing.draw(self.mllm, reading, given, viewing.sam_features(choice.target))
        progress(1, 1)
        evidence = self._evidence(viewing, choice.target, given, drawn.masks)
        score = self.refusal.found_prob(given.found_prob, drawn.heat_logits.amax(0), evidence)
        if score < 0.5:
            given = self.mllm.answer(reading, answer.question, refusal=CERTAIN_REFUSAL)
        answer = GivenAnswer(answer.question, given.text, given.found, score)
        return DrawnFrames(answer, (choice.target,), drawn.masks[:, None])

    @cached_property
    def _words(self) -> torch.Tensor:
        """What the look may name, as the LM's own words: float [M, D]."""
        return self.mllm.word_embeddings(self.look.names.words)

    def _evidence(self, viewing: Viewing, target: int, answer: Answer, masks: np.ndarray) -> float:
        """What speaks against masks bool [n, H, W] drawn on the target frame, taken as one thing."""
        if self.look is None:
            return 0.0
        seen = self.look.seen(viewing.video.frames([target])[0], masks.any(0))
        return self.look.evidence(seen, self.mllm.meaning(answer, self._words).amax(0).cpu())

    def _read(self, viewing: Viewing, frames: Sequence[int]) -> Reading:
        return viewing.reading(
            tuple(frames),
            lambda chosen: self.mllm.read(viewing.cells(chosen), [viewing.percent(i) for i in chosen]),
        )

    def _found_probs(self, viewing: Viewing, frames: Sequence[int], question: str) -> list[float]:
        """For each frame alone: how sure the MLLM is that what is asked for is in it."""
        readings = (self._read(viewing, (index,)) for index in frames)
        return [
            self.mllm.answer(reading, question, refusal=self.refusal, max_new_tokens=1).found_prob
            for reading in readings
        ]
