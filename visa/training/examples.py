"""What a training step eats: an encoded frame (with reference frames), its objects, and turns about it."""

from dataclasses import dataclass, replace

import torch

from model.mllm.cells import FrameCells


@dataclass(frozen=True)
class TaughtTurn:
    """A question, the answer to teach, and the indices of the objects it means (none for a refusal)."""

    question: str
    answer: str
    meant: tuple[int, ...]


@dataclass(frozen=True)
class Example:
    """One target frame, read behind its reference frames.

    frames: cells of each frame, the target frame last. words: class words [r, c, D] of each frame in place of
    the tower's own, or None. percents: each frame's place in the video.
    sam_features: float [256, h, w], SAM's unpadded features of the target frame.
    object_masks: float [K, 256, 256] in [0, 1] over SAM's padded input, or [K, h, w] over the unpadded grid
    where there is no picture behind the example.
    input_size: (height, width) of SAM's unpadded input in pixels, or None where there is no picture.
    """

    frames: tuple[FrameCells, ...]
    words: tuple[torch.Tensor, ...] | None
    percents: tuple[int, ...]
    sam_features: torch.Tensor
    object_masks: torch.Tensor
    input_size: tuple[int, int] | None
    turns: tuple[TaughtTurn, ...]

    def to(self, device: torch.device) -> "Example":
        """The same on another device."""
        return replace(
            self,
            frames=tuple(cells.to(device) for cells in self.frames),
            words=None if self.words is None else tuple(words.to(device) for words in self.words),
            sam_features=self.sam_features.to(device),
            object_masks=self.object_masks.to(device),
        )

    def masks_on_grid(self) -> torch.Tensor:
        """Objects' masks as shares of the cells of SAM's unpadded grid: float [K, h, w]."""
        rows, cols = self.sam_features.shape[-2:]
        if self.input_size is None:
            return self.object_masks.float()
        pooled = torch.nn.functional.adaptive_avg_pool2d(self.object_masks.float(), 64)
        return pooled[:, :rows, :cols]
