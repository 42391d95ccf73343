"""Where a run's items come from, and how what is asked is worded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset.clip import Clip, Expression
from dataset.errors import DatasetError
from dataset.synthetic.lexicon import default_lexicon
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import Stream
from visa.errors import InputError
from visa.steerseg.attention import Looking, seen_at
from visa.steerseg.attributes import Attributes, attribute_question, grounding_question, read_reply
from visa.training.engine.ranks import Ranks
from visa.training.steering.attribute_file import AttributeFile
from visa.training.steering.cached_scenes import SceneItems
from visa.training.steering.items import SteeringItem
from visa.training.steering.room import check_room, refusals_told
from visa.training.steering.settings import SteeringData, SteeringSettings
from visa.training.steering.videos import VideoItems, masked_clips

VALIDATION_SEED = 99


class ItemSources:
    """Items of both streams, for training and for validation.

    Args:
        backbone: writes the attributes that are wanted and missing.

    Raises:
        InputError: no data, or fewer tokens for a frame than the backbone takes.
    """

    def __init__(self, settings: SteeringSettings, backbone: Any, ranks: Ranks):
        self.settings, self.data = settings, settings.data
        self.word = partial(worded, self.data)
        self.clips: Sequence[Clip] = ()
        self.attributes = None
        if self.data.source == "scenes":
            for folder in filter(None, (self.data.folder, self.data.held_out)):
                if not any(Path(folder).glob("[0-9]*.pt")):
                    raise InputError(
                        f"{folder} holds no cached scene: `train_ds.py --config train/embedded` makes some, "
                        "in runs/embedded/scenes and runs/embedded/held_out_scenes"
                    )
            return
        self.clips = masked_clips(self.data.folder)
        check_room(backbone, self.clips, settings)
        if self.data.attributes.file:
            self.attributes = AttributeFile(Path(self.data.attributes.file))
            write_attributes(self.attributes, self.clips, backbone, settings, ranks)

    def items(self, stream: Stream, held_out: bool = False) -> SceneItems | VideoItems:
        """Where a stream's items come from."""
        if self.data.source == "scenes":
            folder = Path(self.data.held_out if held_out else self.data.folder)
            return SceneItems(folder, default_lexicon(), stream, self.word, self.data.questions)
        return VideoItems(
            self.clips,
            stream,
            self.word,
            self.settings.stream(stream).frames,
            self.data.questions,
            self._known,
            held_out,
            self.data.held_out_share,
        )

    def held_out(self, stream: Stream) -> HeldOut | None:
        """The items of a stream's validation, asked as without attributes; None where there is none."""
        wanted = self.settings.validation
        no_source = not self.data.held_out if self.data.source == "scenes" else not self.data.held_out_share
        if not wanted.every or no_source:
            return None
        plain_words = replace(self.data.attributes, dropout=1.0)
        source = replace(
            self.items(stream, held_out=True),
            word=partial(worded, replace(self.data, attributes=plain_words)),
        )
        found: list[int] = []
        for number in range(len(source)):
            if len(found) == wanted.items:
                break
            try:
                shows_something = held_out_item(source, number) is not None
            except DatasetError:
                continue
            if shows_something:
                found.append(number)
        return HeldOut(source, tuple(found)) if found else None

    def _known(self, clip: Clip, expression: Expression) -> tuple[str, ...]:
        return self.attributes.of(clip.name, expression.text) if self.attributes else ()


@dataclass(frozen=True)
class HeldOut:
    """Items of a validation, every time the same, read when they are looked at: clips take gigabytes.

    source: of items. numbers: those that show something, as ``source.item`` counts them.
    """

    source: SceneItems | VideoItems
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> SteeringItem:
        item = held_out_item(self.source, self.numbers[place])
        assert item is not None
        return item


def held_out_item(source: SceneItems | VideoItems, number: int) -> SteeringItem | None:
    """See ``source.item``; of every number always the same."""
    return source.item(number, np.random.default_rng([VALIDATION_SEED, number]))


def worded(data: SteeringData, expression: str, phrases: tuple[str, ...], rng: np.random.Generator) -> str:
    """What the model is asked, some of the time without attributes."""
    if data.wording == "bare":
        return expression
    kept = rng.random() >= data.attributes.dropout
    return grounding_question(expression, Attributes(phrases if kept else ()))


def write_attributes(
    file: AttributeFile, clips: Sequence[Clip], backbone: Any, settings: SteeringSettings, ranks: Ranks
) -> None:
    """Ask the frozen backbone about every expression that the file does not know, as the pipeline does."""
    wanted, by_name = settings.data.attributes, {clip.name: clip for clip in clips}
    shown, max_tokens = settings.video, settings.video.max_tokens or None
    looking = Looking(backbone, RolloutSettings(), max_tokens={"video": max_tokens})

    def ask(name: str, expression: str) -> tuple[str, ...]:
        clip = by_name[name]
        total = len(clip.frames)
        indices = np.linspace(0, total - 1, min(shown.frames, total)).astype(int).tolist()
        frames, question = np.asarray(clip.frames[indices]), attribute_question(expression)
        with torch.no_grad(), refusals_told("video", max_tokens):
            reply = looking.say(frames, question, wanted.max_new_tokens, seen_at(indices))
        return read_reply(reply, wanted.at_most).phrases

    expressions = ((clip.name, expression.text) for clip in clips for expression in clip.expressions)
    file.complete(expressions, ask, ranks)
