"""Where the model looked: attention on every keyframe, finely frame by frame and coarsely over the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.mllm.layout import FrameSpan


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of the answer on K keyframes, of two passes through the model (dual granularity).

    frame: float32 [K, h, w], every keyframe read alone; each map on a scale of its own.
    video: float32 [t, h', w'], all keyframes read together; one scale for all. Its t maps show one keyframe
        each, or the two of a temporal patch.
    shows: which keyframes, 0 <= k < K, each of the t maps shows; every keyframe once.

    Raises:
        ValueError: other shapes, or ``shows`` that are not those of t maps and K keyframes.
    """

    frame: Tensor
    video: Tensor
    shows: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if self.frame.ndim != 3 or self.video.ndim != 3:
            raise ValueError(
                f"attention maps must be [K, h, w] and [t, h', w'], "
                f"got {list(self.frame.shape)} and {list(self.video.shape)}"
            )
        shown = sorted(keyframe for step in self.shows for keyframe in step)
        if len(self.shows) != len(self.video) or shown != list(range(len(self.frame))):
            raise ValueError(
                f"{len(self.video)} maps of the video must show each of {len(self.frame)} keyframes once, "
                f"got {self.shows}"
            )


def span_maps(rollout: Tensor, spans: Sequence[FrameSpan]) -> Tensor:
    """The part of a rolled-out row that lies on visual tokens, cell by cell.

    Args:
        rollout: float [L], what each token of the sequence gave to the answer.
        spans: n grids of one size.

    Returns:
        float32 [n, rows, cols].

    Raises:
        ValueError: no span, or grids of different sizes.
    """
    sizes = {(span.rows, span.cols) for span in spans}
    if len(sizes) != 1:
        raise ValueError(f"maps of one size come of spans of one size, got {sorted(sizes) or 'no span'}")
    positions = torch.stack([span.positions() for span in spans]).to(rollout.device)
    return rollout.detach()[positions].float().unflatten(1, sizes.pop())


def keyframes_shown(spans: Sequence[FrameSpan], num_keyframes: int) -> tuple[tuple[int, ...], ...]:
    """Which keyframes each span shows; padding of an odd number of frames is left out.

    Args:
        spans: of the sequence that holds all K keyframes, in order of time.
    """
    shown = [span.shows or (number,) for number, span in enumerate(spans)]
    return tuple(tuple(sorted({k for k in keyframes if k < num_keyframes})) for keyframes in shown)
