"""From the words of one CLIP to the pictures of another: where a thing lies that nobody has drawn for us.

Text embeddings of ViT-B/32 for some 1,400 names of things are public (with Detic: Zhou et al. 2022,
"Detecting Twenty-thousand Classes using Image-level Supervision", arXiv 2201.02605); our image tower is
ViT-B/16. Both CLIPs learnt from the same pictures and captions, so a linear map, fitted on the names that
have drawings too, takes words to where the other tower sees the thing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

# Of the ridge regression, on embeddings of length 1; of 0.01 to 3 the best for names left out.
RIDGE = 0.2


def read_words(fetch: Callable[[str], Path]) -> dict[str, torch.Tensor]:
    """Names of things and their text embeddings float [D], of length 1: LVIS's, then those of Objects365.

    Args:
        fetch: public files by name.
    """
    lvis = [row["name"] for row in json.loads(fetch("lvis_categories.json").read_text(encoding="utf-8"))]
    with fetch("objects365_names.csv").open(encoding="utf-8", newline="") as file:
        objects = [row[-1] for row in csv.reader(file)]
    words: dict[str, torch.Tensor] = {}
    for names, file in ((lvis, "lvis_clip_words.npy"), (objects, "objects365_clip_words.npy")):
        embeddings = np.load(fetch(file)).astype(np.float32)
        embeddings = embeddings if len(embeddings) == len(names) else embeddings.T
        for name, embedding in zip(names, embeddings, strict=True):
            words.setdefault(plain_name(name), functional.normalize(torch.from_numpy(embedding), dim=0))
    words.pop("", None)
    return words


def plain_name(name: str) -> str:
    """A name as one says it: "bow_(weapon)" is "bow", "Tent/Canopy" is "tent"."""
    return name.replace("_", " ").split("(")[0].split("/")[0].strip().lower()


@dataclass(frozen=True)
class NameBridge:
    """The map, fitted.

    words: float [n, E], from their mean. mean: float [E]. weights: float [n, D], of each known word.
    left_out: float [n, D], where each known word would lie had it not been known.
    """

    words: torch.Tensor
    mean: torch.Tensor
    weights: torch.Tensor
    left_out: torch.Tensor

    @classmethod
    def fit(cls, words: torch.Tensor, places: torch.Tensor, mean: torch.Tensor) -> NameBridge:
        """Kernel ridge regression.

        Args:
            words: float [n, E]. places: float [n, D] of the same things. mean: float [E], of all words.
        """
        words = words - mean
        inverse = torch.linalg.inv(words @ words.T + RIDGE * torch.eye(len(words)))
        weights = inverse @ places
        return cls(words, mean, weights, places - weights / inverse.diagonal()[:, None])

    def __call__(self, words: torch.Tensor) -> torch.Tensor:
        """Places float [m, D] of words float [m, E]; of any length."""
        return (words - self.mean) @ self.words.T @ self.weights


def with_bridged(
    names: Sequence[str], places: torch.Tensor, words: dict[str, torch.Tensor]
) -> tuple[list[str], torch.Tensor]:
    """Names and places float [K, D], of length 1: those given, and those that only words are known of.

    A name that has both lies between its drawings and where its words, left out of the fit, point: drawings
    are not all there is to a thing.
    """
    known = [index for index, name in enumerate(names) if plain_name(name) in words]
    told = torch.stack([words[plain_name(names[index])] for index in known])
    bridge = NameBridge.fit(told, places[known], torch.stack(list(words.values())).mean(0))
    both = functional.normalize(places, dim=1)
    both[known] = functional.normalize(both[known] + functional.normalize(bridge.left_out, dim=1), dim=1)
    drawn = {plain_name(name) for name in names}
    others = [name for name in words if name not in drawn]
    bridged = functional.normalize(bridge(torch.stack([words[name] for name in others])), dim=1)
    return [*names, *others], torch.cat([both, bridged])
