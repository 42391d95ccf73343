"""Referring expressions: noun phrases that pick objects out by name, looks, place, movement or events."""

import re
from dataclasses import dataclass

import numpy as np

from dataset.synthetic import questions_scenery
from dataset.synthetic import questions_wording as wording
from dataset.synthetic.questions_modifiers import Modifier, colours, motions, phrases
from dataset.synthetic.questions_view import Truth, View, both, meant


@dataclass(frozen=True)
class Claim:
    """A question with the indices of the objects it means and what it is about."""

    question: str
    object_ids: tuple[int, ...]
    aspect: str


def nouns(view: View, target: int) -> list[tuple[str, str, Truth]]:
    """(noun, aspect, truth) of everything the target may be called, "thing" and "one" last."""
    known, thing = view.concepts[target], view.objects[target]
    found = []
    for number, name in enumerate(known.names):
        found.append((name, "name" if number == 0 else "synonym", view.named(name)))
    if thing.phrase != thing.name and thing.parts:
        exact = tuple(
            other.phrase == thing.phrase or (None if other.name == thing.name and not other.parts else False)
            for other in view.objects
        )
        found.append((thing.phrase, "compound", exact))
    if known.doing:
        who, does = known.kinds[0], known.doing
        linked = f"who is {does}" if does.split()[0].endswith("ing") else does.replace("with ", "who has ", 1)
        found.append((f"{who} {linked}", "name", view.named(known.name)))
    found += [(kind, "kind", view.named(kind)) for kind in known.kinds]
    found = [(noun, aspect, truth) for noun, aspect, truth in found if view.may_say(noun) and truth[target]]
    everyone = (True,) * len(view.objects)
    plain = ("object", "one") if known.is_person else ("thing", "object", "one")
    return [*found, *((noun, "any", everyone) for noun in plain)]


def noun_phrase(noun: str, modifiers: list[Modifier]) -> str:
    """ "the small red bird on the left"."""
    before = " ".join(modifier.before for modifier in modifiers if modifier.before)
    after = " ".join(modifier.after for modifier in modifiers if modifier.after)
    return " ".join(part for part in ("the", before, noun, after) if part)


def refer(view: View, rng: np.random.Generator, wanted: str = "") -> Claim | None:
    """One referring question, or None if the draw gave no unambiguous one.

    Args:
        view: The scene.
        rng: Source of chance.
        wanted: The aspect that it must have; "" for any.
    """
    target = int(rng.integers(len(view.objects)))
    options = nouns(view, target)
    if wanted == "compound" and rng.random() < 0.4 and any(option[1] == wanted for option in options):
        options = options[-3:] + [option for option in options if option[1] == "kind"]
    elif wanted in ("name", "synonym", "kind", "compound"):
        options = [option for option in options if option[1] == wanted]
    elif wanted:
        weights = {"name": 4, "synonym": 1, "kind": 2, "compound": 1, "any": 2}
        options = [option for option in options for _ in range(weights[option[1]])]
    if not options:
        return None
    noun, aspect, truth = wording.pick(rng, options)
    modifiers: list[Modifier] = []
    if aspect == "any" or wanted not in ("name", "synonym", "kind", "compound") or meant(truth) != (target,):
        among = [number for number, value in enumerate(truth) if value is not False]
        fitting = [item for item in phrases(view, rng, target, among) if item.truth[target] is True]
        if wanted and wanted not in ("name", "synonym", "kind"):
            fitting = [item for item in fitting if item.aspect == wanted]
        if not fitting:
            return None
        modifiers = [wording.pick(rng, fitting)]
        aspect = modifiers[0].aspect
    both_truths = both(truth, *(modifier.truth for modifier in modifiers))
    if meant(both_truths) != (target,):
        return None
    clause = modifiers[0].clause if len(modifiers) == 1 and noun != "one" else ""
    return Claim(
        word_reference(rng, noun, modifiers, clause, view.concepts[target].is_person), (target,), aspect
    )


def word_reference(
    rng: np.random.Generator, noun: str, modifiers: list[Modifier], clause: str, person: bool
) -> str:
    """A question or request for a noun with its modifiers, now and then with its surroundings."""
    draw = rng.random()
    if not any(item.after for item in modifiers) and rng.random() < questions_scenery.SHARE:
        where = questions_scenery.mention(rng, doing=not clause)
        modifiers = [*modifiers, Modifier("scenery", (), after=where)]
        clause = f"{clause} {where}" if clause else f"is {where}"
    if clause and draw < 0.4:
        if draw < 0.2:
            return wording.say(
                rng,
                ("Which {noun} {vp}?", "which {noun} {vp}", "Which {noun} in the video {vp}?"),
                noun=noun,
                vp=clause,
            )
        if noun in ("thing", "object") and draw < 0.3:
            patterns = wording.WHO if person else wording.QUESTIONS_THAT
            return wording.say(rng, patterns, noun=noun, vp=clause)
        return wording.say(
            rng,
            ("Find the {noun} that {vp}.", "the {noun} that {vp}", "Segment the {noun} that {vp}."),
            noun=noun,
            vp=clause,
        )
    phrase = noun_phrase(noun, modifiers)
    if draw < 0.55:
        return phrase
    if draw < 0.62:
        return phrase[:1].upper() + phrase[1:] + "."
    if draw < 0.7 and not modifiers:
        return noun
    if draw < 0.88:
        return wording.say(rng, wording.REQUESTS, np=phrase)
    places = [pattern for pattern in wording.PLACES if noun != "one" or "one" not in pattern]
    return wording.say(rng, tuple(places), np=phrase)


def refer_all(view: View, rng: np.random.Generator) -> Claim | None:
    """A question for several objects of one kind: "all the birds"."""
    target = int(rng.integers(len(view.objects)))
    options = [option for option in nouns(view, target) if option[1] != "any"]
    if not options:
        return None
    noun, _, truth = wording.pick(rng, options)
    after = ""
    if rng.random() < 0.3:
        fitting = [item for item in (*motions(view, rng), *colours(view)) if item.truth[target] is True]
        if fitting:
            modifier = wording.pick(rng, fitting)
            truth = both(truth, modifier.truth)
            noun = f"{modifier.before} {noun}".strip()
            after = modifier.after if re.match(r"\w+ing\b", modifier.after) else ""
            if modifier.after and not after:
                return None
    numbers = meant(truth)
    if numbers is None or not 2 <= len(numbers) <= 5:
        return None
    many = wording.plural(noun)
    count = wording.NUMBERS[len(numbers)]
    pattern = wording.pick(
        rng,
        (
            "all the {many}",
            "Segment all the {many}.",
            "the {many}",
            "Find every {one}.",
            "Show me all {many}.",
            "Where are the {many}?",
            "the {count} {many}",
            "Which ones are {many}?",
            "Mark each {one}.",
            "Please find the {many}.",
        ),
    )
    if after:
        pattern = wording.pick(
            rng, ("all the {many} {after}", "Segment the {many} {after}.", "Where are the {many} {after}?")
        )
    return Claim(pattern.format(many=many, one=noun, count=count, after=after), numbers, "several")
