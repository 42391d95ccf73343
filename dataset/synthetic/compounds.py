"""Things made of several parts that move as one and that a question names as a whole.

A rider on a bicycle, a bird on a branch, a rabbit in a basket: the parts are laid together into one
picture, which is then an object like any other. Supports that no sprite gives are drawn here.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from dataset.synthetic.assets import AssetLibrary, Sprite

RIDDEN = ("bicycle", "motorcycle", "scooter", "kick scooter", "skateboard", "sled", "horse", "elephant", "camel",
          "donkey", "water buffalo", "cow", "zebra", "llama", "snowboard", "tractor", "carousel horse")  # fmt: skip
ENTERED = ("basket", "bucket", "bathtub", "canoe", "speedboat", "shopping cart", "cardboard box",
           "barrel", "bowl", "backpack", "wheelchair", "luggage", "pot of stew",
           "handbag")  # fmt: skip
HELD = ("umbrella", "balloon", "kite", "broom", "lollipop", "ice cream cone", "guitar", "hammer", "axe", "flag",
        "bouquet", "lantern", "trumpet", "fishing rod", "magic wand", "pencil", "carrot", "microphone", "violin",
        "magnifying glass", "megaphone", "paintbrush", "key", "bell")  # fmt: skip
WORN = ("top hat", "crown", "cap", "graduation cap", "sun hat", "military helmet", "rescue worker's helmet",
        "headphone")  # fmt: skip
PULLING = ("horse", "donkey", "ox", "camel", "cow", "goat", "dog", "llama", "water buffalo", "ram", "elephant",
           "moose", "zebra", "deer", "turtle", "raccoon", "hippopotamus")  # fmt: skip
PULLED = ("sled", "shopping cart", "railway car", "barrel", "cart", "auto rickshaw", "canoe")
ALIVE = frozenset({"animal", "bird", "reptile", "insect", "character", "person", "toy"})
SMALL = frozenset({"food", "dessert", "drink", "fruit", "vegetable", "toy", "book", "device", "container", "flower",
                   "kitchenware", "plant", "timepiece", "award", "money", "tool", "household item"})  # fmt: skip


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
    plural = (
        noun.endswith("s")
        and not noun.endswith(("ss", "us", "glasses"))
        or noun.startswith(("people", "men", "women"))
    )
    if plural:
        return noun
    return ("an " if noun[0].lower() in "aeiou" and not noun.startswith(("uni", "one")) else "a ") + noun


def _lay(base: np.ndarray, other: np.ndarray, height: float, x: float, y: float, behind: bool) -> np.ndarray:
    """Put `other` on `base`: `height` of base heights tall, its centre at (x, y) in base extents."""
    scale = height * base.shape[0] / other.shape[0]
    limit = 2.2 * base.shape[1] / max(1.0, other.shape[1] * scale)
    scale *= min(1.0, limit)
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


def _draw_support(rng: np.random.Generator, kind: str, width: int) -> np.ndarray:
    """A drawn branch, table, box, rug or cart: uint8 [H, W, 4], about `width` pixels wide."""
    height = {"branch": 0.22, "table": 0.6, "box": 0.55, "pedestal": 0.8, "cart": 0.62}[kind] * width
    height = int(height)
    mask = np.zeros((height, width), np.uint8)
    tone = np.array(
        [[120, 85, 55], [150, 110, 70], [90, 70, 55], [170, 165, 155], [110, 60, 45]][rng.integers(5)], float
    )
    if kind == "branch":
        rows = np.linspace(0.35, 0.55, 9) + rng.normal(0, 0.06, 9)
        points = np.stack([np.linspace(0, width, 9), rows * height], axis=1).astype(np.int32)
        cv2.polylines(mask, [points.reshape(-1, 1, 2)], False, 255, max(4, int(height * 0.22)), cv2.LINE_AA)
        for _ in range(rng.integers(2, 5)):
            start = points[rng.integers(1, 8)]
            end = start + (rng.integers(-30, 30), rng.choice([-1, 1]) * height // 2)
            cv2.line(
                mask, tuple(map(int, start)), tuple(map(int, end)), 255, max(2, height // 12), cv2.LINE_AA
            )
    elif kind in ("table", "pedestal"):
        top = max(6, height // 6)
        cv2.rectangle(mask, (0, 0), (width - 1, top), 255, -1)
        inset, leg = (width // 12, width // 10) if kind == "table" else (width // 3, width // 3)
        cv2.rectangle(mask, (inset, top), (inset + leg, height - 1), 255, -1)
        cv2.rectangle(mask, (width - 1 - inset - leg, top), (width - 1 - inset, height - 1), 255, -1)
    elif kind == "box":
        cv2.rectangle(mask, (0, 0), (width - 1, height - 1), 255, -1)
    else:
        cv2.rectangle(mask, (0, height // 8), (width - 1, int(height * 0.6)), 255, -1)
        for share in (0.22, 0.78):
            cv2.circle(
                mask, (int(width * share), int(height * 0.7)), int(height * 0.28), 255, -1, cv2.LINE_AA
            )
    grain = (
        cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), sigmaX=12, sigmaY=1)
        * 60
    )
    picture = tone + grain[..., None] + np.linspace(22, -22, height)[:, None, None]
    if kind == "cart":
        for share in (0.22, 0.78):
            centre = (int(width * share), int(height * 0.7))
            radius = int(height * 0.28)
            cv2.circle(picture, centre, radius, (35, 32, 30), max(3, radius // 4), cv2.LINE_AA)
            for angle in np.arange(0, np.pi, np.pi / 4):
                spoke = (int(radius * np.cos(angle)), int(radius * np.sin(angle)))
                cv2.line(picture, (centre[0] - spoke[0], centre[1] - spoke[1]), (centre[0] + spoke[0], centre[1] + spoke[1]),
                         (60, 50, 40), 3, cv2.LINE_AA)  # fmt: skip
    return np.dstack([np.clip(picture, 0, 255).astype(np.uint8), mask])


def compose(rng: np.random.Generator, library: AssetLibrary, split: str) -> Compound | None:
    """Draw a compound thing from the sprites of one split, or None if the drawn kind cannot be made of them."""
    sprites = library.of_split(split)
    named: dict[str, list[Sprite]] = {}
    for sprite in sprites:
        named.setdefault(sprite.name, []).append(sprite)

    def any_of(names: tuple[str, ...]) -> Sprite | None:
        present = [name for name in names if name in named]
        if not present:
            return None
        variants = named[present[rng.integers(len(present))]]
        return variants[rng.integers(len(variants))]

    def any_in(categories: frozenset[str]) -> Sprite | None:
        """Every name is equally likely, whatever its number of variants."""
        names = sorted({sprite.name for sprite in sprites if sprite.category in categories})
        return any_of(tuple(names))

    kind = rng.choice(["ride", "inside", "hold", "wear", "pull", "on support", "on thing", "carry"],
                      p=[0.24, 0.12, 0.14, 0.06, 0.12, 0.18, 0.08, 0.06])  # fmt: skip
    main = any_in(SMALL if kind == "on thing" else ALIVE)
    if kind in ("ride", "hold") and rng.random() < 0.3:
        main = any_in(frozenset({"person"})) or main
    other = {
        "ride": RIDDEN, "inside": ENTERED, "hold": HELD, "wear": WORN, "pull": PULLED,
    }.get(kind)  # fmt: skip
    second = any_of(other) if other else None
    if kind == "pull":
        main = any_of(PULLING)
        second = second if rng.random() < 0.5 else None
    if main is None or (other and kind != "pull" and second is None):
        return None
    if second is not None and second.concept == main.concept:
        return None
    picture = library.picture(main)
    side = rng.uniform(-0.06, 0.06)
    if kind == "ride":
        base = library.picture(second)
        flat = second.name in ("skateboard", "sled", "snowboard")
        size = rng.uniform(1.5, 2.4) if flat else rng.uniform(0.75, 1.1)
        joined = _lay(
            base, picture, size, 0.5 + side, -0.42 * size + (0.3 if flat else 0.42), behind=not flat
        )
        word, parts = "riding", (main.name, second.name)
    elif kind == "inside":
        size = rng.uniform(0.7, 1.05)
        joined = _lay(library.picture(second), picture, size, 0.5 + side, 0.4 - 0.42 * size, behind=True)
        word, parts = "in", (main.name, second.name)
    elif kind == "hold":
        across, size = rng.choice([-0.06, 1.06]), rng.uniform(0.45, 0.8)
        height = (
            0.55 - 0.4 * size if second.name in ("balloon", "kite", "umbrella") else rng.uniform(0.4, 0.6)
        )
        joined = _lay(picture, library.picture(second), size, across, height, behind=False)
        word, parts = "holding", (main.name, second.name)
    elif kind == "wear":
        size = rng.uniform(0.3, 0.42)
        joined = _lay(picture, library.picture(second), size, 0.5 + side, 0.02 - size * 0.15, behind=False)
        word, parts = "wearing", (main.name, second.name)
    elif kind == "pull":
        base = library.picture(second) if second else _draw_support(rng, "cart", 256)
        direction = rng.choice([-1, 1])
        size = rng.uniform(0.9, 1.3)
        joined = _lay(
            base, picture, size, 0.5 + direction * rng.uniform(0.85, 1.0), 0.95 - size / 2, behind=False
        )
        word, parts = "pulling", (main.name, second.name if second else "cart")
    elif kind == "carry":
        passenger = any_in(ALIVE | SMALL)
        if passenger is None or passenger.concept == main.concept:
            return None
        size = rng.uniform(0.4, 0.7)
        joined = _lay(picture, library.picture(passenger), size, 0.5 + side, 0.12 - size / 2, behind=True)
        word, second, parts = "carrying", passenger, (main.name, passenger.name)
    elif kind == "on thing":
        base = any_in(frozenset({"furniture", "vehicle", "animal", "container", "book"}))
        if base is None or base.concept == main.concept:
            return None
        size = rng.uniform(0.45, 0.8)
        joined = _lay(library.picture(base), picture, size, 0.5 + side, 0.14 - size / 2, behind=False)
        word, second, parts = "on", base, (main.name, base.name)
    else:
        support = ["branch", "table", "box", "pedestal"][rng.integers(4)]
        if main.category == "bird":
            support = "branch"
        base = _draw_support(rng, support, 256)
        size = rng.uniform(0.55, 0.85) * 256 / base.shape[0]
        joined = _lay(
            base, picture, size, 0.5 + side, (0.45 if support == "branch" else 0.1) - size / 2, behind=False
        )
        word, parts = "on", (main.name, support)
    phrase = f"{main.name} {word} {with_article(parts[1])}"
    keywords = tuple(sorted({*main.keywords, *(second.keywords if second else ()), word, *parts[1].split()}))
    concepts = (main.concept, *((second.concept,) if second else ()))
    return Compound(joined, main.name, main.category, parts, phrase, keywords, concepts)
