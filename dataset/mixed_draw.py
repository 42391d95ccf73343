"""One draw from one data set: which clip, questions and frames, and how each question is answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression
from dataset.mixed_sample import Draw, MixedTurn
from dataset.pictures import VideoFile
from dataset.reader import Reader
from dataset.recipe import FrameRule, Group, Recipe, Source
from dataset.sample import TALK
from dataset.training_frames import TrainingFrames, anywhere, around_anchor, one_from_each_stretch

MIN_VIDEO_FRAMES = 2


class UnsuitableClipError(Exception):
    """Nothing is broken, but this clip cannot be drawn: it has no question, or too few frames."""


@dataclass(frozen=True)
class Occasion:
    """What is known of a sample before a clip is drawn.

    index: its number. num_frames: reference frames, if it is a video.
    """

    index: int
    group: Group
    source: Source
    num_frames: int


def anchor_weights(reader: Reader, step: int) -> NDArray[np.int64]:
    """Sums over the clips up to each of their anchors: every `step`-th frame, once for each expression."""
    return np.cumsum([len(clip.expressions) * -(-len(clip.frames) // step) for clip in reader])


def draw_from(
    reader: Reader,
    occasion: Occasion,
    recipe: Recipe,
    rng: np.random.Generator,
    anchors: NDArray[np.int64] | None = None,
) -> Draw:
    """Draws a clip and what is asked about it.

    Args:
        reader: The data set.
        occasion: See there.
        recipe: The mixture's.
        rng: Decides.
        anchors: `anchor_weights`, by which a clip is drawn; None to draw all alike.

    Raises:
        UnsuitableClipError: Try another one.
        DatasetError: The clip is broken.
    """
    if not len(reader):
        raise UnsuitableClipError
    if anchors is None:
        number = int(rng.integers(len(reader)))
    elif anchors[-1]:
        number = int(np.searchsorted(anchors, rng.integers(anchors[-1]), side="right"))
    else:
        raise UnsuitableClipError
    clip = reader[number]
    expressions = clip.expressions
    if not expressions or (occasion.source.is_video and len(clip.frames) < MIN_VIDEO_FRAMES):
        raise UnsuitableClipError
    frames = _frames(clip, occasion, recipe.frames, rng)
    if expressions[0].kind == TALK:
        chosen = tuple(range(len(expressions)))
    else:
        chosen = _chosen(clip, expressions, frames, occasion.group, recipe.turns, rng)
    turns = _turns([expressions[place] for place in chosen], occasion, rng)
    targets, swapped = frames.targets, None
    if all(turn.reply == "words" for turn in turns):
        targets = ()
    elif occasion.source.is_video and len(reader) > 1 and rng.random() < recipe.negatives:
        swapped = int((number + rng.integers(1, len(reader))) % len(reader))
        targets = _anywhere_in(reader[swapped], len(targets), rng)
    return Draw(
        index=occasion.index,
        group=occasion.group.name,
        source=occasion.source.name,
        split=occasion.source.split,
        clip=number,
        name=clip.name,
        expressions=chosen,
        turns=turns,
        references=frames.references,
        targets=targets,
        target_places=frames.places if targets and swapped is None else (),
        swapped=swapped,
    )


def _frames(clip: Clip, occasion: Occasion, rule: FrameRule, rng: np.random.Generator) -> TrainingFrames:
    length = len(clip.frames)
    if isinstance(clip.frames, VideoFile):
        if not length:
            raise UnsuitableClipError
        return one_from_each_stretch(length, occasion.num_frames, rng)
    if not occasion.source.is_video:
        return TrainingFrames(tuple(range(length)), (0,), (0,))
    if rule.rule == "anchor":
        # As many anchors as `anchor_weights` counts, so that each is drawn as often.
        anchor = rule.most * int(rng.integers(-(-length // rule.most)))
        return around_anchor(length, occasion.num_frames, rule.targets, anchor, rng)
    choose = one_from_each_stretch if rule.rule == "stretches" else anywhere
    return choose(length, occasion.num_frames, rng)


def _chosen(
    clip: Clip,
    expressions: tuple[Expression, ...],
    frames: TrainingFrames,
    group: Group,
    most: int,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    places = [place for place, item in enumerate(expressions) if item.text.strip()]
    if group.seen_first:
        first = frames.references[:1]
        places = [place for place in places if clip.target(expressions[place], first).any()]
    if not places:
        raise UnsuitableClipError
    return tuple(int(place) for place in rng.choice(places, min(most, len(places)), replace=False))


def _turns(
    expressions: list[Expression], occasion: Occasion, rng: np.random.Generator
) -> tuple[MixedTurn, ...]:
    reply = "mask"
    share = occasion.group.reasons
    if expressions[0].kind == TALK:
        reply = "words"
    elif share is not None and all(item.answer for item in expressions):
        # One reply for all that is asked about an image, for its reasons are the same.
        reply = rng.choice(
            ["words", "mask", "mask and words"], p=[share, (1 - share) / 2, (1 - share) / 2]
        ).item()
    turns = []
    for item in expressions:
        text = str(rng.choice([item.text, *item.other_texts])).strip()
        is_sentence = None
        if not occasion.source.is_video and item.kind != TALK:
            is_sentence = item.aspect == "long"
            text = text if is_sentence else text.lower()
        words = "" if reply == "mask" else item.answer or ""
        turns.append(MixedTurn(text, reply, words, is_sentence, item.kind))
    return tuple(turns)


def _anywhere_in(clip: Clip, count: int, rng: np.random.Generator) -> tuple[int, ...]:
    if not len(clip.frames):
        raise UnsuitableClipError
    found = rng.choice(len(clip.frames), count, replace=len(clip.frames) < count)
    return tuple(sorted(int(index) for index in found))
