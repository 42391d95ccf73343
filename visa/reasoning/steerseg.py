"""Reason and segment as SteerSeg does: a frozen model's attention, steered, points; tracklets compete.

Cheraghian et al. 2026, arXiv 2605.14908; the steps are in `visa.steerseg`. What is drawn is what the model
looks at, not what it says.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from visa.errors import InputError
from visa.reasoning import DrawnFrames, DrawProgress, GivenAnswer
from visa.sampling import FrameChoice, ModelScorer
from visa.sampling.answer_cache import AnswerCache, mark_of
from visa.sampling.video_content import content_hash
from visa.steerseg.attention import Looking, seen_at
from visa.steerseg.attributes import Attributes, find_attributes, grounding_question
from visa.steerseg.candidates import Candidate, draw_seeds, grow
from visa.steerseg.fusion import fuse, refine
from visa.steerseg.keyframe_clip import keyframe_clip
from visa.steerseg.maps import AttentionMaps
from visa.steerseg.points import find_peaks
from visa.steerseg.ranking import rank
from visa.steerseg.settings import SteerSegSettings
from visa.video import Video
from visa.viewing import Viewing, ViewingLimits

if TYPE_CHECKING:
    from model.sam.segmenter import SamSegmenter
    from visa.propagation import ClipPropagator

_log = logging.getLogger(__name__)

NOT_THERE = "There is no such thing in the video."
SCORER_TOKENS = 48  # of an answer that a sampler asks for
# SAM's features of all keyframes; of readings there are the keyframes' clip, and one for each question.
LIMITS = ViewingLimits(sam_frames=32, readings=64)


@dataclass(frozen=True)
class Looked:
    """Where the model looked: what `SteerSegReasoner.draw` needs of an answer.

    keyframes: K frame indices, ascending. attributes: what it said of the thing. refined: both maps, smoothed
    and scaled. joint: float32 [K, h, w] in [0, 1].
    """

    keyframes: tuple[int, ...]
    attributes: Attributes
    refined: AttentionMaps
    joint: Tensor


@dataclass
class SteerSegReasoner:
    """See `Reasoner`.

    name: of the system, for kept replies.
    looking: the backbone, and how its attention is read and steered.
    sam: draws at points.
    keyframe_tracker: carries candidates over the keyframes.
    settings: of every step.
    replies: where what the model says of attributes is kept.
    """

    name: str
    looking: Looking
    sam: SamSegmenter
    keyframe_tracker: ClipPropagator
    settings: SteerSegSettings
    replies: AnswerCache = field(default_factory=AnswerCache)
    limits: ViewingLimits = LIMITS

    def tower(self, frames: np.ndarray) -> list[np.ndarray]:
        """Frames as they are: the backbone reads pixels, for each question anew."""
        return list(frames)

    def scorer(self, viewing: Viewing) -> ModelScorer:
        """See `Reasoner`. It answers in words; how sure it is of a single frame it cannot say."""
        return ModelScorer(
            self.name,
            viewing.video,
            lambda frames, asked, number: self._say(viewing, frames, asked, SCORER_TOKENS),
            self._no_scores,
        )

    def answer(self, viewing: Viewing, choice: FrameChoice, question: str) -> GivenAnswer:
        """See `Reasoner`. What it looks at is found unless its attention is the same everywhere.

        Raises:
            InputError: frames and question are more than the backbone takes.
        """
        looked = self.look(viewing, choice, question)
        if not looked.joint.any():
            _log.warning("the attention for %r is the same everywhere: nothing can be pointed at", question)
            return GivenAnswer(question, NOT_THERE, False, 0.0)
        score = float(looked.joint.max())
        return GivenAnswer(question, _words(looked.attributes), True, score, looked)

    def look(self, viewing: Viewing, choice: FrameChoice, question: str) -> Looked:
        """Where the model looks on all frames of the choice, when it is about to name what is asked for.

        Raises:
            InputError: frames and question are more than the backbone takes.
        """
        keyframes = tuple(sorted({*choice.references, choice.target}))
        attributes = self._attributes(viewing, keyframes, question)
        maps = self.attention(viewing, keyframes, question, attributes)
        refined = refine(maps, self.settings.fusion)
        return Looked(keyframes, attributes, refined, fuse(refined, self.settings.fusion))

    def draw(
        self, viewing: Viewing, choice: FrameChoice, answer: GivenAnswer, progress: DrawProgress
    ) -> DrawnFrames:
        """See `Reasoner`. Each winner is one object, drawn on its own keyframe alone.

        An answer that no tracklet agrees with is taken back.
        """
        looked: Looked = answer.pointing
        candidates = self._candidates(viewing, looked, progress)
        verdict = rank(
            [candidate.masks for candidate in candidates], looked.refined, looked.joint, self.settings.ranking
        )
        if not verdict.winners:
            nothing = np.zeros((0, 1, viewing.video.height, viewing.video.width), dtype=bool)
            refusal = GivenAnswer(answer.question, NOT_THERE, False, max(0.0, verdict.score))
            return DrawnFrames(refusal, (choice.target,), nothing)
        found = GivenAnswer(answer.question, answer.text, True, max(0.0, verdict.score), looked)
        return _drawn(found, looked.keyframes, [candidates[index] for index in verdict.winners])

    def attention(
        self, viewing: Viewing, keyframes: tuple[int, ...], question: str, attributes: Attributes
    ) -> AttentionMaps:
        """Where the model looks when it is about to name the thing; kept while the clip is looked at."""
        words = grounding_question(
            question, attributes, ask_for_object=self.settings.attributes.ask_for_object
        )

        key = ("attention", self._marks, keyframes, words)
        return viewing.reading(key, lambda _: self._look(viewing.video, keyframes, words))

    def _look(self, video: Video, keyframes: tuple[int, ...], words: str) -> AttentionMaps:
        frames = video.frames(keyframes)
        try:
            fine = torch.stack([self.looking.frame_map(frame, words) for frame in frames])
            coarse, shows = self.looking.video_maps(frames, words, seen_at(keyframes, video.fps))
        except ValueError as error:
            raise InputError(str(error)) from error
        return AttentionMaps(fine, coarse, shows)

    def _attributes(self, viewing: Viewing, keyframes: tuple[int, ...], question: str) -> Attributes:
        settings = self.settings.attributes
        if not settings.ask:
            return Attributes()
        return find_attributes(
            lambda asked: self._say(viewing, keyframes, asked, settings.max_new_tokens),
            question,
            settings,
            cache=self.replies,
            video=content_hash(viewing.video),
            model=f"{self._mark}, keyframes {' '.join(map(str, keyframes))}",
        )

    @cached_property
    def _mark(self) -> str:
        """The system's name and its backbone's weights: what another one said is not what this one says."""
        return f"{self.name} {mark_of(self.looking.backbone.language_model.parameters())}"

    def _say(self, viewing: Viewing, frames: Sequence[int], question: str, max_new_tokens: int) -> str:
        shown = viewing.video.frames(frames)
        try:
            return self.looking.say(shown, question, max_new_tokens, seen_at(frames, viewing.video.fps))
        except ValueError as error:
            raise InputError(str(error)) from error

    def _no_scores(self, *_: object) -> Sequence[float]:
        raise InputError(f"{self.name} gives no scores to frames: take another sampler, such as keyframes")

    def _candidates(self, viewing: Viewing, looked: Looked, progress: DrawProgress) -> list[Candidate]:
        """Tracklets over the keyframes, the strongest first; none where SAM draws nothing."""
        peaks = find_peaks(looked.joint, self.settings.points)
        seeds = draw_seeds(
            self.sam,
            lambda keyframe: viewing.sam_features(looked.keyframes[keyframe]),
            peaks,
            tuple(looked.joint.shape[1:]),
            self.settings.candidates,
        )
        key = ("keyframes", looked.keyframes)
        clip = viewing.reading(
            key,
            lambda _: keyframe_clip(
                viewing.video, looked.keyframes, self.keyframe_tracker, viewing.tracker_features
            ),
        )
        done = 0

        def carry(keyframe: int, mask: np.ndarray) -> np.ndarray:
            nonlocal done
            progress(done, len(seeds))
            done += 1
            return self.keyframe_tracker.propagate(clip.video, keyframe, mask[None], features=clip.features)[
                0
            ]

        candidates = grow(seeds, carry, self.settings.candidates)
        progress(len(seeds), len(seeds))
        if not candidates:
            _log.warning("SAM draws nothing at %d points of attention", len(peaks))
        return candidates

    @cached_property
    def _marks(self) -> tuple:
        """What maps depend on besides frames and words: the rollout and the soft prompts."""
        prompts = {
            stream: prompt.vectors.detach().cpu().numpy().tobytes()
            for stream, prompt in self.looking.soft_prompts.items()
        }
        return self.looking.rollout, *(hash(prompts.get(stream)) for stream in ("frame", "video"))


def _drawn(answer: GivenAnswer, keyframes: tuple[int, ...], winners: Sequence[Candidate]) -> DrawnFrames:
    """Each winner's seed on its own keyframe; the others' are empty there, for nobody drew them."""
    frames = tuple(sorted({keyframes[winner.seed.peak.keyframe] for winner in winners}))
    starts = tuple(frames.index(keyframes[winner.seed.peak.keyframe]) for winner in winners)
    masks = np.zeros((len(winners), len(frames), *winners[0].seed.mask.shape), dtype=bool)
    for row, (start, winner) in enumerate(zip(starts, winners, strict=True)):
        masks[row, start] = winner.seed.mask
    return DrawnFrames(answer, frames, masks, starts)


def _words(attributes: Attributes) -> str:
    """The answer in words, [SEG] included."""
    said = ", ".join(attributes.phrases)
    return f"It is [SEG], {said}." if said else "It is [SEG]."
