"""Sines and cosines that tell SAM 2 where in the frame a cell is, and how long ago an object was seen.

Vaswani et al. 2017 (arXiv 1706.03762), section 3.5; on a grid as in DETR (Carion et al. 2020, arXiv
2005.12872), rows first. The arithmetic is that of transformers' SAM 2, which makes them anew for every frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def _frequencies(count: int, device: torch.device) -> Tensor:
    """float32 [count], pairs of equal ones from 1 down to nearly 1 / TEMPERATURE."""
    powers = 2 * (torch.arange(count, device=device) // 2) / count
    return TEMPERATURE**-powers


def time_sines(times: Tensor, width: int) -> Tensor:
    """float32 [L] to [L, width]: all sines, then all cosines."""
    angles = times[:, None] * _frequencies(width // 2, times.device)
    return torch.cat([angles.sin(), angles.cos()], 1)


def grid_sines(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Places in a grid, float32 [height * width, 1, channels]: of the row, then of the column, sines and
    cosines taking turns; a side is one turn.
    """
    halves = []
    for length in (height, width):
        turns = torch.arange(1, length + 1, device=device) / (length + 1e-6) * (2 * math.pi)
        angles = turns[:, None] * _frequencies(channels // 2, device)
        halves.append(torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1))
    rows = halves[0][:, None].expand(-1, width, -1)
    columns = halves[1][None].expand(height, -1, -1)
    return torch.cat([rows, columns], 2).reshape(height * width, 1, channels)
