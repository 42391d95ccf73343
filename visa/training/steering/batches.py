"""Micro-batches of steering items; each follows from the seed and its number alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dataset.errors import DatasetError
from visa.training.batches.reader import MixtureReader
from visa.training.batches.workers import Delivery
from visa.training.embedded_settings import ReadingSettings
from visa.training.engine.ranks import Ranks
from visa.training.steering.items import SteeringBatch, SteeringItem

MAX_BROKEN = 20


class Items(Protocol):
    """Where items come from. fingerprint: says whether two runs read the same."""

    @property
    def fingerprint(self) -> str: ...

    def draw(self, rng: np.random.Generator) -> SteeringItem:
        """One drawn at random; DatasetError where it is broken."""
        ...


class SteeringBatches:
    """The micro-batches of a run, by the global number of their first item.

    Args:
        size: items of a micro-batch. seed: whole numbers that tell this stream of this run from others.
    """

    def __init__(self, items: Items, size: int, seed: Sequence[int]):
        self.items, self.size, self.seed = items, size, tuple(seed)

    def __getitem__(self, start: int) -> Delivery:
        faults: list[DatasetError] = []
        try:
            items = tuple(self._item(index, faults) for index in range(start, start + self.size))
        except DatasetError as error:
            return Delivery(None, tuple(faults), str(error))
        return Delivery(SteeringBatch(start, items), tuple(faults))

    def _item(self, index: int, faults: list[DatasetError]) -> SteeringItem:
        """Number ``index``; another in the place of one that is broken."""
        for attempt in range(MAX_BROKEN):
            try:
                return self.items.draw(np.random.default_rng([*self.seed, index, attempt]))
            except DatasetError as error:
                faults.append(error)
        raise DatasetError(f"{MAX_BROKEN} items in a row are broken; the last: {faults[-1]}")


def open_steering_reader(batches: SteeringBatches, reading: ReadingSettings, ranks: Ranks) -> MixtureReader:
    """The reader of one rank's micro-batches."""
    return MixtureReader(
        batches,
        fingerprint=batches.items.fingerprint,
        rank=ranks.rank,
        world_size=ranks.count,
        workers=reading.workers,
        prefetch=reading.prefetch,
        broken_share=reading.broken_share,
    )
