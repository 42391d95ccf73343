"""The loss that steers: BCE and Dice between a rolled-out attention map and the mask of what is asked for.

SteerSeg (arXiv 2605.14908) names the two; that they count alike is read off its figure, the rest is ours.

Shapes: N maps of any further shape [...]; of a frame stream one frame's cells, of a video stream a clip's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from visa.training.steering.map_quality import FLAT

EDGE = 1e-4  # BCE sees no value nearer to 0 or 1: every map has both by its making


def stretched(maps: Tensor) -> Tensor:
    """Each of N maps brought to [0, 1]: float [N, n]; gradients flow but through its minimum.

    Args:
        maps: float [N, n], non-negative.
    """
    low = maps.detach().amin(1, keepdim=True)
    high = maps.amax(1, keepdim=True)
    room = FLAT * high.detach() + torch.finfo(maps.dtype).tiny
    return (maps - low) / (high - low).clamp(min=room)


def steering_losses(maps: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """BCE and Dice, means over the maps.

    Args:
        maps: float [N, n], rolled-out attention of n cells.
        shares: float [N, n] in [0, 1], how much of each cell the mask covers; none of them empty. A thing
            smaller than a cell counts as covering the cell it covers most: the highest cell of a map is 1
            whatever is in it.
    """
    heat = stretched(maps)
    target = shares / shares.amax(1, keepdim=True)
    bce = functional.binary_cross_entropy(heat.clamp(EDGE, 1 - EDGE), target)
    overlap, sizes = 2 * (heat * target).sum(1), heat.sum(1) + target.sum(1)
    return bce, (1 - overlap / sizes).mean()
