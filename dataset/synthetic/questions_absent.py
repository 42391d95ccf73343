"""Questions for things that are not in the scene, half of them close to something that is.

Every kind of question has its absent twin, so that the form of a question never tells whether there is an
answer: names, kinds, colours, movements and places that do not fit, uses and descriptions of other things.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dataset.synthetic import questions_modifiers as modifying
from dataset.synthetic import questions_reasoning as reasoning
from dataset.synthetic import questions_referring as referring
from dataset.synthetic import questions_wording as wording
from dataset.synthetic.lexicon import Concept, Lexicon, is_held_out
from dataset.synthetic.lexicon_gloss import leaks
from dataset.synthetic.questions_view import View, both, meant
from dataset.synthetic.scene import COLOURS
from dataset.synthetic.taxonomy import DROPPED, RENAMED

MADE = frozenset({"artifact"})  # things that come in any colour
COMPANY = (
    "riding", "holding", "next to", "on", "carrying", "behind", "in front of", "with", "beside", "pushing",
    "chasing", "playing with", "looking at",
)  # fmt: skip


@dataclass(frozen=True)
class Missing:
    """A question that nothing in the scene answers, and the noun it asks for ("" if it names none)."""

    question: str
    noun: str
    aspect: str


@lru_cache(maxsize=4)
def _askable(lexicon: Lexicon) -> dict[bool, tuple[Concept, ...]]:
    """Well-known things by whether they are held out: emoji, COCO's and half-known ImageNet names."""
    found: dict[bool, list[Concept]] = {True: [], False: []}
    for name in lexicon.names:
        known = lexicon.concept(name)
        well_known = set(known.sources) & set("ecp") or ("i" in known.sources and " " not in name)
        usual = RENAMED.get(name, name) == name and not re.search(r"\b(and|with|face|facing)\b", name)
        if well_known and usual and name not in DROPPED and len(name) < 22 and known.topic in (
            "animal", "artifact", "food", "person", "plant", "object"
        ):  # fmt: skip
            found[is_held_out(name)].append(known)
    return {held_out: tuple(concepts) for held_out, concepts in found.items()}


def draw_missing(view: View, rng: np.random.Generator, near: bool) -> Concept | None:
    """A thing that is surely not in the scene.

    Args:
        view: The scene.
        rng: Source of chance.
        near: Whether it must share a kind with something that is there.
    """
    pools = _askable(view.lexicon)
    pool = pools[False] if view.trains or rng.random() < 0.5 else pools[True]
    kinds: set[str] = set()
    if near:
        target = int(rng.integers(len(view.objects)))
        kinds = {kind for kind in view.concepts[target].kinds if kind not in ("thing",)}
        if not kinds:
            return None
    for _ in range(60 if near else 12):
        known = wording.pick(rng, pool)
        if near and not kinds & set(known.kinds):
            continue
        if not near and rng.random() < 0.15:  # fair share for people, of whom there are few names
            known = view.lexicon.concept(
                wording.pick(rng, ("man", "woman", "girl", "boy", "person", "child", "dog", "car"))
            )
        if meant(view.named(known.name)) == ():
            return known
    return None


def name(view: View, rng: np.random.Generator) -> Missing | None:
    """Something that is not there, by its name, a synonym or a kind, at times with a colour or place."""
    known = draw_missing(view, rng, near=bool(rng.random() < 0.5))
    if known is None:
        return None
    noun, aspect = known.name, "name"
    draw = rng.random()
    if draw < 0.1 and len(known.names) > 1:
        noun, aspect = wording.pick(rng, known.names[1:]), "synonym"
    elif draw < 0.3 and known.kinds:
        noun, aspect = wording.pick(rng, known.kinds), "kind"
    if meant(view.named(noun)) != () or not view.may_say(noun):
        return None
    modifiers = []
    draw = rng.random()
    if draw < 0.16 and known.topic in MADE:
        colour = wording.pick(rng, COLOURS)
        modifiers = [modifying.Modifier("colour", (), before=colour, clause=f"is {colour}")]
    elif draw < 0.3:
        ways = [way for motion in ("left", "right", "still", "growing") for way in modifying.MOTIONS[motion]]
        after, clause = wording.pick(rng, ways)
        modifiers = [modifying.Modifier("motion", (), after=after, clause=clause)]
    elif draw < 0.44:
        after = wording.pick(
            rng, ("on the left", "on the right", "in the middle", "at the top", "at the bottom")
        )
        modifiers = [modifying.Modifier("position", (), after=after, clause=f"is {after}")]
    elif draw < 0.5:
        modifiers = [modifying.Modifier("size", (), before=wording.pick(rng, ("biggest", "smallest")))]
    if not modifiers and rng.random() < 0.12:
        many = wording.plural(noun)
        return Missing(
            wording.pick(rng, ("all the {}", "Segment all the {}.", "Where are the {}?")).format(many),
            noun,
            aspect,
        )
    clause = modifiers[0].clause if modifiers else ""
    question = referring.word_reference(rng, noun, modifiers, clause, known.is_person)
    said = f"{modifiers[0].before} {noun}".strip() if modifiers and modifiers[0].aspect == "colour" else noun
    return Missing(question, said, aspect)


def mismatch(view: View, rng: np.random.Generator) -> Missing | None:
    """Something that is there, but not of that colour, not moving so, not in that company."""
    target = int(rng.integers(len(view.objects)))
    options = [option for option in referring.nouns(view, target) if option[1] in ("name", "kind", "any")]
    noun, _, truth = wording.pick(rng, options)
    aspect = wording.pick(rng, ("colour", "motion", "compound", "compound"))
    if aspect == "compound":
        return _wrong_company(view, rng, target)
    modifiers = {
        "colour": lambda: modifying.colours(view),
        "motion": lambda: modifying.motions(view, rng),
    }[aspect]()
    fitting = [item for item in modifiers if not item.compares and meant(both(truth, item.truth)) == ()]
    if not fitting:
        return None
    modifier = wording.pick(rng, fitting)
    noun = "thing" if noun == "one" else noun
    question = referring.word_reference(
        rng, noun, [modifier], modifier.clause, view.concepts[target].is_person
    )
    return Missing(question, f"{modifier.before} {noun}" if modifier.before else "", aspect)


def _wrong_company(view: View, rng: np.random.Generator, target: int) -> Missing | None:
    """A thing that is there in company that is not: "the monkey riding a horse", "the girl on the bench"."""
    thing = view.objects[target]
    if meant(view.named(thing.name)) != (target,) or not view.may_say(thing.name):
        return None
    leads = bool(rng.random() < 0.5)  # whether the thing that is there is the one asked for
    for _ in range(1 if leads else 8):
        other = draw_missing(view, rng, near=False)
        if other is not None and (leads or other.topic in ("animal", "person")):
            break
    else:
        return None
    doing = wording.pick(rng, COMPANY)
    if leads:
        noun = f"{thing.name} {doing} {wording.with_article(other.name)}"
        is_person = view.concepts[target].is_person
    else:
        noun, is_person = f"{other.name} {doing} the {thing.name}", other.is_person
    return Missing(referring.word_reference(rng, noun, [], "", is_person), noun, "compound")


def relation(view: View, rng: np.random.Generator) -> Missing | None:
    """A place beside something, where there is nothing of the sort."""
    target, landmark = (int(number) for number in rng.integers(len(view.objects), size=2))
    known = view.concepts[landmark]
    if target == landmark or meant(view.named(known.name)) != (landmark,) or not view.may_say(known.name):
        return None
    options = [option for option in referring.nouns(view, target) if option[1] in ("name", "kind")]
    if not options:
        return None
    noun, _, truth = wording.pick(rng, options)
    numbers = meant(truth)
    if not numbers or landmark in numbers:
        return None
    ways = {(0, -1): "to the left of", (0, 1): "to the right of", (1, -1): "above", (1, 1): "below"}
    for axis, sign in rng.permutation(list(ways)).tolist():
        if all(
            modifying.beyond(view.objects[number], view.objects[landmark], axis, -sign) for number in numbers
        ):
            after = f"{ways[axis, sign]} the {known.name}"
            modifier = modifying.Modifier("relation", (), after=after, clause=f"is {after}")
            question = referring.word_reference(
                rng, noun, [modifier], modifier.clause, view.concepts[target].is_person
            )
            return Missing(question, "", "relation")
    return None


def fact(view: View, rng: np.random.Generator) -> Missing | None:
    """A use, ability or habit that none of the things has; mostly one of a thing of the same sort."""
    known = draw_missing(view, rng, near=bool(rng.random() < 0.6))
    if known is None:
        return None
    clear = [item for item, truth in view.facts if meant(truth) == () and item.holds(known)]
    if not clear:
        return None
    chosen = reasoning.pick_fact(rng, clear)
    kinds = [kind for kind in known.kinds if view.may_say(kind) and not leaks(kind, known.names)]
    noun = wording.pick(rng, ("thing", "object", "one", *kinds[-1:]))
    question = reasoning.predicate(rng, wording.pick(rng, chosen.phrases), noun, known.is_person)
    return Missing(question, "", chosen.aspect)


def riddle(view: View, rng: np.random.Generator) -> Missing | None:
    """The description of something that is not there."""
    known = draw_missing(view, rng, near=bool(rng.random() < 0.5))
    if known is None or not known.descriptions:
        return None
    text = wording.pick(rng, known.descriptions)
    if meant(view.described(known, text)) != ():
        return None
    return Missing(reasoning.describe(rng, text), "", "description")
