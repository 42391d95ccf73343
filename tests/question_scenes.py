"""Random scenes, the questions asked about them, and what a question's noun may mean in them."""

import numpy as np
from hypothesis import strategies as st

from dataset.synthetic import questions_wording
from dataset.synthetic.lexicon import default_lexicon, is_held_out
from dataset.synthetic.questions import ask
from dataset.synthetic.scene import COLOURS, MOTIONS, Scene, SceneObject

SPRITES = {
    "animal": "dog cat horse cow tiger rabbit elephant monkey goat camel fox zebra bear mouse koala",
    "bird": "bird duck owl penguin rooster eagle flamingo parrot swan",
    "vehicle": "car bus truck bicycle motorcycle taxi tractor train",
    "boat": "sailboat canoe ferry",
    "fruit": "apple banana strawberry pear lemon watermelon grapes",
    "food": "pizza hamburger bread cheese",
    "tool": "hammer axe shovel ladder screwdriver",
    "clothing": "hat shirt shoe scarf jeans",
    "musical instrument": "guitar violin trumpet drum",
    "insect": "ant butterfly bee spider snail",
    "person": "man woman boy girl firefighter teacher astronaut",
    "device": "laptop camera telephone television",
}
NAMES = [(name, category) for category, names in SPRITES.items() for name in names.split()]
NAMES += [
    ("man surfing", "person"),
    ("woman dancing", "person"),
    ("cup of coffee", "drink"),
    ("hot dog", "food"),
]
TRAINED = [pair for pair in NAMES if not is_held_out(pair[0])]
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def make_scene(seed: int, names: list[tuple[str, str]] = TRAINED) -> Scene:
    """A random scene of one to five things, some of a kind, some compound, coming and going."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(10, 30))
    objects: list[SceneObject] = []
    for _ in range(int(rng.integers(1, 6))):
        name, category = names[rng.integers(len(names))]
        motion = MOTIONS[rng.integers(len(MOTIONS))] if rng.random() < 0.6 else "still"
        step = np.array(STEPS.get(motion, (0, 0))) * rng.uniform(0.01, 0.04)
        centres = rng.uniform(0.1, 0.9, 2) + np.arange(length)[:, None] * step
        visible = ((centres > 0) & (centres < 1)).all(axis=1)
        if rng.random() < 0.3:
            visible[: rng.integers(1, length - 2)] = False
        if rng.random() < 0.3:
            visible[rng.integers(2, length) :] = False
        if visible.sum() < 2:
            continue
        centres[~visible] = np.nan
        seen = np.flatnonzero(visible)
        parts, phrase = (), ""
        if category in ("animal", "person") and rng.random() < 0.25:
            other = names[rng.integers(len(names))][0]
            parts, phrase = (name, other), f"{name} riding {questions_wording.with_article(other)}"
        objects.append(
            SceneObject(
                id=len(objects),
                name=name,
                category=category,
                colour=None if rng.random() < 0.2 else COLOURS[rng.integers(len(COLOURS))],
                size=float(rng.uniform(0.005, 0.3)),
                centres=centres,
                visible=visible,
                motion=motion,
                enters=int(seen[0]),
                leaves=None if seen[-1] == length - 1 else int(seen[-1]) + 1,
                parts=parts,
                phrase=phrase,
                keywords=tuple(name.split()),
                depth=len(objects),
                speed=float(np.linalg.norm(step)),
            )
        )
    return Scene(tuple(objects), length)


def turns_of(seed: int, names: list[tuple[str, str]] = TRAINED, num_turns: int = 8):
    scene = make_scene(seed, names)
    return scene, ask(scene, np.random.default_rng(seed), default_lexicon(), num_turns)


def bearing(noun: str, scene: Scene) -> list[SceneObject]:
    """The things that a question's noun may mean: by name or dictionary; all things for "thing", "one" …"""
    if noun in ("thing", "object", "one"):
        return list(scene.objects)
    lexicon = default_lexicon()
    return [
        thing
        for thing in scene.objects
        if noun in (thing.name, thing.phrase)
        or noun in lexicon.concept(thing.name, thing.category).calls | set(lexicon.concept(thing.name).names)
    ]


PREPOSITIONS = "on|along|over|across|in|by|near|beside|behind|in front of|next to|against"
scenes = st.integers(min_value=0, max_value=10**6)
