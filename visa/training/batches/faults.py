"""Broken samples: counted, named, and too many of them; and what else stops the reading."""

import sys
from collections.abc import Iterable

from dataset.errors import DatasetError

# A share of fewer samples says nothing: one broken clip among the first ten need not be ten in a hundred.
FEWEST_JUDGED = 1000
MOST_NAMED = 20
REMEDY = "mend the data (python -m dataset check), or raise data.broken_share"


class DataError(RuntimeError):
    """Reading cannot go on. The message is one line for the person who runs the training."""


class BrokenCount:
    """Counts samples, and those that had to be replaced because they are broken.

    Args:
        allowed_share: of broken samples. Fewer than `FEWEST_JUDGED` samples count as so many.
        remedy: what to do about too many.

    Attributes:
        read: samples so far, broken ones not counted.
        broken: how many were broken; one that is drawn again counts again.
        reasons: what is wrong, in a line that names the file -> its sort.
    """

    def __init__(self, allowed_share: float = 0.01, remedy: str = REMEDY):
        self.allowed_share, self.remedy = allowed_share, remedy
        self.read, self.broken = 0, 0
        self.reasons: dict[str, str] = {}

    def add(self, read: int, faults: Iterable[DatasetError]) -> None:
        """Count samples that were read, and what was broken on the way to them.

        Raises:
            DataError: more are broken than allowed.
        """
        self.read += read
        for fault in faults:
            self.broken += 1
            self._name(fault)
        if self.broken > self.allowed_share * max(self.read + self.broken, FEWEST_JUDGED):
            last = next(reversed(self.reasons))
            raise DataError(
                f"{self.broken} of {self.read + self.broken} samples are broken, more than "
                f"{self.allowed_share:.2%} of {FEWEST_JUDGED} or of all; the last: {last}; {self.remedy}"
            )

    def _name(self, fault: DatasetError) -> None:
        message = " ".join(str(fault).split())
        # Moved behind the others, so that the last one of a run is the last one met.
        known = self.reasons.pop(message, None)
        self.reasons[message] = fault.sort
        if known is None and len(self.reasons) <= MOST_NAMED:
            more = "; further ones are only counted" if len(self.reasons) == MOST_NAMED else ""
            print(f"visa: skipped a broken sample: {message}{more}", file=sys.stderr)
