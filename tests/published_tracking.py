"""Tracking for tests of the published systems: XMem's file with few memory channels, or nothing like XMem."""

from __future__ import annotations

from pathlib import Path

import torch

from model.xmem import XMem


def write_xmem(path: Path, seed: int = 0) -> Path:
    """Write random weights in half precision, a flat state dict like ``XMem.pth``."""
    torch.manual_seed(seed)
    torch.save({name: value.half() for name, value in XMem(8, 16, 8).state_dict().items()}, path)
    return path


class Still:
    """Stands in for a propagator where XMem would only cost time: carries a mask to every frame as it is."""

    def features(self, video):
        return None

    def stream_many(self, video, anchors, *, features):
        for index in range(len(video)):
            yield from ((question, index, anchor.masks) for question, anchor in enumerate(anchors))
