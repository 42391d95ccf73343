"""Endless text-only samples that teach a small language model which name a description means.

    In view: goat, black swan, taxi, umbrella
    which one keeps you dry when it rains?      -> umbrella, or nothing if none of them fits

All concepts of the lexicon take part: emoji, COCO and ImageNet names, people and thousands of other
dictionary entries; most wrong choices are near relations of the right one.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dataset.synthetic import questions_reasoning as reasoning
from dataset.synthetic import questions_wording as wording
from dataset.synthetic.lexicon import Concept, Lexicon, is_held_out
from dataset.synthetic.lexicon_gloss import leaks
from dataset.synthetic.taxonomy import DROPPED, RENAMED

ABSENT = 0.2  # share of samples that no name answers
NEAR = 0.5  # share of wrong names that are relations of the right one
KINDS = {"fact": 0.38, "description": 0.3, "kind": 0.12, "synonym": 0.08, "comparison": 0.12}
# How often a concept of a source is drawn: pictures show mostly the first four.
SOURCES = {"c": 5.0, "p": 4.0, "e": 2.0, "i": 1.0, "w": 0.15}
TRIES = 60


@dataclass(frozen=True)
class TextPair:
    """A list of things and a question about one of them.

    Attributes:
        names: The things in view, plain names without article, all different.
        question: What is asked; holds no word of the right name unless its kind is "kind" or "synonym".
        answer_index: Index into `names`; None if nothing in view is meant.
        kind: "fact", "description", "kind", "synonym" or "comparison".
    """

    names: tuple[str, ...]
    question: str
    answer_index: int | None
    kind: str

    @property
    def prompt(self) -> str:
        """The list and the question as one text: "In view: goat, taxi\\nwhich one …"."""
        return f"In view: {', '.join(self.names)}\n{self.question}"

    @property
    def answer(self) -> str:
        """The right name, or "no such thing"."""
        return "no such thing" if self.answer_index is None else self.names[self.answer_index]


class _Pool:
    """The concepts of one side of the held-out division, to draw from by source and by relation."""

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
        self.relatives: dict[str, list[int]] = defaultdict(list)
        for index, known in enumerate(self.concepts):
            for kind in known.kinds[:3]:
                self.relatives[kind].append(index)

    def draw(self, rng: np.random.Generator) -> Concept:
        return self.concepts[min(int(np.searchsorted(self._edges, rng.random())), len(self.concepts) - 1)]

    def draw_near(self, rng: np.random.Generator, known: Concept) -> Concept:
        kinds = [kind for kind in known.kinds[:3] if len(self.relatives[kind]) > 1]
        if not kinds:
            return self.draw(rng)
        return self.concepts[wording.pick(rng, self.relatives[wording.pick(rng, kinds)])]


@lru_cache(maxsize=6)
def _pool(lexicon: Lexicon, held_out: bool | None) -> _Pool:
    return _Pool(lexicon, held_out)


def draw(
    rng: np.random.Generator, lexicon: Lexicon, choices: int = 8, held_out: bool | None = False
) -> TextPair:
    """One sample.

    Args:
        rng: The only source of chance.
        lexicon: What words mean.
        choices: The greatest number of things in view; at least 2. Lists of any length from 2 up are drawn.
        held_out: False for training (no held-out name occurs), True for a test of held-out names alone,
            None for both together.

    Raises:
        ValueError: `choices` is less than 2.
    """
    if choices < 2:
        raise ValueError(f"choices must be at least 2, so that there is something to choose; got {choices}")
    pool = _pool(lexicon, held_out)
    for _ in range(TRIES):
        kind = wording.pick(rng, [name for name, share in KINDS.items() for _ in range(round(100 * share))])
        made = _make(rng, lexicon, pool, kind, int(rng.integers(2, choices + 1)))
        if made is not None:
            return made
    raise RuntimeError(f"no unambiguous sample in {TRIES} draws: is the lexicon whole?")


def _make(rng: np.random.Generator, lexicon: Lexicon, pool: _Pool, kind: str, count: int) -> TextPair | None:
    """A sample of a kind, or None if the draw came to nothing."""
    known = pool.draw(rng)
    absent = rng.random() < ABSENT
    if kind == "comparison":
        return _compare(rng, pool, count)
    if kind == "fact":
        asked = _fact(rng, lexicon, known)
    elif kind == "kind":
        asked = _kind(rng, lexicon, known)
    else:
        asked = _description(rng, known) if kind == "description" else _synonym(rng, known)
    if asked is None:
        return None
    question, fits = asked
    others: list[Concept] = []
    for _ in range(8 * count):
        if len(others) == count - (not absent):
            break
        other = pool.draw_near(rng, known) if rng.random() < NEAR else pool.draw(rng)
        taken = [known.name, *(chosen.name for chosen in others)]
        if other.name not in taken and fits(other) is False:
            others.append(other)
    if not others:
        return None
    things = others if absent else [*others, known]
    order = rng.permutation(len(things))
    names = tuple(things[index].name for index in order)
    return TextPair(names, question, None if absent else names.index(known.name), kind)


def _fact(rng: np.random.Generator, lexicon: Lexicon, known: Concept):
    """A fact of a thing, and whether it is true of another (True, False or None for unknown)."""
    facts = [fact for fact in lexicon.facts if fact.holds(known)]
    if not facts:
        return None
    fact = reasoning.pick_fact(rng, facts)
    kinds = [kind for kind in known.kinds[-2:] if not leaks(kind, known.names)]
    noun = wording.pick(rng, ("one", "thing", "object", *kinds[:1]))
    question = reasoning.predicate(rng, wording.pick(rng, fact.phrases), noun, known.is_person)
    return None if leaks(question, (known.name,)) else (question, fact.holds)


def _related(known: Concept, other: Concept) -> bool:
    """Whether one is a kind of the other, or both are the same."""
    return bool(
        known.synset in other.ancestors
        or other.synset in known.ancestors
        or set(known.names) & (set(other.names) | other.calls)
        or set(other.names) & known.calls
    )


def _description(rng: np.random.Generator, known: Concept):
    """The dictionary's words for a thing; not beside things of which the same words may be true."""
    if not known.descriptions:
        return None
    text = wording.pick(rng, known.descriptions)
    question = reasoning.describe(rng, text)
    if leaks(question, (known.name,)) or len(question) > 180:
        return None

    def fits(other: Concept) -> bool | None:
        if _related(known, other):
            return None
        close = known.kinds[:1] == other.kinds[:1] and len(text.split()) < 8
        return None if close else False

    return question, fits


def _kind(rng: np.random.Generator, lexicon: Lexicon, known: Concept):
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

    patterns = (*wording.REQUESTS, *wording.PLACES)
    return wording.say(rng, patterns, np=f"the {kind}"), fits


def _synonym(rng: np.random.Generator, known: Concept):
    """Another word for a thing, or its own name, so that names are learnt too."""
    name = wording.pick(rng, known.names)

    def fits(other: Concept) -> bool | None:
        return None if _related(known, other) or name in other.calls else False

    return wording.say(rng, (*wording.REQUESTS, *wording.PLACES), np=f"the {name}"), fits


def _compare(rng: np.random.Generator, pool: _Pool, count: int) -> TextPair | None:
    """Which of some things is really the fastest, heaviest, largest, …"""
    what, sign, ratio, patterns = wording.pick(rng, reasoning.COMPARISONS)
    things: dict[str, float] = {}
    for _ in range(20 * count):
        known = pool.draw(rng)
        value = known.measure(what)
        if value is not None and (
            what != "speed" or known.topic in ("animal", "person") or "vehicle" in known.kinds
        ):
            things[known.name] = value**sign
        if len(things) == min(count, 5):
            break
    ranked = sorted(things.values(), reverse=True)
    if len(ranked) < 2 or ranked[0] < ratio * ranked[1]:
        return None
    names = list(things)
    names = tuple(names[index] for index in rng.permutation(len(names)))
    question = wording.say(rng, patterns, noun=wording.pick(rng, ("one", "thing", "object")))
    return TextPair(
        names, question, max(range(len(names)), key=lambda index: things[names[index]]), "comparison"
    )
