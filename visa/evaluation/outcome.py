"""The outcome of scoring predictions: a table to read, and every expression's scores as CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.counting import count_of
from visa.evaluation.protocols import Protocol
from visa.evaluation.scored import Line, Scored


@dataclass(frozen=True)
class Outcome:
    """All scores of one folder of predictions.

    Attributes:
        data: The data set's name and split.
        predictions: The folder.
        protocol: How they were scored.
        rows: One for each expression, in the data set's order.
        faults: What is broken in the data set itself, a line each.
        allow_missing: Whether a missing prediction counts as zero.
        seconds: How long it took.
    """

    data: str
    predictions: Path
    protocol: Protocol
    rows: tuple[Scored, ...]
    faults: tuple[str, ...]
    allow_missing: bool
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every expression has a score."""
        return not self.faults and all(row.values for row in self.rows)

    def lines(self) -> list[Line]:
        """The summary."""
        return self.protocol.summary(self.rows)

    def worst(self, count: int) -> list[Scored]:
        """The expressions with the lowest scores, the lowest first."""
        measure = self.protocol.worst_by
        scored = [row for row in self.rows if measure in row.values]
        return sorted(scored, key=lambda row: row.values[measure])[:count]

    def table(self) -> str:
        """The summary in percent, as a Markdown table; "–" where a measure has no meaning."""
        lines = self.lines()
        columns = [name for name in self.protocol.columns if any(name in line.values for line in lines)]
        cells = [
            (
                line.name,
                "" if line.count is None else str(line.count),
                *(f"{100 * line.values[name]:.1f}" if name in line.values else "–" for name in columns),
            )
            for line in lines
        ]
        num_scored = sum(bool(row.values) for row in self.rows)
        title = f"{self.predictions} on {self.data}: {num_scored} of {count_of(len(self.rows), 'expression')}"
        title += f" in {self.seconds:.1f} s"
        return "\n".join([title, "", markdown(("", "expressions", *columns), cells), *self._remarks()])

    def _remarks(self) -> list[str]:
        remarks = [self.protocol.note] if self.protocol.note else []
        zeros = sum(row.fault is not None and bool(row.values) for row in self.rows)
        if zeros:
            number = count_of(zeros, "missing or broken prediction")
            remarks.append(f"{number} counted as zero (--allow-missing)")
        unscored = sum(not row.values for row in self.rows)
        if unscored or self.faults:
            unread = count_of(len(self.faults), "clip or expression", "clips or expressions")
            remarks.append(
                f"INCOMPLETE: {count_of(unscored, 'expression')} without a score, and {unread} of the data "
                "set that cannot be read: these means leave them out"
            )
        return ["", *remarks] if remarks else []

    def worst_table(self, count: int) -> str:
        """The worst expressions, a line each."""
        measure = self.protocol.worst_by
        cells = [
            (row.video, row.expression_id, f"{100 * row.values[measure]:.1f}", _in_a_cell(row.question))
            for row in self.worst(count)
        ]
        return markdown(("video", "id", measure, "question"), cells, numbers=(2,))

    def complaints(self) -> list[str]:
        """One line for everything that is missing or broken."""
        return [
            *self.faults,
            *(
                f"{row.video}, expression {row.expression_id!r}: {row.fault}"
                for row in self.rows
                if row.fault
            ),
        ]

    def save(self, folder: Path) -> None:
        """Writes `expressions.csv` and `scores.json`, each whole or not at all.

        Args:
            folder: Made if need be.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "expressions.csv", self._csv())
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
        _write(folder / "scores.json", text + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it; scores are fractions."""
        return {
            "data": self.data,
            "predictions": str(self.predictions),
            "complete": self.complete,
            "allow_missing": self.allow_missing,
            "seconds": self.seconds,
            "summary": [dataclasses.asdict(line) for line in self.lines()],
            "faults": list(self.faults),
            "expressions": [dataclasses.asdict(row) for row in self.rows],
        }

    def _csv(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row.values))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["video", "expression", "kind", "aspect", "question", *names, "fault"])
        for row in self.rows:
            values = [row.values.get(name, "") for name in names]
            identity = (row.video, row.expression_id, row.kind, row.aspect or "", row.question)
            writer.writerow([*identity, *values, row.fault or ""])
        return text.getvalue()


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] | None = None) -> str:
    """A Markdown table, its columns padded so that it can be read as it stands.

    Args:
        head: The columns' names.
        rows: The cells.
        numbers: The columns to set to the right; None for all but the first.
    """
    right = range(1, len(head)) if numbers is None else numbers
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    dashes = ["-" * (width + 1) for width in widths]
    rule = "|".join(f"{one}:" if place in right else f":{one}" for place, one in enumerate(dashes))
    return "\n".join([line(head), f"|{rule}|", *map(line, rows)])


def _in_a_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.part")
    # half a character, which JSON can hold and UTF-8 cannot, is written as JSON's escape
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    partial.replace(path)
