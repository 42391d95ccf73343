"""Things made of several parts that move as one and that a question names as a whole.

A rider on a bicycle, a bird on a branch, a rabbit in a basket: the parts are laid together into one
picture, which is then an object like any other. Supports that no sprite gives are drawn here.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from dataset.synthetic.assets import AssetLibrary, Sprite
from dataset.synthetic.supports import draw_support

RIDDEN = (
    "bicycle", "motorcycle", "scooter", "kick scooter", "skateboard", "sled", "horse", "elephant", "camel",
    "donkey", "water buffalo", "cow", "zebra", "llama", "snowboard", "tractor", "carousel horse", "tricycle",
    "rocking horse", "exercise bike", "lawn mower",
)  # fmt: skip
ENTERED = (
    "basket", "bucket", "bathtub", "canoe", "speedboat", "shopping cart", "cardboard box", "barrel", "bowl",
    "backpack", "luggage", "pot of stew", "handbag", "rowboat", "wheelbarrow", "stroller", "crate", "cot",
    "laundry basket", "shopping basket", "clay pot", "planter",
)  # fmt: skip
SAT_UPON = (
    "chair", "armchair", "sofa", "bench", "stool", "bar stool", "deck chair", "bed", "table", "desk", "swing",
    "wheelchair", "wicker armchair", "wooden bench", "rock", "pallet", "high chair", "pouffe", "hammock",
    "trampoline", "coffee table", "wooden table",
)  # fmt: skip
HELD = (
    "umbrella", "balloon", "kite", "broom", "lollipop", "ice cream cone", "guitar", "hammer", "axe",
    "bouquet",
    "lantern", "trumpet", "fishing rod", "magic wand", "pencil", "carrot", "microphone", "violin",
    "magnifying glass", "megaphone", "paintbrush", "key", "bell", "shovel", "tennis racket",
    "electric guitar",
    "suitcase", "briefcase", "handbag", "parasol", "book", "laptop", "soccer ball", "basketball",
)  # fmt: skip
AT_THE_TOP = frozenset({"balloon", "kite", "umbrella", "parasol"})
WORN = (
    "top hat", "crown", "cap", "graduation cap", "sun hat", "military helmet", "rescue worker's helmet",
    "headphone", "hat", "helmet",
)  # fmt: skip
PULLING = (
    "horse", "donkey", "ox", "camel", "cow", "goat", "dog", "llama", "water buffalo", "ram", "elephant",
    "moose", "zebra", "deer", "turtle", "raccoon", "hippopotamus",
)  # fmt: skip
PULLED = (
    "sled",
    "shopping cart",
    "railway car",
    "barrel",
    "auto rickshaw",
    "canoe",
    "wheelbarrow",
    "rowboat",
)
SITTING = ("sitting man", "sitting woman", "sitting boy", "sitting girl")
PEOPLE = frozenset({"person"})
ALIVE = frozenset({"animal", "bird", "reptile", "insect", "character", "person", "toy"})
SMALL = frozenset(
    """food dessert drink fruit vegetable toy book device container flower kitchenware plant timepiece award
    money tool""".split()
) | {"household item", "musical instrument"}  # fmt: skip
FLAT = frozenset({"skateboard", "sled", "snowboard"})
_KINDS = {
    "riding": 0.24, "in": 0.12, "holding": 0.14, "wearing": 0.05, "pulling": 0.1, "on support": 0.13,
    "on": 0.16, "carrying": 0.06,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Compound:
    """A composed picture (uint8 [H, W, 4], RGBA) and what it is called; `parts` has the main part first."""

    picture: np.ndarray
    name: str
    category: str
    parts: tuple[str, ...]
    phrase: str
    keywords: tuple[str, ...]
    concepts: tuple[str, ...]


def with_article(noun: str) -> str:
    """ "a monkey", "an owl", "cherries"."""
    ends_like_plural = noun.endswith("s") and not noun.endswith(("ss", "us"))
    if ends_like_plural or noun.startswith(("people", "men", "women")):
        return noun
    vowel = noun[0].lower() in "aeiou" and not noun.startswith(("uni", "one"))
    return f"{'an' if vowel else 'a'} {noun}"


def lay(base: np.ndarray, other: np.ndarray, height: float, x: float, y: float, behind: bool) -> np.ndarray:
    """Put one cut-out on another: uint8 [H, W, 4], RGBA, as large as both need.

    Args:
        height: How tall `other` becomes, in heights of `base`.
        x, y: Where its centre comes to lie, in extents of `base`.
        behind: Whether `base` covers it.
    """
    scale = height * base.shape[0] / other.shape[0]
    scale *= min(1.0, 2.2 * base.shape[1] / max(1.0, other.shape[1] * scale))
    size = (max(2, round(other.shape[1] * scale)), max(2, round(other.shape[0] * scale)))
    small = cv2.resize(other, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = round(x * base.shape[1] - size[0] / 2), round(y * base.shape[0] - size[1] / 2)
    grow_left, grow_top = max(0, -left), max(0, -top)
    canvas_width = max(base.shape[1] + grow_left, left + grow_left + size[0])
    canvas_height = max(base.shape[0] + grow_top, top + grow_top + size[1])
    layers = []
    for picture, column, row in ((base, grow_left, grow_top), (small, left + grow_left, top + grow_top)):
        layer = np.zeros((canvas_height, canvas_width, 4), np.float32)
        layer[row : row + picture.shape[0], column : column + picture.shape[1]] = picture
        layers.append(layer)
    under, over = reversed(layers) if behind else layers
    over_alpha, under_alpha = over[..., 3:] / 255, under[..., 3:] / 255
    alpha = over_alpha + under_alpha * (1 - over_alpha)
    colour = over[..., :3] * over_alpha + under[..., :3] * under_alpha * (1 - over_alpha)
    return np.concatenate([colour / np.maximum(alpha, 1e-6), alpha * 255], axis=2).round().astype(np.uint8)


def _choose(rng: np.random.Generator, library: AssetLibrary, split: str, kind: str):
    """Two sprites for a kind of compound; the second may be None where a drawn support will do."""

    def named(*names: str) -> Sprite | None:
        return library.draw_named(rng, split, names)

    def of(categories: frozenset[str]) -> Sprite | None:
        return library.draw_named(rng, split, library.names_in(split, categories))

    others = {"riding": RIDDEN, "in": ENTERED, "holding": HELD, "wearing": WORN, "on": SAT_UPON}
    draw = rng.random()
    if kind == "pulling":
        return named(*PULLING), (named(*PULLED) if draw < 0.5 else None)
    if kind == "carrying":
        return of(ALIVE), of(ALIVE | SMALL)
    if kind == "on support":
        return of(ALIVE if draw < 0.6 else SMALL), None
    second = named(*others[kind])
    if kind in ("riding", "on", "in") and draw < 0.35:
        return named(*SITTING) or of(PEOPLE), second
    if kind in ("riding", "holding") and draw < 0.55:
        return of(PEOPLE), second
    return of(SMALL if kind == "on" and draw > 0.7 else ALIVE), second


def _assemble(
    rng: np.random.Generator, kind: str, main: np.ndarray, second: np.ndarray, name: str
) -> np.ndarray:
    """Lay the two pictures of a compound together; `name` is the second one's."""
    side = 0.5 + rng.uniform(-0.06, 0.06)
    if kind == "riding":
        flat = name in FLAT
        size = rng.uniform(1.5, 2.4) if flat else rng.uniform(0.75, 1.1)
        return lay(second, main, size, side, (0.3 if flat else 0.42) - 0.42 * size, behind=not flat)
    if kind == "in":
        size = rng.uniform(0.7, 1.05)
        return lay(second, main, size, side, 0.4 - 0.42 * size, behind=True)
    if kind == "holding":
        across, size = rng.choice([-0.06, 1.06]), rng.uniform(0.35, 0.75)
        height = 0.55 - 0.4 * size if name in AT_THE_TOP else rng.uniform(0.4, 0.6)
        return lay(main, second, size, across, height, behind=False)
    if kind == "wearing":
        size = rng.uniform(0.3, 0.42)
        return lay(main, second, size, side, 0.02 - size * 0.15, behind=False)
    if kind == "pulling":
        size, direction = rng.uniform(0.9, 1.3), rng.choice([-1, 1])
        return lay(
            second, main, size, 0.5 + direction * rng.uniform(0.85, 1.0), 0.95 - size / 2, behind=False
        )
    if kind == "carrying":
        size = rng.uniform(0.4, 0.7)
        return lay(main, second, size, side, 0.12 - size / 2, behind=True)
    if kind == "on":
        size = rng.uniform(0.55, 0.95)
        return lay(second, main, size, side, 0.45 - size / 2, behind=False)
    size = rng.uniform(0.55, 0.85) * second.shape[1] / second.shape[0]
    return lay(second, main, size, side, (0.45 if name == "branch" else 0.1) - size / 2, behind=False)


def compose(rng: np.random.Generator, library: AssetLibrary, split: str) -> Compound | None:
    """Draw a compound thing from the sprites of one split.

    Returns:
        None if the kind that was drawn cannot be made of them.
    """
    kinds = list(_KINDS)
    kind = kinds[rng.choice(len(kinds), p=list(_KINDS.values()))]
    main, second = _choose(rng, library, split, kind)
    may_be_drawn = kind in ("on support", "pulling")
    if main is None or (second is None and not may_be_drawn):
        return None
    if second is not None and second.concept == main.concept:
        return None
    if second is not None:
        support, base = second.name, library.picture(second)
    else:
        supports = ("branch", "table", "box", "pedestal")
        support = "branch" if main.category == "bird" else supports[rng.integers(4)]
        support = "cart" if kind == "pulling" else support
        base = draw_support(rng, support, 256)
    name = main.name.removeprefix("sitting ")
    word = kind.removesuffix(" support")
    phrase = f"{name} {word} {with_article(support)}"
    keywords = {*main.keywords, *(second.keywords if second else ()), word, *support.split()}
    concepts = (main.concept, *((second.concept,) if second else ()))
    picture = _assemble(rng, kind, library.picture(main), base, support)
    return Compound(picture, name, main.category, (name, support), phrase, tuple(sorted(keywords)), concepts)
