"""Lessons without a picture: which of the tower's words a question means.

Each question is taught behind a frame of a single token that shows nothing in particular. The heat it would
cause on a place that looks exactly like one of the tower's classes must be high where the dictionary says
that the class answers the question, and low elsewhere. That teaches thousands of words and hundreds of facts
at the cost of text, where a filmed scene teaches a handful.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dataset.synthetic import text_questions
from dataset.synthetic.lexicon import Lexicon
from dataset.synthetic.text_questions import TextQuestion
from model.mllm.mllm import MLLM
from model.mllm.packing import FrameSlot, collate
from visa.training.objective import meaning_loss

POINTING = "It is that one. [SEG]"


@dataclass(frozen=True)
class Lesson:
    """Questions about M class names.

    questions: N of them. percent: the frame's place in the video. nothing: int64 [8], the classes whose mean
    the frame shows. fits, known: bool [N, M], which classes fit each question, and of which that is known.
    """

    questions: tuple[str, ...]
    percent: int
    nothing: torch.Tensor
    fits: torch.Tensor
    known: torch.Tensor

    def to(self, device: torch.device | str) -> "Lesson":
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Lesson":
        """For a copy to the GPU that does not wait."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Lesson":
        return replace(self, nothing=change(self.nothing), fits=change(self.fits), known=change(self.known))


def lesson_loss(mllm: MLLM, lesson: Lesson) -> torch.Tensor:
    """What a model has to learn from a lesson, in the look before the answer and at [SEG] alike."""
    slot = FrameSlot(lesson.percent, 1, 1)
    batch = collate([mllm.packer.pack([slot], [(asked, POINTING) for asked in lesson.questions])])
    batch = batch.to(mllm.device)
    nothing = mllm.class_embeddings[lesson.nothing.to(mllm.device)].mean(0)
    states = mllm(batch, [nothing[None]])[0].float()
    layout = batch.layouts[0]
    ends = [turn.answer[0] - 1 for turn in layout.turns]
    segs = [layout.seg_states(k, "predicting")[0] for k in range(len(lesson.questions))]
    asked = [batch.ids[0, slice(*turn.question)] for turn in layout.turns]
    said = [batch.ids[0, turn.answer[0] : seg + 1] for turn, seg in zip(layout.turns, segs, strict=True)]
    means = [mllm.embed(ids).float().mean(0) for ids in asked]
    means += [mllm.embed(torch.cat(pair)).float().mean(0) for pair in zip(asked, said, strict=True)]
    logits = mllm.head.meaning_logits(states[ends + segs], torch.stack(means), mllm.class_embeddings)
    fits, known = (verdict.to(mllm.device).repeat(2, 1) for verdict in (lesson.fits, lesson.known))
    return meaning_loss(logits, fits, known)


class TextLessons:
    """Draws lessons about class names.

    Args:
        class_names: of a vision tower's classes.
        lexicon: the dictionary; names held out from training are left out of the questions.
        turns: questions a lesson has.
    """

    def __init__(self, class_names: Sequence[str], lexicon: Lexicon, turns: int = 12):
        self.lexicon, self.turns = lexicon, turns
        self.concepts = [lexicon.concept(name) for name in class_names]

    def lesson(self, rng: np.random.Generator) -> Lesson:
        """A lesson of questions drawn at random."""
        asked = [self.draw(rng) for _ in range(self.turns)]
        percent = int(rng.integers(101))
        nothing = torch.from_numpy(rng.integers(len(self.concepts), size=8))
        return Lesson(tuple(turn.question for turn in asked), percent, nothing, *self.judge(asked))

    def draw(self, rng: np.random.Generator) -> TextQuestion:
        """One question, of no name that is held out from training."""
        return text_questions.draw(rng, self.lexicon)

    def judge(self, lesson: list[TextQuestion]) -> tuple[torch.Tensor, torch.Tensor]:
        """Which classes fit each of N questions, and of which that is known: bool [N, classes] each.

        A class broader than what is asked for fits: a dancer looks like "person" to a tower that has no word
        for dancers.
        """
        verdicts = [self._verdicts(turn) for turn in lesson]
        fits = torch.tensor([[verdict is True for verdict in row] for row in verdicts])
        known = torch.tensor([[verdict is not None for verdict in row] for row in verdicts])
        return fits, known

    def _verdicts(self, turn: TextQuestion) -> list[bool | None]:
        broader = self.lexicon.concept(turn.about).ancestors - {None}
        verdicts = [turn.fits(concept) for concept in self.concepts]
        return [
            True if verdict is None and concept.synset in broader else verdict
            for verdict, concept in zip(verdicts, self.concepts, strict=True)
        ]
