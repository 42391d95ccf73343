"""What can be added to a noun to pick one object out: colour, size, place, movement, order of events.

Each modifier says of which objects it is true, so that the same lists serve for finding an object, for
absent ones ("the red dog" where the dog is white) and for checking in tests.
"""

from dataclasses import dataclass

import numpy as np

from dataset.synthetic import questions_wording as wording
from dataset.synthetic.questions_view import Truth, View, meant
from dataset.synthetic.scene import COLOURS

GAP = 0.12  # least difference of centres, in frame widths or heights, that counts as left of or above
EARLY = 3  # least difference in frames between two events that are told apart


@dataclass(frozen=True)
class Modifier:
    """What can be added to a noun.

    Attributes:
        aspect: "colour", "size", "position", "motion", "order".
        truth: Of which objects it is true.
        before: What stands before the noun ("red"), or "".
        after: What stands behind it ("on the left", "moving left"), or "".
        clause: The same as a predicate ("is moving left"), or "".
        compares: Whether it compares all objects, so that a noun before it may change whom it means.
    """

    aspect: str
    truth: Truth
    before: str = ""
    after: str = ""
    clause: str = ""
    compares: bool = False


def colours(view: View) -> list[Modifier]:
    """One modifier for every colour word."""
    return [
        Modifier("colour", view.coloured(word), before=word, clause=f"is {word}")
        for word in COLOURS
        if any(value is True for value in view.coloured(word)) or None not in view.coloured(word)
    ]


MOTIONS = {
    "left": (
        ("moving left", "is moving left"),
        ("going to the left", "moves to the left"),
        ("that travels from right to left", "travels from right to left"),
    ),
    "right": (
        ("moving right", "is moving right"),
        ("going to the right", "moves to the right"),
        ("that travels from left to right", "travels from left to right"),
    ),
    "up": (("moving up", "is moving upwards"), ("that rises", "goes up")),
    "down": (("moving down", "is moving downwards"), ("that sinks", "goes down")),
    "growing": (("coming closer", "is coming closer"), ("that gets bigger", "gets bigger and bigger")),
    "shrinking": (
        ("moving away", "is going away from us"),
        ("that gets smaller", "gets smaller and smaller"),
    ),
    "still": (
        ("that stays still", "does not move"),
        ("standing still", "stays in its place"),
        ("that does not move", "keeps still"),
    ),
}
OPPOSITE = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "growing": "shrinking",
    "shrinking": "growing",
    "still": "",
    "wandering": "",
}


def motions(view: View, rng: np.random.Generator) -> list[Modifier]:
    """One modifier for every direction of movement, stillness and speed."""
    found = []
    for motion, ways in MOTIONS.items():

        def test(thing, motion=motion):
            if thing.motion == motion:
                return True
            if thing.motion == "wandering" and motion != "still":
                return None
            if thing.motion == "still" and motion in ("growing", "shrinking"):
                return None
            if motion == "still":
                return None if thing.motion in ("growing", "shrinking") else False
            sideways = ("left", "right", "up", "down")
            # Something that comes closer may drift, and something that drifts may come closer.
            return (
                None
                if (thing.motion in sideways) != (motion in sideways) and thing.motion != "still"
                else False
            )

        after, clause = wording.pick(rng, ways)
        found.append(Modifier("motion", view.where(test), after=after, clause=clause))
    speeds = [thing.speed for thing in view.objects]
    everyone = list(range(len(speeds)))
    fastest = view.largest(speeds, everyone, 1.8)
    if fastest is not None and len(everyone) > 1 and speeds[fastest] > 0.004:
        truth = tuple(number == fastest for number in everyone)
        found.append(
            Modifier("motion", truth, after="that moves fastest", clause="moves the fastest", compares=True)
        )
    return found


def orders(view: View, rng: np.random.Generator) -> list[Modifier]:
    """Who comes first, who is missing at the start, who leaves, who stays."""
    objects, length = view.objects, view.scene.num_frames
    everyone = range(len(objects))
    found = []

    def add(number: int | None, *ways: str) -> None:
        if number is not None:
            clause = wording.pick(rng, ways)
            truth = tuple(other == number for other in everyone)
            found.append(Modifier("order", truth, after=f"that {clause}", clause=clause))

    def extreme(values: list[float], largest: bool) -> int | None:
        ranked = sorted(everyone, key=lambda number: -values[number] if largest else values[number])
        if len(ranked) < 2 or abs(values[ranked[0]] - values[ranked[1]]) < EARLY:
            return None
        return ranked[0]

    enters = [thing.enters for thing in objects]
    leaves = [thing.leaves if thing.leaves is not None else length + 3 * EARLY for thing in objects]
    add(extreme(enters, False), "appears first", "is the first to appear", "is there before all others")
    if max(enters) > 0:
        add(extreme(enters, True), "appears last", "is the last to appear", "shows up after all the others")
    if min(leaves) < length:
        add(
            extreme(leaves, False),
            "leaves first",
            "is the first to leave",
            "disappears first",
            "is gone first",
        )
    late = [thing.enters >= EARLY or (None if thing.enters else False) for thing in objects]
    if None not in late and sum(late) == 1:
        add(
            late.index(True),
            "is not there at the start",
            "only comes in later",
            "is missing in the first frame",
        )
    gone = [
        (thing.leaves is not None and thing.leaves <= length - EARLY)
        or (None if thing.leaves is not None else False)
        for thing in objects
    ]
    if None not in gone and sum(gone) == 1:
        add(
            gone.index(True),
            "is gone at the end",
            "does not stay until the end",
            "has left by the last frame",
        )
    hidden = [not thing.visible[thing.enters : thing.leaves].all() for thing in objects]
    whole = [
        thing.enters == 0 and thing.leaves is None and not hide
        for thing, hide in zip(objects, hidden, strict=True)
    ]
    partly = [int(thing.visible.sum()) <= length - EARLY for thing in objects]
    if sum(whole) == 1 and sum(partly) == len(objects) - 1 and len(objects) > 1:
        add(
            whole.index(True),
            "is there the whole time",
            "can be seen in every frame",
            "stays from start to end",
        )
    return found


def positions(view: View, among: list[int], rng: np.random.Generator) -> list[Modifier]:
    """Left, right, top, bottom, middle among some of the objects; truth is False for all the others."""
    objects = view.objects
    if len(among) < 2:
        return []
    found = []
    ways = {
        (0, -1): (
            ("on the left", "is on the left"),
            ("on the left side", "is on the left-hand side"),
            ("furthest to the left", "is furthest to the left"),
        ),
        (0, 1): (
            ("on the right", "is on the right"),
            ("on the right side", "is on the right-hand side"),
            ("furthest to the right", "is furthest to the right"),
        ),
        (1, -1): (("at the top", "is at the top"), ("higher up in the picture", "is highest in the picture")),
        (1, 1): (
            ("at the bottom", "is at the bottom"),
            ("lower down in the picture", "is lowest in the picture"),
        ),
    }
    for (axis, sign), phrasings in ways.items():
        for number in among:
            if all(beyond(objects[number], objects[other], axis, sign) for other in among if other != number):
                truth = tuple(other == number for other in range(len(objects)))
                after, clause = wording.pick(rng, phrasings)
                found.append(Modifier("position", truth, after=after, clause=clause))
    for number in among:
        others = [objects[other] for other in among if other != number]
        if len(others) == 2 and any(
            beyond(objects[number], first, 0, 1) and beyond(objects[number], second, 0, -1)
            for first, second in (others, others[::-1])
        ):
            truth = tuple(other == number for other in range(len(objects)))
            found.append(
                Modifier("position", truth, after="in the middle", clause="is between the two others")
            )
    return found


def beyond(thing, other, axis: int, sign: int, gap: float = GAP) -> bool:
    """Whether a thing is clearly on one side of another in (nearly) all frames that show both.

    Args:
        thing: A scene object.
        other: Another one.
        axis: 0 for x, 1 for y.
        sign: -1 for left of or above, 1 for right of or below.
        gap: Least mean distance of the centres, as a fraction of the frame.
    """
    shared = thing.visible & other.visible
    if shared.sum() < max(2, 0.4 * min(thing.visible.sum(), other.visible.sum())):
        return False
    difference = sign * (thing.centres[shared, axis] - other.centres[shared, axis])
    return bool(np.mean(difference) >= gap and np.mean(difference > 0.03) >= 0.9)


def sizes(view: View, among: list[int], rng: np.random.Generator) -> list[Modifier]:
    """The biggest and the smallest of some objects, as seen in the picture."""
    found = []
    areas = [thing.size for thing in view.objects]
    for values, words in (
        (areas, ("biggest", "largest")),
        ([1 / max(area, 1e-9) for area in areas], ("smallest",)),
    ):
        number = view.largest(values, among, 1.8)
        if number is not None:
            truth = tuple(other == number for other in range(len(areas)))
            word = wording.pick(rng, words)
            if len(among) == 2 and rng.random() < 0.5:
                word = {"biggest": "bigger", "largest": "larger", "smallest": "smaller"}[word]
            found.append(
                Modifier(
                    "size",
                    truth,
                    before=word,
                    clause=f"looks the {word}" if word.endswith("est") else f"looks {word}",
                )
            )
    return found


def relations(view: View, target: int, rng: np.random.Generator) -> list[Modifier]:
    """Where the target is seen from another object that a name picks out alone."""
    found = []
    ways = {
        (0, -1): ("to the left of", "left of"),
        (0, 1): ("to the right of", "right of"),
        (1, -1): ("above", "higher up than"),
        (1, 1): ("below", "lower down than"),
    }
    for landmark, thing in enumerate(view.objects):
        name = view.concepts[landmark].name
        if landmark == target or meant(view.named(name)) != (landmark,) or not view.may_say(name):
            continue
        for (axis, sign), words in ways.items():
            if beyond(view.objects[target], thing, axis, sign):
                truth = tuple(
                    False
                    if number == landmark
                    else True
                    if beyond(other, thing, axis, sign)
                    else False
                    if beyond(other, thing, axis, -sign, 0.05)
                    else None
                    for number, other in enumerate(view.objects)
                )
                after = f"{wording.pick(rng, words)} the {name}"
                found.append(Modifier("relation", truth, after=after, clause=f"is {after}"))
    return found


def companies(view: View) -> list[Modifier]:
    """What a compound thing does with its other part, without naming its main part: "riding a bicycle"."""
    found = []
    for number, thing in enumerate(view.objects):
        rest = thing.phrase[len(thing.name) :].strip()
        if not thing.parts or not rest or not thing.phrase.startswith(thing.name):
            continue
        words = set(" ".join(thing.parts[1:]).split())
        truth = tuple(
            other.phrase.endswith(" " + rest)
            or (
                None
                if words & {*other.keywords, *other.phrase.split()} or view.concepts[index].doing
                else False
            )
            for index, other in enumerate(view.objects)
        )
        if all(view.may_say(part) for part in thing.parts[1:]):
            found.append(Modifier("compound", truth, after=rest, clause=f"is {rest}"))
            if truth[number] and len(words) < 4 and _can_be_with(rest):
                said = rest.split(" ", 1)[1]
                found.append(Modifier("compound", truth, after=f"with {said}", clause=f"has {said} with it"))
    return found


def _can_be_with(rest: str) -> bool:
    """Whether "with" may stand for the first word of "riding a bicycle"."""
    return rest.split(maxsplit=1)[0] in ("riding", "holding", "pulling", "carrying", "wearing")


def phrases(view: View, rng: np.random.Generator, target: int, among: list[int]) -> list[Modifier]:
    """All modifiers; the comparing ones compare the objects of `among`."""
    absolute = [
        *colours(view),
        *companies(view),
        *motions(view, rng),
        *orders(view, rng),
        *relations(view, target, rng),
    ]
    return absolute + positions(view, among, rng) + sizes(view, among, rng)
