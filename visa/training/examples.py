"""What a training step eats: an encoded frame (with reference frames), its objects, and turns about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from model.mllm.cells import FrameCells


@dataclass(frozen=True)
class TaughtTurn:
    """A question, the answer to teach, and the indices of the objects it means (none for a refusal).

    claimed: the answer claims to have found what is not there. Its words are not taught, only that nothing
        in the picture is hot when it points.
    """

    question: str
    answer: str
    meant: tuple[int, ...]
    claimed: bool = False


@dataclass(frozen=True)
class Example:
    """One target frame, read behind its reference frames.

    frames: cells of each frame, the target frame last. words: class words [r, c, D] of each frame in place of
    the tower's own, or None. percents: each frame's place in the video.
    sam_features: float [256, h, w], SAM's unpadded features of the target frame.
    object_masks: float [K, 256, 256] in [0, 1] over SAM's padded input, or [K, h, w] over the unpadded grid
    where there is no picture behind the example.
    input_size: (height, width) of SAM's unpadded input in pixels, or None where there is no picture.
    name: says which one it is, for messages.
    """

    frames: tuple[FrameCells, ...]
    words: tuple[torch.Tensor, ...] | None
    percents: tuple[int, ...]
    sam_features: torch.Tensor
    object_masks: torch.Tensor
    input_size: tuple[int, int] | None
    turns: tuple[TaughtTurn, ...]
    name: str = ""

    def to(self, device: torch.device | str) -> "Example":
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Example":
        """For a copy to the GPU that does not wait."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Example":
        """The same with every tensor changed."""
        return replace(
            self,
            frames=tuple(
                FrameCells(*(change(getattr(cells, field.name)) for field in fields(cells)))
                for cells in self.frames
            ),
            words=None if self.words is None else tuple(map(change, self.words)),
            sam_features=change(self.sam_features),
            object_masks=change(self.object_masks),
        )

    def masks_on_grid(self) -> torch.Tensor:
        """Objects' masks as shares of the cells of SAM's unpadded grid: float [K, h, w]."""
        rows, cols = self.sam_features.shape[-2:]
        if self.input_size is None:
            return self.object_masks.float()
        pooled = torch.nn.functional.adaptive_avg_pool2d(self.object_masks.float(), 64)
        return pooled[:, :rows, :cols]


def with_claims(
    turns: Sequence[TaughtTurn], rng: np.random.Generator, share: float = 0.5
) -> tuple[TaughtTurn, ...]:
    """The turns, and for a share of the refusals the same question with an answer that claims to find it.

    The claims borrow the words of the other answers: what is not there must leave the picture cold whatever
    the answer says.
    """
    found = [turn.answer for turn in turns if turn.meant]
    claims = [
        TaughtTurn(turn.question, str(rng.choice(found)), (), claimed=True)
        for turn in turns
        if found and not turn.meant and rng.random() < share
    ]
    return (*turns, *claims)
