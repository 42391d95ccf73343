"""One expression's scores, whatever the protocol, and the lines that a protocol makes of many of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dataset.clip import Clip, Expression


@dataclass(frozen=True)
class Scored:
    """The scores of one expression. All are fractions, not percent.

    Attributes:
        video: The clip's name.
        expression_id: The expression's key there.
        kind: "referring", "reasoning" or "absent".
        aspect: The data set's finer sort, or None.
        question: Its text.
        values: By name ("J", "F", ...); those that have no meaning for it are left out.
        fault: Why it could not be scored, in a line; None if it was.
    """

    video: str
    expression_id: str
    kind: str
    aspect: str | None
    question: str
    values: dict[str, float] = field(default_factory=dict)
    fault: str | None = None

    @classmethod
    def of(
        cls, clip: Clip, expression: Expression, values: dict[str, float], fault: str | None = None
    ) -> Scored:
        """The scores of this clip's expression."""
        return cls(
            clip.name, expression.id, expression.kind, expression.aspect, expression.text, values, fault
        )


@dataclass(frozen=True)
class Line:
    """One line of a summary.

    Attributes:
        name: What is summed up ("referring", "overall", ...).
        count: How many expressions; None where lines, not expressions, are averaged.
        values: Means by name, fractions.
    """

    name: str
    count: int | None
    values: dict[str, float]


def presence_accuracies(rows: Sequence[Scored]) -> dict[str, float]:
    """N-acc and T-acc: the share of right answers to questions about nothing, and about something.

    Args:
        rows: Their value "found" is 1 where anything was drawn, else 0.

    Returns:
        Those that have a meaning; {} where every question is about something.
    """
    absent = [row for row in rows if row.kind == "absent"]
    present = [row for row in rows if row.kind != "absent"]
    if not absent:
        return {}
    found = {"N-acc": sum(not row.values["found"] for row in absent) / len(absent)}
    if present:
        found["T-acc"] = sum(bool(row.values["found"]) for row in present) / len(present)
    return found


def means(name: str, rows: Iterable[Scored], columns: Sequence[str]) -> Line:
    """The mean of every column over the rows that have it."""
    rows = list(rows)
    values = {}
    for column in columns:
        present = [row.values[column] for row in rows if column in row.values]
        if present:
            values[column] = sum(present) / len(present)
    return Line(name, len(rows), values)
