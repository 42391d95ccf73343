"""Progress bars for the stages of a run."""

from __future__ import annotations

import sys
from types import TracebackType

STAGES = {
    "sample": "choosing frames",
    "reason": "reading and answering",
    "segment": "drawing the mask",
    "propagate": "following it",
    "save": "saving",
}
LABEL_WIDTH = max(map(len, STAGES.values()))


class StageBars:
    """One bar per stage on stderr; called as `bars(stage, done, total)`, as the segmenter reports.

    Invariant: at most one bar is open; a report of another stage, or of a lower count, closes it.
    """

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of a stage are over."""
        from tqdm import tqdm

        if self._bar is None or stage != self._stage or done < self._bar.n:
            self.close()
            label = STAGES.get(stage, stage)
            self._stage = stage
            self._bar = tqdm(total=total, desc=f"  {label:<{LABEL_WIDTH}}", file=sys.stderr, leave=True)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Finish the open bar, if any."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._stage = None

    def __enter__(self) -> StageBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
