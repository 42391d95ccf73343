"""Endless questions without a picture, each with a judge that knows which things of the dictionary it fits.

    "which one keeps you dry when it rains?"   umbrella: yes   raincoat: yes   goat: no   tent: not known

They teach a small language model what words mean at the cost of text: all concepts of the lexicon take part,
emoji, COCO and ImageNet names, people and thousands of other dictionary entries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dataset.synthetic import questions_reasoning as reasoning
from dataset.synthetic import questions_wording as wording
from dataset.synthetic.lexicon import Concept, Lexicon, is_held_out
from dataset.synthetic.lexicon_gloss import leaks
from dataset.synthetic.questions_scenery import mention
from dataset.synthetic.scene import COLOURS
from dataset.synthetic.taxonomy import DROPPED, RENAMED

KINDS = {"fact": 0.36, "description": 0.22, "kind": 0.16, "name": 0.26}
# How often a concept of a source is drawn: pictures show mostly the first four.
SOURCES = {"c": 5.0, "p": 4.0, "e": 2.0, "i": 1.0, "w": 0.15}
# Colours and places say nothing of what a thing is: a question means the same with and without them.
COLOURED, PLACED = 0.2, 0.4
PLACES = (
    "on the left", "on the right", "in the middle", "at the top", "at the bottom", "in the background",
    "in front", "moving to the left", "moving to the right", "that is standing still", "that moves",
)  # fmt: skip
LONGEST = 180  # characters
TRIES = 60

# Whether a thing answers the question; None where that is not known.
Judge = Callable[[Concept], bool | None]


@dataclass(frozen=True)
class TextQuestion:
    """A question about one thing or one sort of thing.

    Attributes:
        question: What is asked; holds no word of the thing's name if its kind is "fact" or "description".
        kind: "fact", "description", "kind" or "name".
        about: The name of the thing it was made for.
        fits: Judges any concept.
    """

    question: str
    kind: str
    about: str
    fits: Judge


class _Pool:
    """The concepts of one side of the held-out division, to draw from by source."""

    def __init__(self, lexicon: Lexicon, held_out: bool | None):
        self.concepts: list[Concept] = []
        for name in lexicon.names:
            usual = RENAMED.get(name, name) == name and name not in DROPPED and len(name) <= 24
            if usual and (held_out is None or is_held_out(name) == held_out):
                self.concepts.append(lexicon.concept(name))
        weights = np.array(
            [max(SOURCES[source] for source in known.sources or "w") for known in self.concepts]
        )
        self._edges = np.cumsum(weights / weights.sum())

    def draw(self, rng: np.random.Generator) -> Concept:
        return self.concepts[min(int(np.searchsorted(self._edges, rng.random())), len(self.concepts) - 1)]


@lru_cache(maxsize=6)
def _pool(lexicon: Lexicon, held_out: bool | None) -> _Pool:
    return _Pool(lexicon, held_out)


def draw(rng: np.random.Generator, lexicon: Lexicon, held_out: bool | None = False) -> TextQuestion:
    """One question.

    Args:
        rng: The only source of chance.
        lexicon: What words mean.
        held_out: False for training (asks for no held-out name), True for a test of held-out names alone,
            None for both together.
    """
    pool = _pool(lexicon, held_out)
    makers = {
        "fact": lambda known: _fact(rng, lexicon, known),
        "kind": lambda known: _kind(rng, lexicon, known),
        "description": lambda known: _description(rng, known),
        "name": lambda known: _name(rng, known),
    }
    shares = np.array(list(KINDS.values()))
    for _ in range(TRIES):
        known = pool.draw(rng)
        kind = list(KINDS)[int(rng.choice(len(KINDS), p=shares / shares.sum()))]
        made = makers[kind](known)
        if made is not None and len(made[0]) <= LONGEST:
            return TextQuestion(made[0], kind, known.name, made[1])
    raise RuntimeError(f"no question in {TRIES} draws: is the lexicon whole?")


def _fact(rng: np.random.Generator, lexicon: Lexicon, known: Concept) -> tuple[str, Judge] | None:
    """Something that is true of a thing."""
    facts = [fact for fact in lexicon.facts if fact.holds(known)]
    if not facts:
        return None
    fact = reasoning.pick_fact(rng, facts)
    kinds = [kind for kind in known.kinds[-2:] if not leaks(kind, known.names)]
    noun = wording.pick(rng, ("one", "thing", "object", *kinds[:1]))
    question = reasoning.predicate(rng, wording.pick(rng, fact.phrases), noun, known.is_person)
    return None if leaks(question, (known.name,)) else (question, fact.holds)


def _is_one(known: Concept, other: Concept) -> bool | None:
    """Whether the other thing is one of these; None for what is broader or shares a name."""
    if known.name == other.name or known.name in other.calls or known.synset in other.ancestors - {None}:
        return True
    akin = other.synset is not None and other.synset in known.ancestors
    return None if akin or set(known.names) & (set(other.names) | other.calls) else False


def _description(rng: np.random.Generator, known: Concept) -> tuple[str, Judge] | None:
    """The dictionary's words for a thing; of things nearly like it they may be true too."""
    if not known.descriptions:
        return None
    text = wording.pick(rng, known.descriptions)
    question = reasoning.describe(rng, text)
    if leaks(question, (known.name,)):
        return None

    def fits(other: Concept) -> bool | None:
        close = known.kinds[:1] == other.kinds[:1] and len(text.split()) < 8
        return _is_one(known, other) or (None if close else _is_one(known, other))

    return question, fits


def _kind(rng: np.random.Generator, lexicon: Lexicon, known: Concept) -> tuple[str, Judge] | None:
    """A broader word for a thing."""
    kinds = [kind for kind in known.kinds if not leaks(kind, known.names)]
    if not kinds:
        return None
    kind = wording.pick(rng, kinds)
    wider = lexicon.concept(kind)

    def fits(other: Concept) -> bool | None:
        if kind in other.kinds or kind in other.calls:
            return True
        return None if wider.synset and other.synset in wider.ancestors else False

    return _request(rng, kind), fits


def _name(rng: np.random.Generator, known: Concept) -> tuple[str, Judge] | None:
    """The thing's own name or another word for it."""
    return _request(rng, wording.pick(rng, known.names)), lambda other: _is_one(known, other)


def _request(rng: np.random.Generator, noun: str) -> str:
    """A request for a noun, now and then with a colour or a place."""
    if rng.random() < COLOURED:
        noun = f"{wording.pick(rng, COLOURS)} {noun}"
    if rng.random() < PLACED:
        where = wording.pick(rng, PLACES) if rng.random() < 0.4 else mention(rng, doing=True)
        noun = f"{noun} {where}"
    return wording.say(rng, (*wording.REQUESTS, *wording.PLACES), np=f"the {noun}")
