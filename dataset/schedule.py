"""What kind of sample comes when: by chance, or in a fixed order that every rank follows at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataset.balanced_draws import balanced_draws

PERIOD = 256  # of the balanced draws
FRAME_TABLE = 10000  # VISA's table of frame counts begins anew after so many


class Schedule:
    """The order of groups, and of numbers of frames, in a training run. It has no state.

    Args:
        weights: Of the groups.
        balanced: Whether the order is fixed, and with it the number of frames whenever a group comes.
        together: So many samples in a row are of one group, if balanced: those that all ranks draw at a time.
        fewest: Reference frames at least.
        most: And at most.

    Raises:
        ValueError: No samples to be drawn together.
    """

    def __init__(
        self, weights: Sequence[float], *, balanced: bool, together: int, fewest: int, most: int
    ) -> None:
        if together < 1:
            raise ValueError(f"one sample at least is drawn at a time, not {together}")
        self._shares = np.asarray(weights, dtype=np.float64) / sum(weights)
        self._together = together
        self._balanced = balanced
        self._counts = range(fewest, most + 1)
        self._groups = np.array(balanced_draws(range(len(weights)), self._shares.tolist(), PERIOD))
        self._frames = balanced_draws(self._counts, [1 / len(self._counts)] * len(self._counts), PERIOD)

    def group(self, index: int, rng: np.random.Generator) -> int:
        """The group of a sample.

        Args:
            index: The sample's number in the run, counted over all ranks from 0.
            rng: Decides if the schedule is not balanced.
        """
        if self._balanced:
            return int(self._groups[self._position(index) % PERIOD])
        return int(rng.choice(len(self._shares), p=self._shares))

    def num_frames(self, index: int, rng: np.random.Generator) -> int:
        """How many reference frames a sample has if it is a video; arguments as for `group`."""
        if not self._balanced:
            return int(rng.integers(self._counts.start, self._counts.stop))
        return self._frames[self._earlier(index) % FRAME_TABLE % PERIOD]

    def _position(self, index: int) -> int:
        # VISA counts its calls from 1, so the first draw of its list is used last.
        return index // self._together + 1

    def _earlier(self, index: int) -> int:
        """How often the sample's group was drawn before."""
        rounds, rest = divmod(self._position(index) - 1, PERIOD)
        same = self._groups == self._groups[self._position(index) % PERIOD]
        return int(rounds * same.sum() + same[1 : rest + 1].sum())
