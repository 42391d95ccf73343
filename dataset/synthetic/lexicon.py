"""What the words for visible things mean: synonyms, broader kinds, descriptions and everyday facts.

Read from four small files beside this one: `lexicon.tsv.gz` (WordNet's entries, made by
`lexicon_extract.py`), `lexicon_kinds.txt` (which broader kinds people say), `lexicon_facts.txt` (uses,
habits, abilities, …) and `lexicon_measures.txt` (length, weight, speed); the last three are hand-written.
"""

import gzip
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dataset.synthetic import people
from dataset.synthetic.lexicon_gloss import leaks

HERE = Path(__file__).parent
# Dictionary synonyms that nobody says, that are rude, or that mean something else to most people.
UNSAID = frozenset(
    """laurel wreath|loudspeaker system|speaker unit|
    true cat|caprine animal|wood pussy|polecat|crapper|coon bear|murphy|idiot box|boob tube|
    goggle box|porcupine|asphyxiator|coffin nail|ail|pigboat|moo-cow|fitch|foulmart|fret|
    swither|sinker|red hot|camelopard|individual|terpsichorean|lip rouge|merry andrew|
    grease monkey|fire-eater|office-bearer|thaumaturge|thaumaturgist|granger|sodbuster|
    husbandman|puncher|necromancer|female parent|male child|creative person|someone|somebody|
    mortal|pike|tope|egis|lamia|lounge|chiropteran|membranophone|tympan|oculus|optic|
    encephalon|lingua|glossa|ticker|fille|nipper|tec|lensman|tourer|cervid|emmet|pismire|
    beigel|platyhelminth|carabid beetle|chrysomelid|holothurian|hautboy|hautbois|syrinx|
    plectron|swob|lavabo|jak|geta|waft|drib|driblet|moving ridge|neb|snout|packsack|
    charabanc|motortruck|hand blower|plant life|edible corn|flannel cake|battercake|teacupful|
    collapsible shelter|artificial satellite|playground ball|simple microscope|pen nib|
    graphical record|handbasket|river horse|water ox|tup|bird of night|confect|ground tackle|
    whirlybird|throw stick|bottle screw|slipstick|animal foot|server|looker|concession|
    street sign|jail|domestic ass|kangaroo bear|breadstuff|resin|lumbermill|rail car|pitman|
    canoe|gumshoe|hussar monkey|monkey dog|water ouzel|eft|cerastes|toad""".replace("\n    ", "").split("|")
)
MEASURES = ("length", "weight", "speed")  # metres, kilograms, kilometres per hour


@dataclass(frozen=True)
class Concept:
    """One thing that a word can mean.

    Attributes:
        name: Its plain name, lower case but for proper names' sake never capitalised, without article.
        names: What it may be called in a question, the plain name first.
        kinds: Broader kinds as people say them, the nearest first ("dog", "mammal", "animal").
        calls: Every word for it or for anything broader, lower case: what a fact's holders are matched with.
        descriptions: Noun phrases with article that say what it is without its own words.
        topic: The dictionary's topic ("animal", "artifact", "food", "person", "plant", …); "" if unknown.
        sources: Where the name is from: e emoji, i ImageNet, c COCO, p people, w other WordNet, "" none.
        synset: Its dictionary entry, None if it has none.
        ancestors: The dictionary entries above it and its own.
        measures: length, weight and speed where known.
        doing: For a person in the middle of something, what it is ("surfing"), otherwise "".
    """

    name: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    calls: frozenset[str]
    descriptions: tuple[str, ...] = ()
    topic: str = ""
    sources: str = ""
    synset: str | None = None
    ancestors: frozenset[str] = frozenset()
    measures: tuple[tuple[str, float], ...] = ()
    doing: str = ""

    @property
    def is_person(self) -> bool:
        return "person" in self.calls

    def measure(self, what: str) -> float | None:
        """The usual length (m), weight (kg) or top speed (km/h); None if not known."""
        return dict(self.measures).get(what)


@dataclass(frozen=True)
class Fact:
    """Something that is true of some things and not of others.

    Attributes:
        aspect: "use", "ability", "habit", "place", "material", "food", "part" or "nature".
        phrases: Ways to say it, each the rest of a sentence whose subject is the thing: "can fly".
        holders: Words (names or kinds) of the things for which it holds.
        exceptions: Words of things below a holder for which it does not hold.
        doubtful: Words of things for which it may or may not hold: never asked beside one of them.
    """

    aspect: str
    phrases: tuple[str, ...]
    holders: frozenset[str]
    exceptions: frozenset[str]
    doubtful: frozenset[str]

    def holds(self, concept: Concept) -> bool | None:
        """Whether it is true of a thing; None if that is not known."""
        if concept.calls & self.exceptions:
            return False
        if concept.name in self.doubtful:
            return None
        if concept.calls & self.holders:
            return True
        if concept.calls & self.doubtful or not concept.topic:
            return None
        return False


def is_held_out(name: str) -> bool:
    """Whether a thing of this name is kept from training, in pictures and in words.

    One rule for both: the division of the sprite library, by a stable hash of what the name means.
    """
    from dataset.synthetic.assets import concept_of, split_of  # reads pictures: not needed to know words

    return split_of(concept_of(name)) == "held-out"


class Lexicon:
    """Concepts by name, with facts.

    Args:
        folder: Where the four files lie; the package's own by default.
    """

    def __init__(self, folder: Path = HERE):
        self._entries: dict[
            str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], str, tuple[str, ...]]
        ] = {}
        self._synset_of: dict[str, tuple[str, str]] = {}
        with gzip.open(folder / "lexicon.tsv.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                kind, *fields = line.rstrip("\n").split("\t")
                if kind == "S":
                    offset, called, parents, topic, described = fields
                    plain, other = (tuple(filter(None, part.split("|"))) for part in called.split("/"))
                    described = tuple(filter(None, described.split("|")))
                    self._entries[offset] = (
                        plain,
                        other,
                        tuple(filter(None, parents.split(","))),
                        topic,
                        described,
                    )
                elif kind == "N":
                    self._synset_of[fields[0]] = (fields[1], fields[2])
        self._kinds = dict(_rows(folder / "lexicon_kinds.txt"))
        self.facts = tuple(_read_fact(*row) for row in _rows(folder / "lexicon_facts.txt"))
        self._measures = {
            name: tuple(
                (what, float(value)) for what, value in zip(MEASURES, values, strict=True) if value != "-"
            )
            for name, *values in _rows(folder / "lexicon_measures.txt")
        }
        self._depths: dict[str, int] = {}
        self._known: dict[tuple[str, str], Concept] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All names that have a dictionary entry, in the file's order: COCO, emoji, ImageNet, others."""
        return tuple(self._synset_of)

    def __contains__(self, name: str) -> bool:
        return name in self._synset_of

    def concept(self, name: str, category: str = "") -> Concept:
        """What a name means; for an unknown name, what can be told from its head word and category.

        Args:
            name: A noun phrase without article, any case: "man surfing", "bowl of rice", "red apple".
            category: A broader kind that is known from elsewhere ("fruit").
        """
        name = " ".join(name.lower().split())
        key = (name, category)
        if key not in self._known:
            self._known[key] = self._make(name, category)
        return self._known[key]

    def _make(self, name: str, category: str) -> Concept:
        doing = people.read(name)
        entry = name if name in self._synset_of else None
        if entry is None and doing is not None and doing.role in self._synset_of:
            entry = doing.role
        if entry is None and doing is None:
            entry = self._head(name)
        synset, sources = self._synset_of[entry] if entry else (None, "")
        ancestors = self._above(synset)
        words = self._words(ancestors)
        calls = {name, *words} | ({category} if category else set())
        kinds = [self._kinds[word] for word in words if word in self._kinds]
        if "vehicle" in kinds:  # the dictionary files them under containers
            kinds = [kind for kind in kinds if kind != "container"]
            calls.discard("container")
        names = [name]
        if doing is not None:
            calls |= {doing.who, doing.role, "person", *doing.also}
            names += [doing.role] if doing.role else []
            kinds = [doing.who, *kinds, "person"]
        elif synset:
            exact = entry == name
            if exact:
                names += [word for word in self._entries[synset][0] if _sayable(word) and word != name][:2]
            else:
                kinds.insert(0, entry)
        calls |= set(kinds)
        kinds = [kind for kind in dict.fromkeys(kinds) if kind not in names]
        if category and category not in kinds and category not in ("thing", "shape", "character"):
            kinds.append(category)
        described = self._entries[synset][4] if synset and (entry == name or doing is not None) else ()
        return Concept(
            name=name,
            names=tuple(dict.fromkeys(names)),
            kinds=tuple(kinds),
            calls=frozenset(calls),
            descriptions=tuple(text for text in described if not leaks(text, (name,))),
            topic="person" if doing is not None else self._entries[synset][3] if synset else "",
            sources=sources if entry == name else "",
            synset=synset,
            ancestors=frozenset(ancestors),
            measures=self._measure(
                [name, *([entry] if entry else []), *words, *(["person"] if doing else [])]
            ),
            doing=doing.activity if doing is not None else "",
        )

    def _head(self, name: str) -> str | None:
        """The known name inside a longer one: "bowl of rice" -> "bowl", "garden gnome" -> "gnome"."""
        core = re.split(r" (?:of|with|in|on|at|without|for) ", name)[0].split()
        for start in range(len(core)):
            tail = " ".join(core[start:])
            for word in (tail, tail[:-1] if tail.endswith("s") else tail):
                if word in self._synset_of:
                    return word
        return None

    def _above(self, synset: str | None) -> list[str]:
        """An entry and all above it, the most specific first."""
        found = [synset] if synset else []
        for offset in found:
            found += [parent for parent in self._entries[offset][2] if parent not in found]
        if len(found) > 1:
            depths = {offset: self._depth(offset) for offset in found}
            found.sort(key=lambda offset: -depths[offset])
        return found

    def _depth(self, offset: str) -> int:
        if offset not in self._depths:
            parents = self._entries[offset][2]
            self._depths[offset] = 1 + max((self._depth(parent) for parent in parents), default=0)
        return self._depths[offset]

    def _words(self, ancestors: list[str]) -> list[str]:
        """The words for a chain of entries, without those that commonly mean something else."""
        words = []
        for offset in ancestors:
            plain, other, *_ = self._entries[offset]
            words += [word.lower() for word in plain + other]
        within = set(ancestors)
        return [word for word in words if self._synset_of.get(word, (None,))[0] in within | {None}]

    def _measure(self, words: list[str]) -> tuple[tuple[str, float], ...]:
        found: dict[str, float] = {}
        for word in words:
            for what, value in self._measures.get(word, ()):
                found.setdefault(what, value)
        return tuple(sorted(found.items()))


def _sayable(word: str) -> bool:
    """Whether a dictionary synonym can be said: no Latin species, no long or odd spelling."""
    return (
        re.fullmatch(r"[a-z]+([ -][a-z]+){0,2}", word) is not None and len(word) <= 24 and word not in UNSAID
    )


def _rows(path: Path) -> list[list[str]]:
    rows = []
    for line in path.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            rows.append([part.strip() for part in line.split("|")])
    return rows


def _read_fact(aspect: str, phrases: str, words: str) -> Fact:
    listed = [word.strip() for word in words.split(",")]
    groups = {mark: frozenset(word[1:] for word in listed if word[0] == mark) for mark in "-?"}
    return Fact(
        aspect=aspect,
        phrases=tuple(phrase.strip() for phrase in phrases.split(";")),
        holders=frozenset(word for word in listed if word[0] not in "-?"),
        exceptions=groups["-"],
        doubtful=groups["?"],
    )


@lru_cache(maxsize=1)
def default_lexicon() -> Lexicon:
    """The package's own lexicon, read once."""
    return Lexicon()
