"""Choosing what appears in a scene: names, look-alikes, repaints and compound things."""

import re
from dataclasses import dataclass

import cv2
import numpy as np

from dataset.synthetic.assets import MODELS, AssetLibrary, Sprite, draw_variant
from dataset.synthetic.colours import name_colour
from dataset.synthetic.compounds import compose

# How often a category is cast, relative to 1: real videos are of people, animals and vehicles.
_WEIGHTS = {"person": 4.0, "animal": 4.5, "vehicle": 3.5, "bird": 2.5, "boat": 1.5, "aircraft": 1.2,
            "insect": 1.2,
            "reptile": 1.2, "sea animal": 1.2, "furniture": 1.2, "weather": 0.5, "ornament": 0.3,
            "money": 0.4,
            "mail": 0.5, "attraction": 0.5, "building": 0.6, "street sign": 0.5,
            "character": 0.6}  # fmt: skip
_LIVING = frozenset({"person", "animal", "bird", "reptile", "insect", "sea animal", "character"})
_MOBILE = _LIVING | {"vehicle", "boat", "aircraft", "toy", "sports equipment"}
_TUMBLING = frozenset({"fruit", "vegetable", "food", "dessert", "tool", "stationery", "toy",
                       "sports equipment",
                       "money", "mail", "jewellery", "award", "device", "kitchenware", "book", "insect",
                       "aircraft", "sea animal", "cosmetic", "medical equipment"})  # fmt: skip
_REPAINTED = frozenset({"vehicle", "clothing", "toy", "container", "household item", "furniture", "device",
                        "boat",
                        "stationery", "book", "kitchenware", "musical instrument", "aircraft", "tool",
                        "sports equipment", "mail", "decoration", "craft supply",
                        "sound device"})  # fmt: skip

# Most emoji of people are heads; those that do something have a whole body, as people in videos do.
_WHOLE = re.compile(r"ing\b|ist\b|skier|snowboarder|jockey|wheelchair|cane|ninja|astronaut|merm")
_WHOLE_SHARE = 0.7
# Rendered 3D models look more like what a camera sees than emoji do.
_MODELS_SHARE = 0.45


@dataclass(frozen=True, eq=False)
class Role:
    """Something to be filmed: a picture (uint8 [h, w, 4], RGBA) and what `SceneObject` says of it."""

    picture: np.ndarray
    name: str
    category: str
    colour: str | None
    phrase: str
    parts: tuple[str, ...]
    keywords: tuple[str, ...]
    concepts: tuple[str, ...]
    living: bool
    mobile: bool
    upright: bool


def _repaint(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the hue of the saturated pixels: uint8 [h, w, 4]."""
    hsv = cv2.cvtColor(picture[..., :3], cv2.COLOR_RGB2HSV)
    hue = (hsv[..., 0].astype(np.int32) + int(rng.integers(0, 180))) % 180
    hsv[..., 0] = hue
    if rng.random() < 0.25:
        hsv[..., 1] = (hsv[..., 1] * rng.uniform(0, 0.25)).astype(np.uint8)
        hsv[..., 2] = np.clip(hsv[..., 2] * rng.choice([0.3, 1.0, 1.25]), 0, 255).astype(np.uint8)
    return np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), picture[..., 3]])


def _role_of(sprite: Sprite, assets: AssetLibrary, rng: np.random.Generator) -> Role:
    picture = assets.picture(sprite)
    colour = assets.colour(sprite)
    if sprite.category in _REPAINTED and sprite.concept not in ("train", "truck") and rng.random() < 0.5:
        picture = _repaint(picture, rng)
        colour = name_colour(picture)
    elif sprite.category == "person":
        colour = None
    name = sprite.name
    words = name.split()
    if colour != assets.colour(sprite) and words[0] in ("red", "green", "blue", "orange", "black", "yellow"):
        name = " ".join(words[1:])
    return Role(
        picture, name, sprite.category, colour, name, (), sprite.keywords, (sprite.concept,),
        sprite.category in _LIVING, sprite.category in _MOBILE, sprite.category not in _TUMBLING,
    )  # fmt: skip


def _pick(rng: np.random.Generator, sprites: list[Sprite]) -> Sprite:
    """A random concept, then a random name of it, then a random variant, so that variants do not count."""
    if sprites[0].category == "person" and rng.random() < _WHOLE_SHARE:
        sprites = [s for s in sprites if s.source.startswith(MODELS) or _WHOLE.search(s.name)] or sprites
    concepts = sorted({sprite.concept for sprite in sprites})
    concept = concepts[rng.integers(len(concepts))]
    names = sorted({sprite.name for sprite in sprites if sprite.concept == concept})
    name = names[rng.integers(len(names))]
    return draw_variant(rng, [sprite for sprite in sprites if sprite.name == name])


def cast_roles(
    rng: np.random.Generator,
    assets: AssetLibrary,
    split: str,
    max_objects: int,
    compound_share: float,
    banned: frozenset[str] = frozenset(),
) -> list[Role]:
    """Choose 1..max_objects roles of a split.

    The first is drawn by category; each further one is, about half of the time, of an earlier one's
    category, and now and then of the same name, so that a name alone does not decide.

    Args:
        banned: Names that must not occur.
    """
    sprites = [sprite for sprite in assets.of_split(split) if sprite.name not in banned]
    if not sprites:
        raise ValueError(f"the library has no sprites for split {split!r} apart from {sorted(banned)}")
    by_category: dict[str, list[Sprite]] = {}
    for sprite in sprites:
        by_category.setdefault(sprite.category, []).append(sprite)
    categories = sorted(by_category)
    concepts_of = {category: len({s.concept for s in by_category[category]}) for category in categories}
    weights = np.array([_WEIGHTS.get(c, 1.0) * np.sqrt(concepts_of[c]) for c in categories])
    weights /= weights.sum()
    chances = np.array([0.22, 0.3, 0.24, 0.14, 0.07, 0.03])[:max_objects]
    count = 1 + int(rng.choice(len(chances), p=chances / chances.sum()))
    roles: list[Role] = []
    chosen: list[Sprite] = []
    used: set[str] = set()
    for _ in range(count):
        if rng.random() < compound_share:
            made = compose(rng, assets, split)
            if made is not None and not (set(made.parts) & (used | banned)):
                roles.append(
                    Role(made.picture, made.name, made.category, None, made.phrase, made.parts, made.keywords,
                         made.concepts, False, True, True)
                )  # fmt: skip
                used.update(made.parts)
                continue
        draw = rng.random()
        if chosen and draw < 0.14:
            sprite = chosen[rng.integers(len(chosen))]
            sprite = _pick(rng, [other for other in sprites if other.name == sprite.name])
        else:
            if chosen and draw < 0.55:
                pool = by_category[chosen[rng.integers(len(chosen))].category]
            else:
                pool = by_category[categories[rng.choice(len(categories), p=weights)]]
            pool = [other for other in pool if other.name not in used] or [
                s for s in sprites if s.name not in used
            ]
            if not pool:
                break
            if rng.random() < _MODELS_SHARE:
                pool = [other for other in pool if other.source.startswith(MODELS)] or pool
            sprite = _pick(rng, pool)
        chosen.append(sprite)
        roles.append(_role_of(sprite, assets, rng))
        used.add(sprite.name)
    return roles
