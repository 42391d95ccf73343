"""Frames made of words alone: the cheap first lessons, over thousands of things that no sprite shows.

The tower tells the LLM in class words what each cell looks like. So a frame can be faked from words: blobs of
cells that "look like" their thing, like other things a little, and a background that looks like nothing much.
On such frames the whole way from a question to a heat map is taught, with any concept of the dictionary, at
the cost of text.
"""

from collections import defaultdict
from functools import cached_property

import numpy as np
import torch

from dataset.synthetic.lexicon import Lexicon, is_held_out
from dataset.synthetic.questions import ask
from dataset.synthetic.scene import Scene, SceneObject
from model.mllm.cells import NUM_KINDS, FrameCells
from visa.training.examples import Example, TaughtTurn, with_claims
from visa.training.word_table import WordTable

GRIDS = ((9, 15), (8, 15), (6, 18), (10, 10))
FEATURE_NOISE = 0.5
# RGB in [-1, 1] of the colour words, for things that have one.
COLOUR_VALUES = {
    "red": (0.6, -0.7, -0.7), "orange": (0.8, 0.0, -0.7), "yellow": (0.8, 0.6, -0.6),
    "green": (-0.5, 0.3, -0.5),
    "blue": (-0.6, -0.3, 0.6), "purple": (0.1, -0.5, 0.5), "pink": (0.8, 0.1, 0.4),
    "brown": (-0.1, -0.4, -0.7),
    "black": (-0.85, -0.85, -0.85), "white": (0.8, 0.8, 0.8), "grey": (0.0, 0.0, 0.0),
}  # fmt: skip


class WordMaps:
    """Endless examples of faked frames.

    Args:
        words: whose embeddings the frames are made of.
        feature_dim: channels of the tower that the fake cells stand in for.
        lexicon: the dictionary; names held out from training are left out.
    """

    def __init__(self, words: WordTable, feature_dim: int, lexicon: Lexicon):
        self.words, self.feature_dim, self.lexicon = words, feature_dim, lexicon

    @cached_property
    def names(self) -> list[str]:
        """Everything the dictionary knows and training may name; pictured things count four times."""
        names = [name for name in self.lexicon.names if not is_held_out(name)]
        return names + [n for n in names if set(self.lexicon.concept(n).sources) & set("cei")] * 3

    @cached_property
    def siblings(self) -> dict[str, list[str]]:
        """Names by their nearest broader kind."""
        found = defaultdict(list)
        for name in set(self.names):
            for kind in self.lexicon.concept(name).kinds[:1]:
                found[kind].append(name)
        return {kind: sorted(names) for kind, names in found.items()}

    def draw(self, rng: np.random.Generator, max_turns: int = 6) -> Example:
        """One faked frame with questions about it."""
        while True:
            example = self._draw_once(rng, max_turns)
            if example.turns:
                return example

    def _draw_once(self, rng: np.random.Generator, max_turns: int) -> Example:
        rows, cols = GRIDS[rng.integers(len(GRIDS))]
        names = self._cast(rng)
        owner = _blobs(rng, rows, cols, len(names))
        seen = [k for k in range(len(names)) if (owner == k).any()]
        objects = [self._object(rng, new, names[k], owner == k) for new, k in enumerate(seen)]
        masks = np.stack([owner == k for k in seen])
        scene = Scene(objects=tuple(objects), num_frames=1)
        # One frame tells nothing of movement or order.
        turns = [turn for turn in ask(scene, rng, self.lexicon) if turn.aspect not in ("motion", "order")]
        chosen = [turns[k] for k in rng.permutation(len(turns))[:max_turns]]
        cells, words = self._paint(rng, objects, masks)
        return Example(
            frames=(cells,),
            words=(words,),
            percents=(int(rng.integers(101)),),
            sam_features=torch.from_numpy(rng.normal(0, 0.05, (256, rows, cols))).float(),
            object_masks=torch.from_numpy(masks).float(),
            input_size=None,
            name=f"faked frame of {', '.join(names)}",
            turns=with_claims(
                [TaughtTurn(turn.question, turn.answer, turn.object_ids) for turn in chosen], rng
            ),
        )

    def _cast(self, rng: np.random.Generator) -> list[str]:
        names = [self.names[rng.integers(len(self.names))]]
        for _ in range(int(rng.integers(0, 5))):
            chance = rng.random()
            kinds = self.lexicon.concept(names[0]).kinds
            if chance < 0.35 and kinds and kinds[0] in self.siblings:
                names.append(str(rng.choice(self.siblings[kinds[0]])))
            elif chance < 0.42:
                names.append(names[0])
            else:
                names.append(self.names[rng.integers(len(self.names))])
        return names

    def _object(self, rng: np.random.Generator, number: int, name: str, inside: np.ndarray) -> SceneObject:
        rows, cols = inside.shape
        y, x = inside.nonzero()
        centre = np.array([[(x.mean() + 0.5) / cols, (y.mean() + 0.5) / rows]])
        return SceneObject(
            id=number,
            name=name,
            category=(self.lexicon.concept(name).kinds or ("thing",))[-1],
            colour=str(rng.choice(list(COLOUR_VALUES))) if rng.random() < 0.4 else None,
            size=float(inside.mean()),
            centres=centre,
            visible=np.ones(1, dtype=bool),
            motion="still",
            enters=0,
            leaves=None,
        )

    def _paint(self, rng: np.random.Generator, objects, masks: np.ndarray) -> tuple[FrameCells, torch.Tensor]:
        rows, cols = masks.shape[1:]
        words = self._nothing(rng, rows * cols).reshape(rows, cols, -1)
        colour = rng.uniform(-0.6, 0.6, 3) + rng.normal(0, 0.12, (rows, cols, 3))
        for item, mask in zip(objects, masks, strict=True):
            inside = torch.from_numpy(mask)
            count = int(mask.sum())
            purity = rng.uniform(0.3, 1.0)
            thing = self.words.embedding(item.name) * purity + self._nothing(rng, 1)[0] * (1 - purity)
            share = torch.from_numpy(rng.uniform(0.6, 1.0, (count, 1))).float()
            words[inside] = share * thing + (1 - share) * words[inside]
            tint = COLOUR_VALUES[item.colour] if item.colour else rng.uniform(-0.8, 0.8, 3)
            colour[mask] = np.array(tint) + rng.normal(0, 0.12, (count, 3))
        features = feature_noise((rows, cols, self.feature_dim), rng)
        no_class = torch.zeros(rows, cols, 1, dtype=torch.long), torch.zeros(rows, cols, 1)
        colours = torch.from_numpy(colour.clip(-1, 1)).float()
        points = point_noise((rows, cols, self.words.cell_words.places.shape[1]), rng)
        return FrameCells(features, colours, torch.zeros(rows, cols, NUM_KINDS), *no_class, points), words

    def _nothing(self, rng: np.random.Generator, count: int) -> torch.Tensor:
        """What cells of nothing look like: mixtures of eight classes drawn at random, float [count, D]."""
        classes = self.words.cell_words.classes
        drawn = torch.from_numpy(rng.integers(len(classes), size=(count, 8)))
        weights = torch.from_numpy(rng.dirichlet(np.full(8, 0.5), size=count)).float()
        return torch.einsum("nk,nkd->nd", weights, classes[drawn])


def feature_noise(shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """What stands in for the tower's features where they are to tell nothing: float32 of ``shape``."""
    return torch.from_numpy(rng.normal(0, FEATURE_NOISE, shape)).float()


def point_noise(shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """What stands in for CLIP's points where they are to tell nothing: float32 of ``shape``, of length 1."""
    return torch.nn.functional.normalize(torch.from_numpy(rng.normal(0, 1, shape)).float(), dim=-1)


def _blobs(rng: np.random.Generator, rows: int, cols: int, count: int) -> np.ndarray:
    """Which thing holds each cell, int [rows, cols], −1 for none: ellipses, later ones in front."""
    owner = np.full((rows, cols), -1)
    y, x = np.mgrid[:rows, :cols]
    slots = rng.permutation(count)
    for k in range(count):
        width = cols / count
        centre_x = (slots[k] + rng.uniform(0.3, 0.7)) * width
        centre_y = rng.uniform(0.25, 0.75) * rows
        radius_x, radius_y = max(0.8, width * rng.uniform(0.25, 0.6)), max(0.8, rows * rng.uniform(0.12, 0.4))
        inside = ((x + 0.5 - centre_x) / radius_x) ** 2 + ((y + 0.5 - centre_y) / radius_y) ** 2 <= 1
        inside[min(rows - 1, int(centre_y)), min(cols - 1, int(centre_x))] = True
        owner[inside] = k
    return owner
