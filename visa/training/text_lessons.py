"""Lessons without a picture: which of the tower's words a question means.

Each question is taught behind a frame of a single token that shows nothing in particular. The heat it would
cause on a place that looks exactly like one of the tower's classes must be high where the dictionary says
that the class answers the question, and low elsewhere. That teaches thousands of words and hundreds of facts
at the cost of text, where a filmed scene teaches a handful.
"""

import numpy as np
import torch

from dataset.synthetic import text_questions
from dataset.synthetic.lexicon import Lexicon
from dataset.synthetic.text_questions import TextQuestion
from model.mllm.mllm import MLLM
from model.mllm.packing import FrameSlot, collate
from visa.training.objective import meaning_loss

POINTING = "It is that one. [SEG]"


class TextLessons:
    """Draws lessons about the class names of an MLLM's tower.

    Args:
        mllm: the model that is taught.
        lexicon: the dictionary; names held out from training are left out of the questions.
        turns: questions a lesson has.
    """

    def __init__(self, mllm: MLLM, lexicon: Lexicon, turns: int = 12):
        self.mllm, self.lexicon, self.turns = mllm, lexicon, turns
        self.concepts = [lexicon.concept(name) for name in mllm.class_names]

    def loss(self, rng: np.random.Generator) -> torch.Tensor:
        """The loss of one lesson, for the look before the answer and for [SEG] alike."""
        mllm = self.mllm
        lesson = [self.draw(rng) for _ in range(self.turns)]
        slot = FrameSlot(int(rng.integers(101)), 1, 1)
        batch = collate([mllm.packer.pack([slot], [(turn.question, POINTING) for turn in lesson])])
        batch = batch.to(mllm.device)
        nothing = mllm.class_embeddings[torch.from_numpy(rng.integers(len(self.concepts), size=8))].mean(0)
        states = mllm(batch, [nothing[None]])[0].float()
        layout = batch.layouts[0]
        ends = [turn.answer[0] - 1 for turn in layout.turns]
        segs = [layout.seg_states(k, "predicting")[0] for k in range(len(lesson))]
        asked = [batch.ids[0, slice(*turn.question)] for turn in layout.turns]
        said = [batch.ids[0, turn.answer[0] : seg + 1] for turn, seg in zip(layout.turns, segs, strict=True)]
        means = [mllm.embed(ids).float().mean(0) for ids in asked]
        means += [mllm.embed(torch.cat(pair)).float().mean(0) for pair in zip(asked, said, strict=True)]
        logits = mllm.head.meaning_logits(states[ends + segs], torch.stack(means), mllm.class_embeddings)
        fits, known = (verdict.to(mllm.device).repeat(2, 1) for verdict in self.judge(lesson))
        return meaning_loss(logits, fits, known)

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
