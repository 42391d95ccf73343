"""What a step of steering reads: frames, what is asked about them, and where it is.

Legend: N questions, T frames, H W pixels, h w cells, t maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.mllm.cells import FrameCells
from model.mllm.layout import TokenLayout


@dataclass(frozen=True)
class SteeringItem:
    """Frames with questions.

    name: for messages. frames: uint8 [T, H, W, 3], or cells of T frames that the embedded tower has seen.
    questions: N, as the model is asked. masks: float [N, T, h, w] in [0, 1], where each is meant; any h, w.
    seconds: when each frame is seen, where they are read as one video; None: evenly spread.
    """

    name: str
    frames: np.ndarray | tuple[FrameCells, ...]
    questions: tuple[str, ...]
    masks: Tensor
    seconds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class SteeringBatch:
    """A micro-batch: see `visa.training.engine.task.MicroBatch`."""

    index: int
    items: tuple[SteeringItem, ...]

    @property
    def names(self) -> Sequence[str]:
        return tuple(item.name for item in self.items)

    def to(self, device: torch.device | str) -> SteeringBatch:
        """Masks on a device; the backbone takes frames to its own."""
        return replace(self, items=tuple(replace(item, masks=item.masks.to(device)) for item in self.items))

    def pin_memory(self) -> SteeringBatch:
        """As it is: frames are read on the CPU."""
        return self


def shares_of(masks: Tensor, layout: TokenLayout) -> Tensor:
    """How much of each visual token's cell the masks cover: float [N, t, h, w].

    Args:
        masks: float [N, T, H, W]. layout: t spans of one size; a map of several frames has their mean.
    """
    maps = []
    for number, span in enumerate(layout.frames):
        shown = [frame for frame in (span.shows or (number,)) if frame < masks.shape[1]]
        pooled = functional.adaptive_avg_pool2d(masks[:, shown], (span.rows, span.cols))
        maps.append(pooled.mean(1))
    return torch.stack(maps, 1)
