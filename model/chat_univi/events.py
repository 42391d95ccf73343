"""Chat-UniVi's video branch: frames become events, and an event costs as many tokens as one frame.

Jin et al. 2024 (arXiv 2311.08046), section 3.2, "temporal" merging. Chat-UniVi takes it where more than two
placeholders stand side by side. VISA gave it up and reads every frame on its own, so that each keeps its 112
tokens; it is here for Chat-UniVi's own checkpoints and question answering.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.chat_univi.merging import IMAGE_STAGES, Merged, Stage, cluster, merge, merge_stages

FRAMES_PER_EVENT = 16
TEMPORAL_NEIGHBOURS = 5


@dataclass(frozen=True)
class VideoMerged:
    """What the video branch made of T frames.

    events: int64 [T], the event of every frame; numbers are those of the clusters, not in order of time.
    frames: every frame merged on its own.
    merged: for each event, in the order in which they begin, its frames' levels merged once more, B = 1.
    """

    events: Tensor
    frames: Merged
    merged: tuple[Merged, ...]

    @property
    def tokens(self) -> Tensor:
        """float [events x sum of the clusters, C], event after event."""
        return torch.cat([event.tokens[0] for event in self.merged])


def find_events(patches: Tensor, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Events of T frames by their mean patch, one for every 16 frames.

    With two or three events the density is of one neighbour, the frame itself, and every frame is as good a
    centre as another; without noise the first ones are taken.

    Args:
        patches: float [T, N, C]. noise, generator: as in `cluster`.

    Returns:
        int64 [T].
    """
    stage = Stage(math.ceil(len(patches) / FRAMES_PER_EVENT), TEMPORAL_NEIGHBOURS)
    return cluster(patches.mean(1)[None], stage, noise, generator)[0]


def merge_video(
    patches: Tensor,
    stages: Sequence[Stage] = IMAGE_STAGES,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
    events: Tensor | None = None,
) -> VideoMerged:
    """Merge the patches of T frames into events.

    Args:
        patches: float [T, N, C].
        stages, noise, generator: as in `merge_stages`.
        events: int64 [T], where they are known already; None finds them.
    """
    events = find_events(patches, noise, generator) if events is None else events
    frames = merge_stages(patches, stages, noise, generator)
    merged = []
    for event in dict.fromkeys(events.tolist()):
        levels, clusters = [], []
        for stage, level in zip(stages, frames.levels, strict=True):
            tokens = level[events == event].flatten(0, 1)[None]
            clusters.append(cluster(tokens, stage, noise, generator))
            levels.append(merge(tokens, clusters[-1], stage.clusters))
        merged.append(Merged(tuple(levels), tuple(clusters)))
    return VideoMerged(events, frames, tuple(merged))
