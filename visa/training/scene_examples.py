"""Cached scenes as training examples: other questions about the same picture every time it comes by."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dataset.sample import Turn
from dataset.synthetic.lexicon import Lexicon, is_held_out
from dataset.synthetic.questions import ask
from dataset.synthetic.scene import Scene
from model.mllm.cells import FrameCells
from visa.errors import InputError
from visa.training.examples import Example, TaughtTurn, with_claims
from visa.training.scene_cache import CachedScene, load_scene
from visa.training.word_maps import feature_noise, point_noise
from visa.training.word_table import WordTable

MIN_VISIBLE_CELLS = 0.5  # of SAM's 64 x 64 grid: what is smaller in the target frame counts as not seen there
REFUSAL = "There is no such thing in the video."


class SceneExamples:
    """Draws examples from a folder of cached scenes, seen whole as it is when this is made.

    Args:
        folder: a cache made by `scene_cache.build_cache`.
        lexicon: what the questions are written from.
        words: what cells may be called; needed to draw.
        max_turns: questions an example has at most.
        hidden_features: share of the examples drawn whose tower features are hidden, [0, 1]. They know a
            sprite by its look, so scenes would be learnt by heart; words and colours must do there.
        nameless: share of the examples drawn whose cells are not called by the names of what is there,
            [0, 1]: what nobody taught has no name in the table either.
    """

    def __init__(
        self,
        folder: Path,
        lexicon: Lexicon,
        words: WordTable | None = None,
        max_turns: int = 8,
        hidden_features: float = 0.5,
        nameless: float = 0.5,
    ):
        self.paths = sorted(folder.glob("[0-9]*.pt"))
        if not self.paths:
            raise InputError(f"no cached scene in {folder}; build the cache first (scenes.count, held_out)")
        self.lexicon, self.max_turns, self.hidden_features = lexicon, max_turns, hidden_features
        self.words, self.nameless = words, nameless

    def draw(self, rng: np.random.Generator) -> Example:
        """A random scene with some of the questions one can ask about it."""
        while True:
            path = self.paths[rng.integers(len(self.paths))]
            cached = load_scene(path)
            example = replace(self.example(cached, rng), name=f"scene {path.stem}")
            if example.turns:
                example = self._named(example, cached.scene, rng)
                return self._hidden(example, rng) if rng.random() < self.hidden_features else example

    def _named(self, example: Example, scene: Scene, rng: np.random.Generator) -> Example:
        """The same with the words that its frames look like, their own names left out of a share of them."""
        barred = self._held_out + (self._shown_in(scene) if rng.random() < self.nameless else [])
        return replace(example, words=tuple(self.words.cell_words(cells, barred) for cells in example.frames))

    @cached_property
    def _held_out(self) -> list[int]:
        """Which of the table's names training never says."""
        return [index for index, name in enumerate(self.words.names) if is_held_out(name)]

    def _shown_in(self, scene: Scene) -> list[int]:
        """Which of the table's names are those of things in a scene."""
        shown = {name for item in scene.objects for name in (item.name, *item.parts)}
        return [index for index, name in enumerate(self.words.names) if name in shown]

    @staticmethod
    def _hidden(example: Example, rng: np.random.Generator) -> Example:
        """The same with noise in place of the tower's features and points, as in a faked frame."""
        frames = [
            replace(
                cells,
                features=feature_noise(cells.features.shape, rng),
                points=point_noise(cells.points.shape, rng),
            )
            for cells in example.frames
        ]
        return replace(example, frames=tuple(frames))

    def example(self, cached: CachedScene, rng: np.random.Generator, alone: bool | None = None) -> Example:
        """An example of one scene. Half are shown as their target frame alone, as the sampler does it."""
        turns = self.turns(cached, rng)
        alone = rng.random() < 0.5 if alone is None else alone
        if alone:
            # Alone, a frame tells nothing of movement or order: such questions cannot be answered from it.
            turns = [turn for turn in turns if turn[0].aspect not in ("motion", "order")] or turns
        chosen = [turns[k][1] for k in rng.permutation(len(turns))[: self.max_turns]]
        kept = slice(-1, None) if alone else slice(None)
        return Example(
            frames=tuple(as_float(cells) for cells in cached.frames[kept]),
            words=None,
            percents=cached.percents[kept],
            sam_features=cached.sam_features.float(),
            object_masks=cached.object_masks.float() / 255,
            input_size=cached.input_size,
            turns=with_claims(chosen, rng),
        )

    def turns(self, cached: CachedScene, rng: np.random.Generator) -> list[tuple[Turn, TaughtTurn]]:
        """Questions with what is to be taught: what the target frame does not show is to be refused."""
        area = torch.nn.functional.adaptive_avg_pool2d(cached.object_masks.float() / 255, 64).sum((1, 2))
        seen = {k for k in range(len(area)) if area[k] >= MIN_VISIBLE_CELLS}
        taught = []
        for turn in ask(cached.scene, rng, self.lexicon):
            meant = tuple(k for k in turn.object_ids if k in seen)
            hidden = bool(turn.object_ids) and not meant
            taught.append((turn, TaughtTurn(turn.question, REFUSAL if hidden else turn.answer, meant)))
        return taught


def as_float(cells: FrameCells) -> FrameCells:
    """Cached cells in the types that networks take."""
    return FrameCells(
        cells.features.float(),
        cells.colour.float(),
        cells.kinds.float(),
        cells.class_indices.long(),
        cells.class_probs.float(),
        cells.points.float(),
    )
