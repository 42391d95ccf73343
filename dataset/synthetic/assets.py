"""An indexed library of cut-out sprites with names, categories, keywords and measured colours.

Sprites come from what the caller has fetched (see `library.open_library`): emoji pictures together with
their labels, or any folder with an `index.json`. Nothing is downloaded here.

Names are divided into "train" and "held-out" by a stable hash of the *concept*, which is what remains of a
name without colours, skin tones and variants, so that "red apple" and "green apple" are never divided.
"""

import hashlib
import json
import re
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataset.synthetic import taxonomy
from dataset.synthetic.colours import name_colour

SPLITS = ("train", "held-out")
HELD_OUT_SHARE = 0.15
MODELS = "sweethome3d-furniture"  # how the source of a rendered 3D model begins
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


def read_emoji(pictures: dict[str, bytes], labels: bytes, source: str) -> list[Sprite]:
    """The sprites of emoji pictures.

    Args:
        pictures: File contents by file name: `1f3c4-200d-2640-fe0f.webp` or `emoji_u1f3c4_200d_2640.png`.
        labels: emojibase's English data.json.
        source: Begins every sprite's key.
    """
    contents = {}
    for name, content in pictures.items():
        stem = name.rpartition("/")[2].partition(".")[0]
        code = stem.lower().removeprefix("emoji_u").replace("_", "-")
        contents["-".join(part.lstrip("0") for part in code.split("-") if part != "fe0f")] = content
    sprites = []
    for entry in json.loads(labels):
        named = _read_label(entry)
        if named is None:
            continue
        name, category = named
        keywords = tuple(sorted({*entry.get("tags", ()), *name.lower().split()}))
        for variant in (entry, *entry.get("skins", ())):
            parts = variant["hexcode"].lower().split("-")
            code = "-".join(part.lstrip("0") for part in parts if part != "fe0f")
            if code in contents:
                key = f"{source}/{code}"
                concept = concept_of(name)
                sprites.append(Sprite(key, name, category, concept, keywords, contents[code], source))
    return sprites


def read_pack(path: Path | str) -> list[Sprite]:
    """The sprites of a folder or .zip file whose `index.json` lists them.

    An entry is {"file", "name", "category", "keywords", "source"}.
    """
    path = Path(path)
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*.*"))}
    else:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    if "index.json" not in files:
        raise ValueError(f"expected {path} to be a sprite pack with an index.json; it has none")
    return [
        Sprite(
            key=f"{path.stem}/{entry['file']}",
            name=entry["name"],
            category=entry["category"],
            concept=concept_of(entry["name"]),
            keywords=tuple(entry["keywords"]),
            encoded=files[entry["file"]],
            source=entry["source"],
        )
        for entry in json.loads(files["index.json"])
    ]


def draw_variant(rng: np.random.Generator, variants: list[Sprite]) -> Sprite:
    """One of several sprites of a name; rendered 3D models, which look most real, twice as often."""
    sources = sorted({sprite.source.partition("/")[0] for sprite in variants})
    shares = np.array([2.0 if source == MODELS else 1.0 for source in sources])
    source = sources[rng.choice(len(sources), p=shares / shares.sum())]
    variants = [sprite for sprite in variants if sprite.source.startswith(source)]
    return variants[rng.integers(len(variants))]


class AssetLibrary:
    """Sprites by split and category, and photographs for backgrounds; decoded on demand and cached.

    Args:
        sprites: In a fixed order: generated videos depend on it.
        photographs: Contents of JPEG files, in a fixed order; may be empty.
    """

    def __init__(self, sprites: list[Sprite], photographs: list[bytes] = ()):
        if not sprites:
            raise ValueError("expected at least one sprite, got none: is this the right archive?")
        self.sprites = tuple(sprites)
        self.photographs = tuple(photographs)
        self._decoded: dict[int, np.ndarray] = {}
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._colours: dict[str, str | None] = {}
        self._names_in: dict[tuple[str, frozenset[str]], tuple[str, ...]] = {}
        self._by_name: dict[tuple[str, str], list[Sprite]] = {}
        for sprite in self.sprites:
            self._by_name.setdefault((split_of(sprite.concept), sprite.name), []).append(sprite)
        self._by_split = {
            split: [sprite for sprite in self.sprites if split_of(sprite.concept) == split]
            for split in SPLITS
        }

    def of_split(self, split: str) -> list[Sprite]:
        """All sprites of "train" or "held-out", in order."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        return self._by_split[split]

    def names_in(self, split: str, categories: frozenset[str]) -> tuple[str, ...]:
        """The sorted names of a split's sprites of some categories."""
        key = (split, categories)
        if key not in self._names_in:
            found = {sprite.name for sprite in self.of_split(split) if sprite.category in categories}
            self._names_in[key] = tuple(sorted(found))
        return self._names_in[key]

    def draw_named(self, rng: np.random.Generator, split: str, names: tuple[str, ...]) -> Sprite | None:
        """A sprite of one of the names, each equally likely whatever its number of variants; None if none."""
        present = [name for name in names if (split, name) in self._by_name]
        if not present:
            return None
        return draw_variant(rng, self._by_name[split, present[rng.integers(len(present))]])

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

    def photograph(self, index: int) -> np.ndarray:
        """A photograph, at most about 1920 pixels wide: uint8 [H, W, 3], RGB."""
        if index not in self._decoded:
            encoded = np.frombuffer(self.photographs[index], np.uint8)
            decoded = cv2.imdecode(encoded, cv2.IMREAD_REDUCED_COLOR_2)
            self._decoded[index] = np.ascontiguousarray(decoded[..., ::-1])
        return self._decoded[index]

    def colour(self, sprite: Sprite) -> str | None:
        """The sprite's colour word, measured from its pixels, or None."""
        if sprite.key not in self._colours:
            self._colours[sprite.key] = name_colour(self.picture(sprite))
        return self._colours[sprite.key]
