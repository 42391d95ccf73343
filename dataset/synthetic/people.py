"""Reads names of people and what they are doing: "woman surfing" is a woman, a surfer and an athlete."""

import re
from dataclasses import dataclass

WHO = {
    "person": (),
    "people": (),
    "man": ("male", "adult"),
    "woman": ("female", "adult"),
    "boy": ("male", "child"),
    "girl": ("female", "child"),
    "men": ("male", "adult"),
    "women": ("female", "adult"),
    "child": (),
    "baby": (),
    "kid": ("child",),
    "guy": ("male", "adult"),
    "lady": ("female", "adult"),
    "player": (),
    "rider": (),
}
SINGULAR = {"men": "man", "women": "woman"}
ATHLETE = ("athlete",)
# What somebody does -> (who does it, what else that makes them).
ROLES = {
    "surfing": ("surfer", ATHLETE),
    "swimming": ("swimmer", ATHLETE),
    "running": ("runner", ATHLETE),
    "jogging": ("runner", ATHLETE),
    "biking": ("cyclist", ("rider",)),
    "cycling": ("cyclist", ("rider",)),
    "mountain biking": ("cyclist", ("rider", "athlete")),
    "climbing": ("climber", ATHLETE),
    "golfing": ("golfer", ATHLETE),
    "rowing a boat": ("rower", ATHLETE),
    "rowing boat": ("rower", ATHLETE),
    "juggling": ("juggler", ("performer",)),
    "dancing": ("dancer", ("performer",)),
    "singing": ("singer", ("performer",)),
    "cartwheeling": ("gymnast", ATHLETE),
    "lifting weights": ("weightlifter", ATHLETE),
    "wrestling": ("wrestler", ATHLETE),
    "fencing": ("fencer", ATHLETE),
    "playing handball": ("handball player", ("player", "athlete")),
    "playing water polo": ("water polo player", ("player", "athlete")),
    "bouncing a ball": ("basketball player", ("player", "athlete")),
    "bouncing ball": ("basketball player", ("player", "athlete")),
    "skiing": ("skier", ATHLETE),
    "snowboarding": ("snowboarder", ATHLETE),
    "skateboarding": ("skateboarder", ATHLETE),
    "skating": ("skater", ATHLETE),
    "boxing": ("boxer", ATHLETE),
    "walking": ("pedestrian", ()),
    "riding": ("rider", ()),
    "cooking": ("cook", ("worker",)),
    "painting": ("painter", ("artist",)),
    "fishing": ("fisherman", ()),
    "driving": ("driver", ()),
    "diving": ("diver", ATHLETE),
    "playing tennis": ("tennis player", ("player", "athlete")),
    "playing football": ("football player", ("player", "athlete")),
    "playing guitar": ("guitarist", ("musician", "performer")),
}


@dataclass(frozen=True)
class Doing:
    """Somebody and what they are doing or are like.

    Attributes:
        who: "person", "man", "woman", …
        activity: "surfing", "with a beard"; "" if none.
        role: The noun for who does that ("surfer"); "" if there is none.
        also: What else that makes them ("athlete", "female").
    """

    who: str
    activity: str
    role: str
    also: tuple[str, ...]


def read(name: str) -> Doing | None:
    """Understand "man surfing", "bald woman" or "person with a beard"; None for anything else."""
    match = re.fullmatch(
        r"(?:(?P<trait>bald|elderly|old|young|older|meditating|deaf|pregnant|kneeling|standing|running|walking|"
        r"smiling|tall) )?(?P<who>\w+)"
        r"(?: (?P<rest>(?:\w+ing\b|mountain biking|in |with |on |and ).*))?",
        name,
    )
    if match is None or match["who"] not in WHO or not (match["trait"] or match["rest"]):
        return None
    rest = match["rest"] or match["trait"] or ""
    for activity, (role, also) in ROLES.items():
        if rest == activity or rest.startswith(activity + " "):
            who = SINGULAR.get(match["who"], match["who"])
            return Doing(who, activity, role, (*also, *WHO[match["who"]]))
    who = SINGULAR.get(match["who"], match["who"])
    return Doing(who, rest, "", WHO[match["who"]])
