"""Every knob of the pipeline, read from a preset file, where it stands whether it is known or guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from visa.steerseg.attributes import AttributeSettings
from visa.steerseg.candidates import CandidateSettings
from visa.steerseg.fusion import FusionSettings
from visa.steerseg.points import PointSettings
from visa.steerseg.ranking import RankingSettings


@dataclass(frozen=True)
class SteerSegSettings:
    """The settings of every step.

    No step has defaults in code: a preset names each value, so that none is used unseen.
    """

    attributes: AttributeSettings
    fusion: FusionSettings
    points: PointSettings
    candidates: CandidateSettings
    ranking: RankingSettings


STEPS = {
    "attributes": AttributeSettings,
    "fusion": FusionSettings,
    "points": PointSettings,
    "candidates": CandidateSettings,
    "ranking": RankingSettings,
}


def read_settings(sections: Mapping[str, Mapping[str, Any]]) -> SteerSegSettings:
    """The settings of a preset's sections, one for each step.

    Raises:
        ValueError: a section or a value is missing, unknown or out of its range; the message names it.
    """
    read = {}
    for name, step in STEPS.items():
        given, known = sections.get(name), {field.name for field in fields(step)}
        if not isinstance(given, Mapping):
            raise ValueError(f"the preset needs a section {name!r} with {', '.join(sorted(known))}")
        if given.keys() != known:
            missing, unknown = sorted(known - given.keys()), sorted(given.keys() - known)
            said = [f"lacks {', '.join(missing)}"] * bool(missing)
            said += [f"does not know {', '.join(map(str, unknown))}"] * bool(unknown)
            raise ValueError(f"the section {name!r} {' and '.join(said)}")
        try:
            read[name] = step(**given)
        except TypeError as error:  # a word where a number belongs
            raise ValueError(f"the section {name!r} holds a value of another kind: {error}") from error
    return SteerSegSettings(**read)
