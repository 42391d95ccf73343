"""An indexed library of cut-out sprites with names, categories, keywords and measured colours.

Sprites come from archives or folders that the caller has fetched: an npm archive of emoji pictures
together with the npm archive of their labels (`AssetLibrary.from_emoji`), or any folder with an
`index.json` (`AssetLibrary.from_folder`). Nothing is downloaded here.

Names are divided into "train" and "held-out" by a stable hash of the *concept*, which is what remains of a
name without colours, skin tones and variants, so that "red apple" and "green apple" are never divided.
"""

import hashlib
import json
import re
import tarfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataset.synthetic import taxonomy
from dataset.synthetic.colours import name_colour

SPLITS = ("train", "held-out")
HELD_OUT_SHARE = 0.15
_CACHED_SPRITES = 512


@dataclass(frozen=True, eq=False)
class Sprite:
    """One cut-out and what is known of it.

    Attributes:
        key: Unique in its library.
        name: Head noun phrase, such as "apple" or "man surfing".
        category: One of `taxonomy.CATEGORIES`.
        concept: What decides the split; shared by variants and synonyms.
        keywords: Lower-case words associated with it.
        encoded: The picture's file contents (webp or png, with alpha).
        source: Which package it is from.
    """

    key: str
    name: str
    category: str
    concept: str
    keywords: tuple[str, ...]
    encoded: bytes
    source: str


def concept_of(name: str) -> str:
    """What remains of a name without colours, modifiers and synonyms: "red apple" -> "apple"."""
    words = [word for word in re.split(r"[\s\-]+", name.lower()) if word not in taxonomy.COLOUR_WORDS]
    text = " ".join(words) or name.lower()
    for joint in (" with ", " in ", " on ", " of "):
        if joint in text:
            head, tail = text.split(joint, 1)
            text = (
                tail if head in {"bowl", "glass", "cup", "pot", "plate", "person", "man", "woman"} else head
            )
    if text in taxonomy.CONCEPT_OF_HEAD:
        return taxonomy.CONCEPT_OF_HEAD[text]
    head = text.split()[-1]
    return taxonomy.CONCEPT_OF_HEAD.get(head, head)


def split_of(concept: str) -> str:
    """ "train" or "held-out", from a stable hash; everyday concepts are always "train"."""
    if concept in taxonomy.EVERYDAY:
        return "train"
    digest = hashlib.sha256(f"visa:{concept}".encode()).digest()
    return "held-out" if int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE / 0.85 else "train"


def _read_label(entry: dict) -> tuple[str, str] | None:
    """The name and category of an emojibase entry, or None if it is not an object."""
    label = entry["label"]
    if label in taxonomy.CATEGORY_OF_EXTRA:
        category = taxonomy.CATEGORY_OF_EXTRA[label]
    else:
        category = taxonomy.CATEGORY_OF_SUBGROUP.get(entry.get("subgroup"))
    category = taxonomy.CATEGORY_OF_LABEL.get(label, category)
    clock_face = "o’clock" in label or label.endswith("-thirty")
    if category is None or label in taxonomy.DROPPED or clock_face:
        return None
    if label in taxonomy.RENAMED:
        return taxonomy.RENAMED[label], category
    role = re.match(r"(man|woman|person) (?!with|in|wearing|getting)(\w+.*)$", label)
    if role and entry["subgroup"] in (25, 26):
        return role.group(2), category
    trait = re.match(r"(man|woman|person): (.*)$", label)
    if trait:
        who, what = trait.groups()
        return (
            f"bald {who}" if what == "bald" else f"{who} with {'a ' if what == 'beard' else ''}{what}"
        ), category
    return label.replace("’", "'"), category


class AssetLibrary:
    """Sprites by split and category, decoded on demand and cached.

    Args:
        sprites: In a fixed order: generated videos depend on it.
        backgrounds: Photographs, uint8 [H, W, 3]; may be empty.
    """

    def __init__(self, sprites: list[Sprite], backgrounds: tuple = ()):
        if not sprites:
            raise ValueError("expected at least one sprite, got none: is this the right archive?")
        self.sprites = tuple(sprites)
        self.backgrounds = tuple(backgrounds)
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._colours: dict[str, str | None] = {}
        self._by_split = {
            split: [sprite for sprite in self.sprites if split_of(sprite.concept) == split]
            for split in SPLITS
        }

    @classmethod
    def from_emoji(cls, pictures: Path | str, labels: Path | str) -> "AssetLibrary":
        """Read an npm archive of `<code points>.webp` or `.png` pictures and `emojibase-data`'s archive."""
        with tarfile.open(labels) as archive:
            entries = json.load(archive.extractfile("package/en/data.json"))
        contents = {}
        with tarfile.open(pictures) as archive:
            for member in archive:
                stem, _, suffix = member.name.rpartition("/")[2].partition(".")
                if suffix in ("webp", "png"):
                    contents[stem.lower().replace("-fe0f", "")] = archive.extractfile(member).read()
        sprites = []
        for entry in entries:
            named = _read_label(entry)
            if named is None:
                continue
            name, category = named
            keywords = tuple(sorted({*entry.get("tags", ()), *name.lower().split()}))
            for variant in (entry, *entry.get("skins", ())):
                code = variant["hexcode"].lower().replace("-fe0f", "")
                if code in contents:
                    sprites.append(
                        Sprite(code, name, category, concept_of(name), keywords, contents[code], "fluent")
                    )
        return cls(sprites)

    @classmethod
    def from_folder(cls, folder: Path | str) -> "AssetLibrary":
        """Read `index.json`, a list of {"file", "name", "category", "keywords", "source"}, and its pictures."""
        folder = Path(folder)
        sprites = []
        for entry in json.loads((folder / "index.json").read_text()):
            sprites.append(
                Sprite(
                    key=entry["file"],
                    name=entry["name"],
                    category=entry["category"],
                    concept=entry.get("concept") or concept_of(entry["name"]),
                    keywords=tuple(entry.get("keywords", ())),
                    encoded=(folder / entry["file"]).read_bytes(),
                    source=entry.get("source", folder.name),
                )
            )
        return cls(sprites)

    def __add__(self, other: "AssetLibrary") -> "AssetLibrary":
        return AssetLibrary([*self.sprites, *other.sprites], self.backgrounds + other.backgrounds)

    def of_split(self, split: str) -> list[Sprite]:
        """All sprites of "train" or "held-out", in order."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        return self._by_split[split]

    def names(self, split: str) -> set[str]:
        """All object names of a split."""
        return {sprite.name for sprite in self.of_split(split)}

    def picture(self, sprite: Sprite) -> np.ndarray:
        """A sprite cropped to its opaque part: uint8 [H, W, 4], RGBA, 0..255, not premultiplied."""
        if sprite.key in self._cache:
            self._cache.move_to_end(sprite.key)
            return self._cache[sprite.key]
        decoded = cv2.imdecode(np.frombuffer(sprite.encoded, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None or decoded.ndim != 3 or decoded.shape[2] != 4:
            raise ValueError(
                f"expected sprite {sprite.key!r} to be a picture with alpha; it could not be read so"
            )
        rows = np.flatnonzero((decoded[..., 3] > 127).any(axis=1))
        columns = np.flatnonzero((decoded[..., 3] > 127).any(axis=0))
        if not len(rows):
            raise ValueError(f"sprite {sprite.key!r} has no opaque pixel; leave it out of the library")
        cropped = decoded[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        picture = np.ascontiguousarray(cropped[..., [2, 1, 0, 3]])
        self._cache[sprite.key] = picture
        if len(self._cache) > _CACHED_SPRITES:
            self._cache.popitem(last=False)
        return picture

    def colour(self, sprite: Sprite) -> str | None:
        """The sprite's colour word, measured from its pixels, or None."""
        if sprite.key not in self._colours:
            self._colours[sprite.key] = name_colour(self.picture(sprite))
        return self._colours[sprite.key]
