"""The scores of a run, gathered by kind and aspect of question, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.counting import count_of
from visa.evaluation.score import ExpressionScore

KINDS = ("referring", "reasoning", "absent")
COLUMNS = ("questions", "J&F", "J", "F", "right", "wrong", "refused")


@dataclass(frozen=True)
class Group:
    """Means over the questions of one sort; fractions, None where no question of the group has that score.

    Attributes:
        name: "referring", "reasoning / order", ...
        num_questions: How many.
        j: Region similarity.
        f: Contour accuracy.
        j_and_f: Mean of both.
        right: Share in which the object meant was found (IoU over 0.5).
        wrong: Share in which another object was found, of the questions whose video has another one.
        refused: Share answered "not found": right for absent objects, wrong for present ones.
        robustness: R, of absent questions.
    """

    name: str
    num_questions: int
    j: float | None
    f: float | None
    j_and_f: float | None
    right: float | None
    wrong: float | None
    refused: float | None
    robustness: float | None

    @classmethod
    def of(cls, name: str, scores: Sequence[ExpressionScore]) -> Group:
        """Gathers these scores."""
        return cls(
            name=name,
            num_questions=len(scores),
            j=_mean(scores, lambda score: score.j),
            f=_mean(scores, lambda score: score.f),
            j_and_f=_mean(scores, lambda score: score.j_and_f),
            right=_mean(scores, lambda score: score.right),
            wrong=_mean(scores, lambda score: score.wrong),
            refused=_mean(scores, lambda score: not score.found),
            robustness=_mean(scores, lambda score: score.robustness),
        )

    def cells(self) -> tuple[str, ...]:
        """The values under `COLUMNS`, in percent."""
        values = (self.j_and_f, self.j, self.f, self.right, self.wrong, self.refused)
        return (
            str(self.num_questions),
            *("–" if value is None else f"{100 * value:.1f}" for value in values),
        )


@dataclass(frozen=True)
class Report:
    """All scores of one system on one data set.

    Attributes:
        system: What was run.
        data: Which data set.
        scores: One for each question, in the data set's order.
        seconds: Time of the run, scoring included.
    """

    system: str
    data: str
    scores: tuple[ExpressionScore, ...]
    seconds: float

    def kinds(self) -> tuple[Group, ...]:
        """One group for each kind that was asked, then all questions about present objects."""
        groups = [self._group(kind, kind=kind) for kind in KINDS]
        present = [score for score in self.scores if score.kind != "absent"]
        return (*(group for group in groups if group.num_questions), Group.of("present", present))

    def kind(self, name: str) -> Group:
        """One kind's means; `num_questions` is 0 where none was asked."""
        return self._group(name, kind=name)

    def aspects(self) -> tuple[Group, ...]:
        """One group for each kind and aspect; none where the data set has no aspects."""
        pairs = {(score.kind, score.aspect) for score in self.scores if score.aspect is not None}
        pairs = sorted(pairs, key=lambda pair: (KINDS.index(pair[0]), pair[1]))
        return tuple(self._group(f"{kind} / {aspect}", kind=kind, aspect=aspect) for kind, aspect in pairs)

    @property
    def overall(self) -> float | None:
        """J&F as the field reports it: the mean of the referring and the reasoning mean."""
        means = [self.kind(kind).j_and_f for kind in ("referring", "reasoning")]
        return None if None in means else sum(means) / 2

    def table(self) -> str:
        """A table to read, in percent; "–" where a score has no meaning."""
        title = (
            f"{self.system} on {self.data}: {count_of(len(self.scores), 'question')} in {self.seconds:.0f} s"
        )
        if self.overall is not None:
            title += f", overall J&F {100 * self.overall:.1f}"
        return title + "\n" + format_table([*self.kinds(), *self.aspects()])

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it; scores are fractions."""
        return {
            "system": self.system,
            "data": self.data,
            "seconds": self.seconds,
            "overall": self.overall,
            "kinds": [dataclasses.asdict(group) for group in self.kinds()],
            "aspects": [dataclasses.asdict(group) for group in self.aspects()],
            "expressions": [
                dataclasses.asdict(score)
                | {"j_and_f": score.j_and_f, "right": score.right, "wrong": score.wrong}
                for score in self.scores
            ],
        }

    def save(self, path: str | Path) -> Path:
        """Writes `to_dict` as JSON."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    def _group(self, name: str, **wanted: str) -> Group:
        matching = [
            score
            for score in self.scores
            if all(getattr(score, key) == value for key, value in wanted.items())
        ]
        return Group.of(name, matching)


def format_table(groups: Sequence[Group], first: str = "kind") -> str:
    """A Markdown table with one line for each group, its columns padded to be read as they stand."""
    rows = [(first, *COLUMNS), *((group.name, *group.cells()) for group in groups)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |"
        for row in rows
    ]
    rule = (
        "|"
        + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])])
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def _mean(scores: Sequence[ExpressionScore], of: Callable[[ExpressionScore], float | None]) -> float | None:
    values = [value for value in map(of, scores) if value is not None]
    return sum(values) / len(values) if values else None
