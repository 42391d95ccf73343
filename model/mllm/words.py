"""What cells of a frame look like, in the LM's own words.

The tower's classifiers name what they were taught; CLIP's points are called by the names whose places are
nearest. These names, as the LM's own word embeddings, tell the LM in its own tongue what it looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.mllm.cells import FrameCells

NUM_NAMES = 6  # of a cell, from CLIP
SHARPNESS = 30.0  # a name whose cosine is larger by one part of so many is e times likelier
# The share of a cell's words that CLIP's names have where it is sure; the cosine of the best name from which
# on it is, and how fast. Most of a frame is nothing that has a name.
TRUST, KNOWN, KNOWN_SPREAD = 0.6, 0.25, 0.03


@dataclass(frozen=True)
class CellWords:
    """Names and their embeddings.

    classes: float [classes, D], of the tower's classifiers.
    places: float [K, P], of length 1, of names among CLIP's points; K may be 0.
    names: float [K, D], the names' embeddings.
    """

    classes: torch.Tensor
    places: torch.Tensor
    names: torch.Tensor

    def __call__(self, cells: FrameCells, barred: Sequence[int] = ()) -> torch.Tensor:
        """Mean embedding of what each cell may be called, weighted by likelihood: float [r, c, D].

        Args:
            barred: names that are not to be said.
        """
        words = torch.einsum(
            "rck,rckd->rcd", cells.class_probs.float(), self.classes[cells.class_indices].float()
        )
        if len(self.places) <= len(set(barred)):
            return words
        likeness = cells.points.float() @ self.places.T
        if barred:
            likeness[..., list(barred)] = -torch.inf
        best, index = likeness.topk(min(NUM_NAMES, likeness.shape[-1]), dim=-1)
        named = torch.einsum("rck,rckd->rcd", (SHARPNESS * best).softmax(-1), self.names[index].float())
        share = TRUST * ((best[..., :1] - KNOWN) / KNOWN_SPREAD).sigmoid()
        return (1 - share) * words + share * named
