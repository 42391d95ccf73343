"""Reason and segment with a model that says [SEG]: an answer is forced or written, each [SEG] is a prompt.

What VISA and VideoLISA share with such systems on other backbones. How frames are shown and how a question is
put is each one's own affair: see `visa.reasoning.published` and `visa.reasoning.backbone`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from model.llava_phi3.every_frame import decode_every_frame
from model.mllm.answering import AnswersBehindFrames, Reading, SegAnswer
from model.mllm.decoding import Decoding
from model.sam.segmenter import FrameFeatures, SamSegmenter
from visa.checkpoints.tokenizer import SEG_TOKEN
from visa.errors import InputError
from visa.mask_track import MaskTrack
from visa.reasoning import DrawnFrames, DrawProgress, GivenAnswer
from visa.sampling import FrameChoice, ModelScorer
from visa.sampling.answer_cache import mark_of
from visa.viewing import Viewing, ViewingLimits

ANSWERS = ("forced", "generate")
DRAWN = ("target", "dense", "all")
# Of the answers that a sampler asks for, as VISA's target frame sampling has them drawn.
SCORER_TEMPERATURE, SCORER_TOP_P, SCORER_TOKENS = 0.6, 0.9, 48
FRAMES_AT_ONCE = 8  # drawn in one pass
# A frame's SAM features take 2 to 4 MB, its visual tokens 1 to 4; a 7B model's reading of 12 frames 0.8 GB.
# Where every frame is drawn, 384 are fewer than a long video has: one of 5,000 takes no more than one of 500.
# Two readings: the sampler's, which is the same for all questions, and the last question's.
LIMITS = ViewingLimits(sam_frames=384, cell_frames=1024, readings=2, in_order=True)


@dataclass(frozen=True)
class AnswerSettings:
    """How a published system answers and draws.

    answer: "forced" gives the answer ``forced_answer`` (the papers' protocol), "generate" lets the model
        write its own, and finds nothing where that has no [SEG].
    max_new_tokens: of a written answer.
    frames: which frames [SEG] draws: the "target" frame, the "dense" ones or "all".
    threshold: mask logits above it are the mask.

    Raises:
        ValueError: another ``answer`` or ``frames``, or a forced answer without [SEG].
    """

    answer: str
    forced_answer: str
    max_new_tokens: int = 128
    frames: str = "target"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise ValueError(f"answer must be {' or '.join(ANSWERS)}, not {self.answer!r}")
        if self.frames not in DRAWN:
            raise ValueError(f"frames must be {', '.join(DRAWN[:-1])} or {DRAWN[-1]}, not {self.frames!r}")
        if SEG_TOKEN not in self.forced_answer:
            raise ValueError(f"the forced answer must hold {SEG_TOKEN}, got {self.forced_answer!r}")


class PointingReasoner:
    """See `Reasoner`.

    Args:
        name: of the model, for kept answers.
        model: loaded, SAM in it as ``visual_model``.
        tokenizer: with [SEG].
        settings: how it answers and draws.
    """

    limits = LIMITS

    def __init__(
        self,
        name: str,
        model: AnswersBehindFrames,
        tokenizer: PreTrainedTokenizerBase,
        settings: AnswerSettings,
    ):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.sam = SamSegmenter(model.visual_model)
        self._name = name

    # Each system's own

    def tower(self, frames: np.ndarray) -> list:
        """One frame uint8 [1, H, W, 3] to a list of what is kept of it."""
        raise NotImplementedError

    def frames_shown(self, choice: FrameChoice) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The frames that are read, in order, and which places among them are read in full."""
        raise NotImplementedError

    def request(self, question: str, num_frames: int) -> str:
        """A request to segment."""
        raise NotImplementedError

    def conversation(self, words: str, num_frames: int) -> str:
        """Any other question about the frames."""
        raise NotImplementedError

    def prepare(
        self,
        viewing: Viewing,
        frames: tuple[int, ...],
        dense: tuple[int, ...],
        turn: tuple[str, str | None],
    ) -> tuple[Reading, Tensor, Tensor]:
        """The reading of the frames, and the ids behind them: question's, and answer's without its end."""
        raise NotImplementedError

    @property
    def stop_ids(self) -> set[int]:
        """Tokens that end an answer."""
        raise NotImplementedError

    def weights(self) -> Iterable[Tensor]:
        """The language model's, by which one training is told from another."""
        raise NotImplementedError

    # The stages

    def scorer(self, viewing: Viewing) -> ModelScorer:
        """See `Reasoner`. Its answers are drawn by chance, by the same chance for the same question."""
        settings = f"{self.name}, temperature {SCORER_TEMPERATURE}, top_p {SCORER_TOP_P}"
        return ModelScorer(
            settings,
            viewing.video,
            lambda frames, words, number: self._say(viewing, frames, words, number),
            lambda frames, asked: [self._seg_prob(viewing, index, asked) for index in frames],
        )

    def answer(self, viewing: Viewing, choice: FrameChoice, question: str) -> GivenAnswer:
        """See `Reasoner`.

        Raises:
            InputError: frames and question are more than the language model takes.
        """
        forced = self.settings.forced_answer if self.settings.answer == "forced" else None
        answer = self._ask(viewing, choice, question, forced)
        score = float(answer.probs.max()) if answer.found else 0.0
        return GivenAnswer(question, self._text(answer.ids), answer.found, score, answer.embeddings)

    def draw(
        self, viewing: Viewing, choice: FrameChoice, answer: GivenAnswer, progress: DrawProgress
    ) -> DrawnFrames:
        """See `Reasoner`. Each [SEG] is one object."""
        video = viewing.video
        frames = {
            "target": (choice.target,),
            "dense": tuple(sorted({*choice.dense_frames})) or (choice.target,),
            "all": tuple(range(len(video))),
        }[self.settings.frames]
        tracks = tuple(MaskTrack((len(frames), video.height, video.width)) for _ in answer.pointing)
        progress(0, len(frames))
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            features = join_features(
                [viewing.sam_features(i) for i in frames[start : start + FRAMES_AT_ONCE]]
            )
            drawn = decode_every_frame(self.sam, features, answer.pointing)
            found = self.sam.to_frame(drawn.mask_logits, features)[:, 0] > self.settings.threshold
            for place, masks in enumerate(found.unflatten(0, (len(features), -1)).cpu().numpy(), start):
                for track, mask in zip(tracks, masks, strict=True):
                    track.put(place, mask)
            progress(start + len(features), len(frames))
        return DrawnFrames(answer, frames, tracks)

    # What they are made of

    @cached_property
    def name(self) -> str:
        """The model's name and a mark of its weights: answers of another training are not its answers."""
        return f"{self._name} {mark_of(self.weights())}"

    def _ask(self, viewing: Viewing, choice: FrameChoice, question: str, forced: str | None) -> SegAnswer:
        frames, dense = self.frames_shown(choice)
        turn = (self.request(question, len(frames)), forced)
        if forced is not None:
            reading, question_ids, answer_ids = self.prepare(viewing, frames, dense, turn)
            return told(self.model.forced, reading, question_ids, answer_ids)
        decoding = Decoding(self.stop_ids, self.settings.max_new_tokens)
        reading, question_ids, _ = self.prepare(viewing, frames, dense, turn)
        return told(self.model.generate, reading, question_ids, decoding)

    def _seg_prob(self, viewing: Viewing, index: int, question: str) -> float:
        """How sure the model is of [SEG], shown one frame alone."""
        choice = FrameChoice(index, (index,))
        return float(self._ask(viewing, choice, question, self.settings.forced_answer).probs.max())

    def _say(self, viewing: Viewing, frames: tuple[int, ...], words: str, number: int) -> str:
        """One of several answers in words, drawn by chance. What a person typed was cleaned in ``words``."""
        chance = torch.Generator(self.model.device).manual_seed(zlib.crc32(f"{number} {words}".encode()))
        frames, dense = self.frames_shown(FrameChoice(frames[-1], frames[:-1] or frames))
        turn = (self.conversation(words, len(frames)), None)
        reading, question_ids, _ = self.prepare(viewing, frames, dense, turn)
        decoding = Decoding(self.stop_ids, SCORER_TOKENS, SCORER_TEMPERATURE, SCORER_TOP_P)
        return self._text(told(self.model.generate, reading, question_ids, decoding, chance).ids)

    def _text(self, ids: Tensor) -> str:
        """The words of an answer, [SEG] included: decoded around it, as tokenizers disagree on its spaces."""
        pieces, words = [], []
        for token in ids.tolist():
            if token == self.model.seg_token_id:
                pieces += [self.tokenizer.decode(words).strip(), SEG_TOKEN]
                words = []
            else:
                words.append(token)
        pieces.append(self.tokenizer.decode(words).strip())
        return re.sub(r"(?<=\[SEG\]) (?=[.,;:!?])", "", " ".join(piece for piece in pieces if piece))


def join_features(features: Sequence[FrameFeatures]) -> FrameFeatures:
    """The features of several frames of one video as one, without the encoder's inner maps."""
    embedding = torch.cat([each.embedding for each in features])
    return replace(features[0], embedding=embedding, levels=())


def told(call, *arguments):
    """A call whose complaint is a person's: too much to read, or another checkpoint's tokenizer."""
    try:
        return call(*arguments)
    except ValueError as error:
        raise InputError(str(error)) from error
