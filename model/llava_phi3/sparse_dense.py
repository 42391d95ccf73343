"""VideoLISA's sparse-dense tokens: what happens when, and what it looks like.

Bai et al. 2024, "One Token to Seg Them All" (arXiv 2409.19603), section 3.3: every sampled frame gives one
token, the mean of its patches; a few of them give all of their patches besides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def sparse_dense_tokens(tokens: Tensor, dense_indices: Sequence[int]) -> Tensor:
    """The tokens of a video.

    Args:
        tokens: float [T, n, D], the projected patches of the T sampled frames.
        dense_indices: K of the T frames, in any order; they are taken in order of time.

    Returns:
        float [T + K * n, D]: the T means, then the patches of frame after frame.

    Raises:
        ValueError: an index that is none of the T frames.
    """
    order = sorted(int(index) for index in dense_indices)
    if order and not 0 <= order[0] <= order[-1] < len(tokens):
        raise ValueError(f"dense_indices must lie in 0 ... {len(tokens) - 1}, got {order}")
    return torch.cat([tokens.mean(1), tokens[order].flatten(0, 1)])


def sparse_dense_grids(num_frames: int, num_dense: int, num_patches: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the frames in `sparse_dense_tokens`, for the layout of the sequence.

    Args:
        num_frames: T. num_dense: K. num_patches: n, a square number.

    Returns:
        T times (1, 1), then K times (√n, √n).
    """
    side = round(num_patches**0.5)
    if side * side != num_patches:
        raise ValueError(f"a frame's patches must make a square, got {num_patches}")
    return ((1, 1),) * num_frames + ((side, side),) * num_dense
