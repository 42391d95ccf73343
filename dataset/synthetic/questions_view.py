"""A scene as the question writer sees it: for every statement, of which objects it is true.

Truth has three values: True, False and None for "it might be". A phrase is fit for a question only if it
is True of exactly the objects that are meant and False, not None, of all others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dataset.synthetic.assets import concept_of
from dataset.synthetic.lexicon import Concept, Fact, Lexicon, is_held_out
from dataset.synthetic.scene import Scene, SceneObject
from dataset.synthetic.taxonomy import CATEGORIES

Truth = tuple[bool | None, ...]
# Colours that one person calls so and the next otherwise.
NEAR_COLOURS = {
    "red": ("orange", "pink", "brown", "purple"),
    "orange": ("red", "yellow", "brown", "pink"),
    "yellow": ("orange", "green", "white", "brown"),
    "green": ("yellow", "blue", "grey", "brown"),
    "blue": ("purple", "green", "grey", "black"),
    "purple": ("blue", "pink", "red"),
    "pink": ("red", "purple", "orange", "white"),
    "brown": ("red", "orange", "black", "grey", "yellow", "green"),
    "black": ("grey", "brown", "blue"),
    "white": ("grey", "yellow", "pink"),
    "grey": ("black", "white", "blue", "brown", "green"),
}
GENDERS = {
    "man": ("female", "woman", "girl"),
    "woman": ("male", "man", "boy"),
    "boy": ("female", "adult"),
    "girl": ("male", "adult"),
    "child": ("adult",),
}
# Kinds so wide that two things of one kind may still be told apart by a few words.
GENERAL_KINDS = frozenset(
    {"animal", "person", "food", "plant", "mammal", "garment", "piece of clothing", "vehicle"}
)
PLAIN_PEOPLE = ("person", "man", "woman", "boy", "girl", "child", "people", "men", "women")


def is_taught(noun: str) -> bool:
    """Whether training may say a noun: held-out names stay out of it, the broad categories do not."""
    return noun in CATEGORIES or not is_held_out(noun)


@dataclass(frozen=True, eq=False)
class View:
    """A scene with its objects' meanings.

    Attributes:
        scene: What is in the video.
        lexicon: What words mean.
    """

    scene: Scene
    lexicon: Lexicon

    @property
    def objects(self) -> tuple[SceneObject, ...]:
        return self.scene.objects

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """Every object's meaning; a compound's is that of its main part."""
        return tuple(self.lexicon.concept(thing.name, thing.category) for thing in self.objects)

    @cached_property
    def part_concepts(self) -> tuple[tuple[Concept, ...], ...]:
        """The meanings of every object's other parts."""
        return tuple(tuple(self.lexicon.concept(part) for part in thing.parts[1:]) for thing in self.objects)

    @cached_property
    def trains(self) -> bool:
        """Whether it is a scene to train on: none of its names is held out."""
        return not any(is_held_out(name) for thing in self.objects for name in (thing.name, *thing.parts))

    def may_say(self, noun: str) -> bool:
        """Whether a noun may stand in this scene's questions: held-out names stay out of training."""
        return not self.trains or is_taught(noun)

    def named(self, noun: str) -> Truth:
        """Of which objects a noun is true."""
        return tuple(self._is_named(number, noun) for number in range(len(self.objects)))

    def _is_named(self, number: int, noun: str) -> bool | None:
        thing, known = self.objects[number], self.concepts[number]
        asked = self.lexicon.concept(noun)
        if noun in known.names or noun in known.calls or noun in (thing.phrase, thing.category):
            return True
        for part in self.part_concepts[number]:
            if noun in part.calls or (
                asked.synset and (asked.synset in part.ancestors or part.synset in asked.ancestors)
            ):
                return None
        return self._same_kind(known, asked, thing)

    @staticmethod
    def _same_kind(known: Concept, asked: Concept, thing: SceneObject) -> bool | None:
        """Whether a thing may also be called what is asked for; True only where the dictionary says so."""
        if asked.synset and asked.synset in known.ancestors:
            return True if asked.sources else None  # without sources only the noun's last word is known
        if asked.name in thing.keywords or asked.name.split()[-1] in (
            *known.name.split(),
            *thing.phrase.split(),
        ):
            return None
        if concept_of(asked.name) == concept_of(known.name):
            return None
        if known.is_person and asked.is_person:
            if known.calls & set(GENDERS.get(asked.name, ())):
                return False
            plain = known.name in PLAIN_PEOPLE or (known.doing and len(known.names) == 1)
            return None if plain or asked.name in GENDERS or asked.name in PLAIN_PEOPLE else False
        if known.synset and known.synset in asked.ancestors:
            return None
        if not known.topic:
            return None if asked.topic in ("", "artifact") or thing.category in asked.calls else False
        return False

    def coloured(self, colour: str) -> Truth:
        """Of which objects a colour word is true."""
        near = NEAR_COLOURS[colour]
        return tuple(
            None if thing.colour is None or thing.colour in near else thing.colour == colour
            for thing in self.objects
        )

    @cached_property
    def facts(self) -> tuple[tuple[Fact, Truth], ...]:
        """Every fact with the objects of which it is true."""
        return tuple((fact, self.fact(fact)) for fact in self.lexicon.facts)

    def described(self, known: Concept, text: str) -> Truth:
        """Of which objects a dictionary's description of something is true.

        A short description, or one of a near relation, may fit others too.
        """
        truth = list(self.named(known.name))
        for number, other in enumerate(self.concepts):
            if truth[number] is False:
                shared = {*known.kinds, *known.calls} & {*other.kinds} - GENERAL_KINDS
                if known.name in other.kinds or (
                    shared and (len(text.split()) < 9 or known.kinds[:1] == other.kinds[:1])
                ):
                    truth[number] = None
        return tuple(truth)

    def fact(self, fact: Fact) -> Truth:
        """Of which objects a fact is true; a compound's other parts leave it open."""
        truth = []
        for known, parts in zip(self.concepts, self.part_concepts, strict=True):
            holds = fact.holds(known)
            if holds is False and any(fact.holds(part) is not False for part in parts):
                holds = None
            truth.append(holds)
        return tuple(truth)

    def where(self, test: Callable[[SceneObject], bool | None]) -> Truth:
        """The truth of any test of objects."""
        return tuple(test(thing) for thing in self.objects)

    def largest(self, values: list[float], among: list[int], ratio: float) -> int | None:
        """The one of `among` whose value is at least `ratio` times every other's; None if there is none."""
        if len(among) < 2 or any(not np.isfinite(values[number]) for number in among):
            return None
        first, second = sorted(among, key=lambda number: -values[number])[:2]
        return first if values[first] >= ratio * values[second] and values[first] > 0 else None


def both(*truths: Truth) -> Truth:
    """Of which objects all statements are true."""
    return tuple(
        False if any(value is False for value in values) else None if None in values else True
        for values in zip(*truths, strict=True)
    )


def meant(truth: Truth) -> tuple[int, ...] | None:
    """The indices of the objects a statement means; None if it is not certain of every object."""
    return None if None in truth else tuple(number for number, value in enumerate(truth) if value)
