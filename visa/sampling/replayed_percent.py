"""Published sampling results, replayed: the ``tp`` of a ``*_llamavid.json`` in place of a video MLLM.

Such a file is a dataset's ``meta_expressions`` with ``tp``, a fraction [0, 1] of the video, added to every
expression: ``{"videos": {NAME: {"expressions": {ID: {"exp": ..., "tp": ...}}}}}``.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from visa.errors import InputError
from visa.questions import clean_question
from visa.sampling.choice import FrameChoice, FrameScorer, VideoScorer
from visa.sampling.percent_guided import AtPercent
from visa.sampling.references import require_rule


@dataclass(frozen=True)
class ReplayedPercent:
    """The target frame that a file names for a video and a question.

    A video is found by its name, or by the last part of a nested name (ReVOS's ``UVO/all/...``); a question
    by its words, case and white space aside. A question asked twice about one video has its first ``tp``, and
    one that fits videos of different folders differently is refused; to replay an evaluation expression by
    expression, go by ids with `expression_percents` and `AtPercent`.

    Args:
        path: the file.
        num_references: see `visa.sampling.references.reference_frames`.
        references: the rule by which they are laid.
    """

    path: Path | str
    num_references: int = 11
    references: str = "strided"

    def __post_init__(self):
        require_rule(self.references, self.num_references)

    def choose(self, num_frames: int, question: str, scorer: FrameScorer | VideoScorer) -> FrameChoice:
        """See `Sampler`; needs a scorer with a ``video``, for its name.

        Raises:
            InputError: the file cannot be read, or does not know the video or the question.
            ValueError: the scorer has no video.
        """
        video = getattr(scorer, "video", None)
        if video is None:
            raise ValueError("replaying needs a scorer with a video, to look its name up in the file")
        fraction = self.fraction(video.name, question)
        return AtPercent(fraction, self.num_references, self.references).choose(num_frames, question, scorer)

    def fraction(self, video: str, question: str) -> float:
        """``tp`` of a question about a video.

        Raises:
            InputError: the file cannot be read, or does not know the video or the question, or knows two.
        """
        found = self._fractions.get(video, self._fractions_by_last_part.get(video))
        if found is None:
            raise InputError(f"{self.path} holds no video {video!r}")
        fractions = found.get(_words(question))
        if fractions is None:
            raise InputError(f"{self.path} holds no tp for {question!r} about {video!r}")
        if len(set(fractions)) > 1:
            raise InputError(
                f"{self.path} holds several videos {video!r} that differ for {question!r}; "
                "name the whole path"
            )
        return fractions[0]

    @cached_property
    def _fractions(self) -> dict[str, dict[str, list[float]]]:
        """Video name -> words of a question -> its tp."""
        table: dict[str, dict[str, list[float]]] = {}
        for (video, _), (expression, fraction) in expression_percents(self.path).items():
            table.setdefault(video, {}).setdefault(_words(expression), [fraction])
        return table

    @cached_property
    def _fractions_by_last_part(self) -> dict[str, dict[str, list[float]]]:
        """Last part of a video name -> words of a question -> tp in each video of that name."""
        table: dict[str, dict[str, list[float]]] = {}
        for video, questions in self._fractions.items():
            for words, fractions in questions.items():
                table.setdefault(PurePosixPath(video).name, {}).setdefault(words, []).extend(fractions)
        return table


def expression_percents(path: Path | str) -> dict[tuple[str, str], tuple[str, float]]:
    """(video name, expression id) -> (expression, tp) for every expression of the file that has a ``tp``.

    Raises:
        InputError: the file cannot be read, is none of these files, or a ``tp`` is no fraction.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    found = {}
    try:
        for video, entry in content["videos"].items():
            for number, expression in entry["expressions"].items():
                if "tp" in expression:
                    found[video, number] = (str(expression["exp"]), _fraction(expression["tp"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no file of expressions with tp: {error!r}") from error
    except ValueError as error:
        raise InputError(f"{path}, video {video!r}, expression {number!r}: {error}") from error
    if not found:
        raise InputError(f"{path} holds no tp; expected a *_llamavid.json")
    return found


def _fraction(value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or math.isnan(value)
        or not 0 <= value <= 1
    ):
        raise ValueError(f"tp must be a fraction from 0 to 1, not {value!r}")
    return float(value)


def _words(question: str) -> str:
    """What makes two questions the same; a person's has been cleaned before it comes here."""
    with contextlib.suppress(
        InputError
    ):  # an empty or endless expression of the file: nobody will ask for it
        question = clean_question(question)
    return " ".join(question.lower().split())
