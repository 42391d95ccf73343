"""VideoLISA's sparse and dense frames (Bai et al. 2024, arXiv 2409.19603, section 3.2).

The sparse frames cover the video with one token each; a few of them are dense and shown with all tokens.
Every index depends on the lengths alone, so all questions about a video see the same frames.
"""

from dataclasses import dataclass

import numpy as np

from visa.sampling.choice import FrameChoice, FrameScorer


def stretch_middles(num_frames: int, count: int) -> list[int]:
    """The middle (the earlier of two) of each of ``count`` stretches whose bounds are rounded down.

    Not quite `uniform_indices`: this is the arithmetic that VideoLISA was trained with.
    """
    bounds = np.linspace(0, num_frames, count + 1).astype(int)
    return ((bounds[:-1] + bounds[1:] - 1) // 2).tolist()


def sparse_indices(num_frames: int, num_sparse: int) -> tuple[int, ...]:
    """``num_sparse`` frame indices in order of time; a shorter video repeats its frames as evenly as it can.

    Raises:
        ValueError: no frame, or none asked for.
    """
    if num_frames < 1 or num_sparse < 1:
        raise ValueError(f"sparse frames need a video and a number, got {num_frames} and {num_sparse}")
    if num_frames > num_sparse:
        return tuple(stretch_middles(num_frames, num_sparse))
    times, rest = divmod(num_sparse, num_frames)
    return tuple(sorted([*range(num_frames)] * times + stretch_middles(num_frames, rest)))


def dense_positions(num_sparse: int, num_dense: int) -> tuple[int, ...]:
    """Which of the sparse frames are dense: 3, 10, 18 and 26 for four of 32. The last one never is.

    Raises:
        ValueError: not fewer dense than sparse frames, or none.
    """
    if not 1 <= num_dense < num_sparse:
        raise ValueError(
            f"between 1 and {num_sparse - 1} of {num_sparse} frames can be dense, not {num_dense}"
        )
    return tuple(stretch_middles(num_sparse - 1, num_dense))


@dataclass(frozen=True)
class SparseDense:
    """VideoLISA's frames; the middle one of the dense frames counts as the target.

    Args:
        num_sparse: frames that the MLLM reads.
        num_dense: those of them shown with all tokens.
    """

    num_sparse: int = 32
    num_dense: int = 4

    def __post_init__(self):
        dense_positions(self.num_sparse, self.num_dense)

    def choose(self, num_frames: int, question: str, scorer: FrameScorer) -> FrameChoice:
        """See `Sampler`."""
        sparse = sparse_indices(num_frames, self.num_sparse)
        dense = dense_positions(self.num_sparse, self.num_dense)
        return FrameChoice(sparse[dense[len(dense) // 2]], sparse, dense)
