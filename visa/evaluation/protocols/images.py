"""Images: gIoU and cIoU, and where some questions are about nothing, N-acc and T-acc.

So refCOCO, refCOCO+, refCOCOg, refCLEF, gRefCOCO and ReasonSeg (all, and short and long questions apart) are
scored. A question about nothing counts 1 for gIoU if nothing is drawn, else 0.

Source: Lai et al., "LISA: Reasoning Segmentation via Large Language Model", CVPR 2024; Liu et al., "GRES:
Generalized Referring Expression Segmentation", CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

from dataset.clip import Clip, Expression
from dataset.reader import Reader
from visa.evaluation.predictions import Predictions
from visa.evaluation.protocols.protocol import Protocol
from visa.evaluation.scored import Line, Scored, presence_accuracies
from visa.metrics import overlap

PRECISIONS = (0.5, 0.7, 0.9)


class ImageProtocol(Protocol):
    """See above."""

    columns = ("gIoU", "cIoU", *(f"P@{level}" for level in PRECISIONS), "N-acc", "T-acc")
    worst_by = "IoU"

    def score(
        self, reader: Reader, clip: Clip, expression: Expression, predictions: Predictions
    ) -> dict[str, float]:
        predicted = predictions.find(clip, expression).read(range(len(clip.frame_names)))
        shared, union = overlap(clip.target(expression), predicted != 0, reader.ignored(clip))
        return _values(shared, union, found=bool(predicted.any()))

    def zero(self, clip: Clip, expression: Expression) -> dict[str, float]:
        size = int(clip.target(expression).sum())
        return _values(0, size, found=expression.kind == "absent") | {"IoU": 0.0}

    def summary(self, rows: Sequence[Scored]) -> list[Line]:
        rows = [row for row in rows if row.values]
        aspects = dict.fromkeys(row.aspect for row in rows if row.aspect is not None)
        lines = [_line(aspect, [row for row in rows if row.aspect == aspect]) for aspect in aspects]
        return [*(lines if len(lines) > 1 else ()), _line("overall", rows)]


def _values(shared: int, union: int, *, found: bool) -> dict[str, float]:
    iou = shared / union if union else 1.0
    return {"IoU": iou, "intersection": shared, "union": union, "found": float(found)}


def _line(name: str, rows: Sequence[Scored]) -> Line:
    if not rows:
        return Line(name, 0, {})
    union = sum(row.values["union"] for row in rows)
    values = {
        "gIoU": sum(row.values["IoU"] for row in rows) / len(rows),
        "cIoU": sum(row.values["intersection"] for row in rows) / union if union else 1.0,
    }
    present = [row for row in rows if row.kind != "absent"]
    for level in PRECISIONS if present else ():
        values[f"P@{level}"] = sum(row.values["IoU"] >= level for row in present) / len(present)
    return Line(name, len(rows), values | presence_accuracies(rows))
