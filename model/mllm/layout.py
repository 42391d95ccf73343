"""Where everything stands in the MLLM's sequence.

Made only where text and visual tokens are packed (`model.mllm.packing`, `model.mllm.splicing`,
`model.backbones`), so that nobody else ever counts tokens: the [SEG] head asks where the state that predicts
[SEG] is, attention maps ask which token is which cell of which frame, and reinforcement learning asks where
the answer lies.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrameSpan:
    """The visual tokens of one frame, or of the few frames that share one map (a temporal patch).

    The cell (row, col) stands at ``start + row * row_stride + col``.

    start: position of the cell (0, 0).
    rows, cols: the grid of cells.
    row_stride: tokens from one row to the next; more than ``cols`` where a token that is no cell ends
        every row (the newline of LLaVA-OneVision). 0 stands for ``cols``: rows without a gap.
    shows: the frames, as indices into those given to the packer, that the span shows: one, or the two of
        a temporal patch. Empty where the packer keeps one span to a frame: the i-th span is frame i.
    """

    start: int
    rows: int
    cols: int
    row_stride: int = 0
    shows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "row_stride", self.row_stride or self.cols)
        if self.row_stride < self.cols:
            raise ValueError(f"{self.cols} cells to a row do not fit into a stride of {self.row_stride}")

    @property
    def stop(self) -> int:
        """One past the last cell; between ``start`` and it stand all cells, and the rows' end tokens."""
        return self.start + (self.rows - 1) * self.row_stride + self.cols

    def positions(self) -> Tensor:
        """Where the cells stand: int64 [rows * cols], row by row."""
        rows = torch.arange(self.rows) * self.row_stride
        return (self.start + rows[:, None] + torch.arange(self.cols)).flatten()


@dataclass(frozen=True)
class TurnSpan:
    """One conversation turn behind the frames; all positions are indices into the packed sequence.

    question: first and one-past-last position of the question's own words.
    answer: first and one-past-last position of the answer with its end token; empty when it is to be
        generated.
    segs: positions of the [SEG] tokens of the answer.
    """

    question: tuple[int, int]
    answer: tuple[int, int]
    segs: tuple[int, ...]


@dataclass(frozen=True)
class TokenLayout:
    """Positions of frames and turns in one packed sequence of ``length`` tokens.

    The last entry of ``frames`` is the target frame, the others are the reference frames in order of time.
    """

    length: int
    frames: tuple[FrameSpan, ...]
    turns: tuple[TurnSpan, ...]

    @property
    def target(self) -> FrameSpan:
        return self.frames[-1]

    def seg_states(self, turn: int, seg_state: str) -> tuple[int, ...]:
        """Positions whose hidden states feed the [SEG] head.

        Args:
            turn: index into ``turns``.
            seg_state: ``"predicting"`` is the state before each [SEG], which predicts it (LISA, VISA and
                VideoLISA read this one); ``"at_token"`` is the state at the [SEG] token itself (Sa2VA).

        Raises:
            ValueError: another ``seg_state``.
        """
        if seg_state not in ("predicting", "at_token"):
            raise ValueError(f"seg_state must be 'predicting' or 'at_token', not {seg_state!r}")
        shift = 1 if seg_state == "predicting" else 0
        return tuple(position - shift for position in self.turns[turn].segs)
