"""What every protocol offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from dataset.clip import Clip, Expression
from dataset.reader import Reader
from visa.evaluation.predictions import PredictionError, Predictions
from visa.evaluation.scored import Line, Scored


class Protocol(ABC):
    """How a benchmark is scored.

    Attributes:
        columns: The measures, in the order of the table.
        worst_by: The measure by which the worst expressions are picked.
        note: What a reader of the table should know, in a line; "" if nothing.
    """

    columns: tuple[str, ...]
    worst_by: str
    note: str = ""

    def score_clip(
        self, reader: Reader, clip: Clip, predictions: Predictions, *, allow_missing: bool = False
    ) -> list[Scored]:
        """The scores of all expressions of a clip, in their order.

        What cannot be scored has a fault instead of values: it keeps nothing else from being scored.

        Args:
            reader: The data set.
            clip: One of its clips.
            predictions: All predictions.
            allow_missing: Give zero for a missing or broken prediction.
        """
        return [
            self._score_or_fault(reader, clip, expression, predictions, allow_missing)
            for expression in clip.expressions
        ]

    @abstractmethod
    def summary(self, rows: Sequence[Scored]) -> list[Line]:
        """The lines of the table; rows with a fault and no values count for nothing."""

    @abstractmethod
    def score(
        self, reader: Reader, clip: Clip, expression: Expression, predictions: Predictions
    ) -> dict[str, float]:
        """One expression's measures. ValueError if the prediction or the truth is missing or broken."""

    @abstractmethod
    def zero(self, clip: Clip, expression: Expression) -> dict[str, float]:
        """What a missing prediction is worth."""

    def _score_or_fault(self, reader, clip, expression, predictions, allow_missing) -> Scored:
        try:
            try:
                return Scored.of(clip, expression, self.score(reader, clip, expression, predictions))
            except PredictionError as error:
                values = self.zero(clip, expression) if allow_missing else {}
                return Scored.of(clip, expression, values, str(error))
        except (ValueError, OSError) as error:
            return Scored.of(clip, expression, {}, str(error))
