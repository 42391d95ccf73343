"""The words of a training sample: questions and answers as VISA and VideoLISA were taught them.

Sources: VISA (arXiv 2407.11325) and VideoLISA (arXiv 2409.19603), what their released code does in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dataset.errors import DatasetError
from dataset.mixed_sample import MixedSample, MixedTurn
from dataset.sample import TALK
from model.mllm.packing import IGNORE_INDEX
from visa import question_wording
from visa.conversations import (
    IMAGE_PLACEHOLDER,
    LLAVA_V1,
    PHI3_INSTRUCT,
    EncodedConversation,
    encode,
)

SEG = "[SEG]"
# VideoLISA leaves 255 words of its context unused.
MAX_TOKENS = {"visa": 2048, "videolisa": 1793}
# One picture of these stands in VISA's prompt without a number.
UNNUMBERED = ("chat_univi_mimic", "chat_univi_sqa")
_HARMLESS = str.maketrans("<>[]", "‹›()")


class TrainingWords:
    """Turns to conversations.

    Args:
        system: "visa" or "videolisa".
        tokenizer: of the system's language model, with [SEG] in it.
        max_tokens: of a conversation, a picture counting as one; 0: as many as the system was trained with.
    """

    def __init__(self, system: str, tokenizer: Any, max_tokens: int = 0):
        is_visa = system == "visa"
        self.system, self.tokenizer = system, tokenizer
        self.max_tokens = max_tokens or MAX_TOKENS[system]
        self._wording = question_wording.VISA if is_visa else question_wording.VIDEOLISA
        self._format = LLAVA_V1 if is_visa else PHI3_INSTRUCT
        self._seg_token_id = tokenizer.convert_tokens_to_ids(SEG)
        control = {
            SEG,
            IMAGE_PLACEHOLDER,
            "<video>",
            *tokenizer.all_special_tokens,
            *tokenizer.get_added_vocab(),
        }
        self._control = sorted(token for token in control if token != token.translate(_HARMLESS))

    def write(self, sample: MixedSample, rng: np.random.Generator) -> tuple[EncodedConversation, ...]:
        """The conversations of a sample: all talk is one, every other question is one of its own.

        Args:
            sample: its turns, and how many reference frames it has.
            rng: draws the wordings.

        Raises:
            DatasetError: a question is empty, or its conversation too long to keep its [SEG].
        """
        talk = [turn for turn in sample.turns if turn.kind == TALK]
        try:
            written = [self._talk(talk, sample)] if talk else []
            written += [[self._asked(turn, sample, rng)] for turn in sample.turns if turn.kind != TALK]
            return tuple(self._encoded(turns) for turns in written)
        except ValueError as error:
            where = f"{sample.draw.source}: clip {sample.draw.name!r}"
            raise DatasetError(f"{where}: {error}", "broken question") from error

    def _asked(self, turn: MixedTurn, sample: MixedSample, rng: np.random.Generator) -> tuple[str, str]:
        """Question and answer about something to be found."""
        if turn.reply == "words":
            return f"{self._pictures(1, sample)}\n{self._plain(turn.text)}", self._plain(turn.words)
        text, is_sentence = turn.text, turn.is_sentence
        explain = turn.reply == "mask and words"
        if self.system == "visa":
            text = text.lower() if explain else text
        elif is_sentence is None:
            # What is asked about a video is a phrase to VideoLISA, however it ends.
            text, is_sentence = text.lower(), False
        question = self._wording.training_question(text, rng, is_sentence=is_sentence, explain=explain)
        if self.system == "visa":
            question = question_wording.with_reference_frames(question, len(sample.references))
        answer = self._wording.answers[rng.integers(len(self._wording.answers))]
        return question, f"{answer} {self._plain(turn.words)}" if explain else answer

    def _talk(self, turns: Sequence[MixedTurn], sample: MixedSample) -> list[tuple[str, str]]:
        """A conversation in words; the pictures stand before the first question."""
        pairs = [(self._plain(turn.text), self._plain(turn.words)) for turn in turns]
        first = f"{self._pictures(len(sample.references), sample)}\n{pairs[0][0]}"
        return [(first, pairs[0][1]), *pairs[1:]]

    def _pictures(self, count: int, sample: MixedSample) -> str:
        """Placeholders: VISA has one for each frame, VideoLISA one for all."""
        unnumbered = count == 1 and sample.draw.source in UNNUMBERED
        if self.system == "videolisa" or unnumbered:
            return IMAGE_PLACEHOLDER
        return question_wording.with_reference_frames("<video>", count)

    def _encoded(self, turns: Sequence[tuple[str, str]]) -> EncodedConversation:
        whole = encode(self._format.write(turns), self.tokenizer)
        length = len(whole.input_ids)
        if length <= self.max_tokens:
            return whole
        kept = EncodedConversation(whole.input_ids[: self.max_tokens], whole.labels[: self.max_tokens])
        lost = whole.input_ids[self.max_tokens :].tolist()
        if self._seg_token_id in lost or not (kept.labels[1:] != IGNORE_INDEX).any():
            raise ValueError(f"its conversation has {length} tokens, of which {self.max_tokens} can be read")
        return kept

    def _plain(self, words: str) -> str:
        """Words of a data set, long and in lines, without control tokens: these become plain characters."""
        for token in self._control:
            words = words.replace(token, token.translate(_HARMLESS))
        if not words.strip():
            raise ValueError("expected a question and an answer, got no words")
        return words.strip()
