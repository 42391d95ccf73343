"""Micro-batches for the embedded system's glue: faked frames, filmed scenes, and a lesson of text with each.

A sample follows from the seed and its number alone, so that it does not matter which process draws it, how
many ranks there are, or whether the run was broken off in between.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dataset.errors import DatasetError
from visa.training.batches.reader import MixtureReader
from visa.training.batches.workers import Delivery
from visa.training.embedded_settings import ReadingSettings
from visa.training.engine.ranks import Ranks
from visa.training.examples import Example
from visa.training.scene_examples import SceneExamples
from visa.training.text_lessons import Lesson, TextLessons
from visa.training.word_maps import WordMaps

MAX_BROKEN = 20
# What random numbers of a sample are for.
EXAMPLE, LESSON = 0, 1


@dataclass(frozen=True)
class GlueBatch:
    """A micro-batch: see `visa.training.engine.task.MicroBatch`."""

    index: int
    examples: tuple[Example, ...]
    lesson: Lesson

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(example.name for example in self.examples)

    def to(self, device: torch.device | str) -> "GlueBatch":
        """The same on a device."""
        examples = tuple(example.to(device) for example in self.examples)
        return replace(self, examples=examples, lesson=self.lesson.to(device))

    def pin_memory(self) -> "GlueBatch":
        """For a copy to the GPU that does not wait; torch's DataLoader calls it."""
        examples = tuple(example.pin_memory() for example in self.examples)
        return replace(self, examples=examples, lesson=self.lesson.pin_memory())


class GlueBatches:
    """The micro-batches of a stage, by the global number of their first example.

    Args:
        words: fakes frames. scenes: draws filmed ones; None: there are none. lessons: draws lessons.
        size: examples of a micro-batch.
        word_share: of faked frames, where there are scenes.
        seed: whole numbers that tell this stage of this run from others.
    """

    def __init__(
        self,
        words: WordMaps,
        scenes: SceneExamples | None,
        lessons: TextLessons,
        *,
        size: int,
        word_share: float,
        seed: Sequence[int],
    ):
        self.words, self.scenes, self.lessons = words, scenes, lessons
        self.size, self.word_share, self.seed = size, word_share, tuple(seed)

    @property
    def fingerprint(self) -> str:
        """Says whether two runs read the same."""
        names = [path.name for path in self.scenes.paths] if self.scenes else []
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        return f"{len(names)} scenes {digest}, faked frames of {len(set(self.words.names))} names"

    def __getitem__(self, start: int) -> Delivery:
        faults: list[DatasetError] = []
        try:
            examples = tuple(self._example(index, faults) for index in range(start, start + self.size))
        except DatasetError as error:
            return Delivery(None, tuple(faults), str(error))
        lesson = self.lessons.lesson(np.random.default_rng([*self.seed, LESSON, start]))
        return Delivery(GlueBatch(start, examples, lesson), tuple(faults))

    def _example(self, index: int, faults: list[DatasetError]) -> Example:
        """Number ``index``; another in the place of one that is broken."""
        for attempt in range(MAX_BROKEN):
            rng = np.random.default_rng([*self.seed, EXAMPLE, index, attempt])
            if self.scenes is None or rng.random() < self.word_share:
                return self.words.draw(rng)
            try:
                return self.scenes.draw(rng)
            except DatasetError as error:
                faults.append(error)
        raise DatasetError(f"{MAX_BROKEN} scenes in a row are broken; the last: {faults[-1]}")


def open_glue_reader(batches: GlueBatches, reading: ReadingSettings, ranks: Ranks) -> MixtureReader:
    """The reader of one rank's micro-batches."""
    return MixtureReader(
        batches,
        fingerprint=batches.fingerprint,
        rank=ranks.rank,
        world_size=ranks.count,
        workers=reading.workers,
        prefetch=reading.prefetch,
        broken_share=reading.broken_share,
        remedy="take these scenes away, and they are filmed anew; or raise reading.broken_share",
    )
