"""What the training loop is given: batches of videos with their conversations and masks, and their reader.

Legend: T frames shown to CLIP, F frames drawn by SAM, N objects, H W pixels, S the side of an input.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from visa.conversations import EncodedConversation


@dataclass(frozen=True)
class TrainingVideo:
    """One video, or one picture, and what is said about it.

    name: says which sample it is, for messages.
    images_clip: float [K, 3, S, S], normalised for CLIP; each frame once, though shown several times.
    shown: T indices into ``images_clip``. VISA: the frame at each placeholder in turn (references, target); a
        conversation with fewer placeholders sees the first of them. VideoLISA: the frames of the one
        placeholder.
    conversations: tokens and labels, each conversation a sequence of its own.
    images_sam: float [K', 3, S, S], normalised for SAM and padded on the right and below; each frame once.
        [0, 3, S, S] where nothing is drawn.
    drawn: F indices into ``images_sam``: VISA draws 1 frame, VideoLISA its dense frames.
    input_size: (height, width) of the frame inside SAM's padded input.
    masks: bool [F, N, H, W] at the frame's own size, one object for each [SEG] of the conversations in order;
        all False: the object is not there. N is 0 for text alone.
    dense_indices: VideoLISA: which of the T frames are read in full.
    """

    name: str
    images_clip: Tensor
    shown: tuple[int, ...]
    conversations: tuple[EncodedConversation, ...]
    images_sam: Tensor
    drawn: tuple[int, ...]
    input_size: tuple[int, int]
    masks: Tensor
    dense_indices: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> "TrainingVideo":
        """Pictures and masks on a device; the conversations follow when they are spliced."""
        return replace(
            self,
            images_clip=self.images_clip.to(device, non_blocking=True),
            images_sam=self.images_sam.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "TrainingVideo":
        """For a copy to the GPU that does not wait."""
        return replace(
            self,
            images_clip=self.images_clip.pin_memory(),
            images_sam=self.images_sam.pin_memory(),
            masks=self.masks.pin_memory(),
        )


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch: what one rank takes through the network at once.

    index: global number of its first sample. The samples of a run are numbered over all ranks; micro-batch m
        of b videos on rank r of R holds those from ``(m * R + r) * b`` on. What happens to a batch by chance
        (dropout) follows from this number, so that it does not depend on how many ranks there are.
    videos: of which it is made.
    """

    index: int
    videos: tuple[TrainingVideo, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(video.name for video in self.videos)

    def to(self, device: torch.device | str) -> "TrainingBatch":
        return replace(self, videos=tuple(video.to(device) for video in self.videos))

    def pin_memory(self) -> "TrainingBatch":
        """For a copy to the GPU that does not wait; torch's DataLoader calls it."""
        return replace(self, videos=tuple(video.pin_memory() for video in self.videos))


class BatchReader(Protocol):
    """Hands out the micro-batches of one rank without end; made for a rank, a number of ranks and a batch
    size.

    The order of samples follows from the reader's seed alone, not from the number of ranks.

    fingerprint: says whether two runs read the same data.
    """

    fingerprint: str

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Batches from the current position on."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that was *handed out* (not of those read ahead), JSON-like.

        The same on all ranks, counted in samples of all ranks together, so that another number of ranks
        can go on from it.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a run stood; before the first batch is taken."""
        ...

    def close(self) -> None:
        """No more batches are wanted: processes that read them end."""
        ...
