"""ReVOS: referring and reasoning apart, "overall" the plain mean of the two, R where nothing is to be found.

VISA's script averages R over the questions about present objects, on the values of the files: predictions
written as 255 count 255 times, and overlapping instances are summed until they wrap. `legacy` gives these
columns, and rounds each expression's J, F, A and R to two decimals of a percent first, as the script does.

Source: Yan et al., "VISA: Reasoning Video Object Segmentation via Large Language Models", ECCV 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataset.clip import Clip, Expression
from dataset.reader import Reader
from visa.evaluation.predictions import Predictions
from visa.evaluation.protocols.protocol import Protocol
from visa.evaluation.scored import Line, Scored, means
from visa.evaluation.tracks import score_track

PRESENT = ("referring", "reasoning")


class RevosProtocol(Protocol):
    """See above.

    Args:
        legacy: Add the columns of VISA's script.
    """

    worst_by = "J&F"

    def __init__(self, *, legacy: bool = False) -> None:
        self.legacy = legacy
        self.columns = ("J&F", "J", "F", "A", "R", *(("A legacy", "R legacy") if legacy else ()))
        self.note = (
            "legacy: the script's arithmetic on the files' own values, rounded for each expression"
            if legacy
            else "overall: the mean of referring and reasoning; R of absent objects is the one to compare"
        )
        self._foreground: tuple[str, NDArray[np.bool_]] | None = None

    def score(
        self, reader: Reader, clip: Clip, expression: Expression, predictions: Predictions
    ) -> dict[str, float]:
        masks, foreground = predictions.find(clip, expression), self._foreground_of(reader, clip)
        legacy = self.legacy and expression.kind != "absent"
        values = score_track(clip, expression, masks, foreground=foreground, legacy=legacy)
        if legacy:
            values = {name: round(100 * value, 2) / 100 for name, value in values.items()}
            values["J&F"] = (values["J"] + values["F"]) / 2
        return {name: values[name] for name in self._measures(expression)}

    def zero(self, clip: Clip, expression: Expression) -> dict[str, float]:
        return dict.fromkeys(self._measures(expression), 0.0)

    def summary(self, rows: Sequence[Scored]) -> list[Line]:
        rows = [row for row in rows if row.values]
        kinds = {
            kind: means(kind, [row for row in rows if row.kind == kind], self.columns)
            for kind in dict.fromkeys((*PRESENT, "absent"))
        }
        lines = [line for line in kinds.values() if line.count]
        if all(kinds[kind].count for kind in PRESENT):
            referring, reasoning = (kinds[kind].values for kind in PRESENT)
            overall = {
                name: (referring[name] + reasoning[name]) / 2 for name in self.columns if name in referring
            }
            lines.append(Line("overall", None, overall))
        return lines

    def _measures(self, expression: Expression) -> tuple[str, ...]:
        return ("A", "R") if expression.kind == "absent" else self.columns

    def _foreground_of(self, reader: Reader, clip: Clip) -> NDArray[np.bool_]:
        """The union of all annotated objects, kept while one clip's expressions are scored."""
        if self._foreground is None or self._foreground[0] != clip.name:
            self._foreground = (clip.name, reader.foreground(clip))
        return self._foreground[1]
