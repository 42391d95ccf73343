"""Frames of a sample, each prepared once for the two image encoders, though shown several times."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Frame = NDArray[np.uint8]


def prepared_once(
    frames: Iterable[Frame], prepare: Callable[[Frame], Tensor], side: int
) -> tuple[Tensor, tuple[int, ...]]:
    """Prepares every frame that is not the same array as an earlier one.

    Args:
        frames: uint8 [H, W, 3] each, RGB, of any sizes.
        prepare: [1, H, W, 3] to float [1, 3, S, S].
        side: S, for where there is no frame.

    Returns:
        float [K, 3, S, S], and for every frame its place among these K.
    """
    places: dict[int, int] = {}
    once: list[Frame] = []
    shown = []
    for frame in frames:
        if id(frame) not in places:
            places[id(frame)] = len(once)
            once.append(frame)
        shown.append(places[id(frame)])
    # `once` keeps the arrays alive, so that no other can take an id.
    images = torch.cat([prepare(frame[None]) for frame in once]) if once else torch.zeros(0, 3, side, side)
    return images, tuple(shown)
