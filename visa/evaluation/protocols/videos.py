"""Videos in general: J and F of every expression, averaged over all of them.

So MeViS (valid_u), ReasonVOS, Ref-YouTube-VOS's training split, LV-VIS and YouTube-VOS are scored: the mean
over an expression's frames, then over the expressions. Where some are about nothing, as in MeViS's second
release, N-acc and T-acc tell whether anything was drawn in any frame.

Source: Ding et al., "MeViS: A Large-scale Benchmark for Video Segmentation with Motion Expressions", ICCV
2023; Bai et al., "One Token to Seg Them All: Language Instructed Reasoning Segmentation in Videos", NeurIPS
2024.
"""

from __future__ import annotations

from collections.abc import Sequence

from dataset.clip import Clip, Expression
from dataset.reader import Reader
from visa.evaluation.predictions import Predictions
from visa.evaluation.protocols.protocol import Protocol
from visa.evaluation.scored import Line, Scored, means, presence_accuracies
from visa.evaluation.tracks import score_track

MEASURES = ("J&F", "J", "F", "tIoU", "vIoU")


class VideoProtocol(Protocol):
    """Means over all expressions, and over those of each kind where there are several."""

    columns = (*MEASURES, "N-acc", "T-acc")
    worst_by = "J&F"

    def score(
        self, reader: Reader, clip: Clip, expression: Expression, predictions: Predictions
    ) -> dict[str, float]:
        return score_track(clip, expression, predictions.find(clip, expression))

    def zero(self, clip: Clip, expression: Expression) -> dict[str, float]:
        return dict.fromkeys(MEASURES, 0.0) | {"found": float(expression.kind == "absent")}

    def summary(self, rows: Sequence[Scored]) -> list[Line]:
        rows = [row for row in rows if row.values]
        kinds = dict.fromkeys(row.kind for row in rows)
        lines = [_line(kind, [row for row in rows if row.kind == kind]) for kind in kinds]
        return [*(lines if len(kinds) > 1 else ()), _line("overall", rows)]


def _line(name: str, rows: Sequence[Scored]) -> Line:
    line = means(name, rows, MEASURES)
    return Line(name, line.count, line.values | presence_accuracies(rows))
