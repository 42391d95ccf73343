"""The project's own filmed scenes as items, from the cache that the embedded system's training keeps.

The tower's cells of every frame are in the cache, the objects' masks only of the target frame. On the other
frames of a clip a mask is taken to have moved as the object's centre did, which the scene's description tells
of every frame; objects turn and grow little in so short a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.synthetic.lexicon import Lexicon
from dataset.synthetic.scene import SceneObject
from model.steering.soft_prompt import Stream
from visa.training.scene_cache import CachedScene, load_scene
from visa.training.scene_examples import SceneExamples, as_float
from visa.training.steering.items import SteeringItem

SAM_SIDE = 1024
# What only shows over time, which a frame alone cannot answer.
OVER_TIME = ("motion", "order")


@dataclass(frozen=True)
class SceneItems:
    """Items of one stream from a folder of cached scenes.

    word: turns an expression and what is known of the thing (attributes) into what the model is asked.
    max_questions: about one scene.
    """

    folder: Path
    lexicon: Lexicon
    stream: Stream
    word: Callable[[str, tuple[str, ...], np.random.Generator], str]
    max_questions: int = 6
    examples: SceneExamples = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", SceneExamples(self.folder, self.lexicon))

    @property
    def fingerprint(self) -> str:
        """Says whether two runs read the same data."""
        names = [path.stem for path in self.examples.paths]
        return f"{len(names)} scenes {names[0]}-{names[-1]}, {self.stream}"

    def __len__(self) -> int:
        return len(self.examples.paths)

    def draw(self, rng: np.random.Generator) -> SteeringItem:
        """An item of a scene drawn at random.

        Raises:
            DatasetError: its file is damaged.
        """
        while True:
            if item := self.item(int(rng.integers(len(self))), rng):
                return item

    def item(self, number: int, rng: np.random.Generator) -> SteeringItem | None:
        """The item of one of the scenes; None where the stream has nothing to see in it.

        Raises:
            DatasetError: its file is damaged.
        """
        path = self.examples.paths[number]
        cached = load_scene(path)
        if self.stream == "video" and len(cached.frames) == 1:
            return None
        turns = [(turn, taught.meant) for turn, taught in self.examples.turns(cached, rng) if taught.meant]
        if self.stream == "frame":
            turns = [(turn, meant) for turn, meant in turns if turn.aspect not in OVER_TIME]
        chosen = [turns[k] for k in rng.permutation(len(turns))[: self.max_questions]]
        if not chosen:
            return None
        frames = cached.frames[-1:] if self.stream == "frame" else cached.frames[:-1]
        masks = [self._masks(cached, meant) for _, meant in chosen]
        objects = cached.scene.objects
        questions = tuple(
            self.word(turn.question, attributes_of([objects[k] for k in meant]), rng)
            for turn, meant in chosen
        )
        return SteeringItem(
            f"scene {path.stem}", tuple(as_float(cells) for cells in frames), questions, torch.stack(masks)
        )

    def _masks(self, cached: CachedScene, meant: tuple[int, ...]) -> Tensor:
        """Where the objects meant are on the stream's frames: float [T, H, W] in [0, 1]."""
        height, width = (max(1, round(side * 256 / SAM_SIDE)) for side in cached.input_size)
        there = cached.object_masks[list(meant), :height, :width].float() / 255
        if self.stream == "frame":
            return there.sum(0, keepdim=True).clamp(max=1)
        moved = [
            moved_masks(mask, cached.scene.objects[k], cached.target)
            for mask, k in zip(there, meant, strict=True)
        ]
        return torch.stack(moved).sum(0).clamp(max=1)


def moved_masks(mask: Tensor, thing: SceneObject, target: int) -> Tensor:
    """One frame's mask float [H, W] carried to all T frames by the object's centre: float [T, H, W]."""
    height, width = mask.shape
    frames = []
    for centre, visible in zip(thing.centres, thing.visible, strict=True):
        moved = torch.zeros_like(mask)
        if visible:
            right, down = np.rint((centre - thing.centres[target]) * (width, height)).astype(int)
            onto, source = [], []
            for shift, side in ((down, height), (right, width)):
                onto.append(slice(max(0, shift), max(0, min(side, side + shift))))
                source.append(slice(max(0, -shift), max(0, min(side, side - shift))))
            moved[tuple(onto)] = mask[tuple(source)]
        frames.append(moved)
    return torch.stack(frames)


def attributes_of(things: list[SceneObject]) -> tuple[str, ...]:
    """What one would say of the things: colour, where to look, how they move; as far as all share it."""
    if len(things) != 1:
        return ()
    thing = things[0]
    seen = thing.centres[thing.visible].mean(0)
    place = "on the left" if seen[0] < 0.4 else "on the right" if seen[0] > 0.6 else "in the middle"
    said = [thing.colour, place, thing.motion if thing.motion != "still" else None]
    return tuple(word for word in said if word)
