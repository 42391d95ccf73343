"""Where everything stands in the MLLM's sequence.

Made only by `model.mllm.packing`, so that nobody else ever counts tokens: the [SEG] head asks where the
state that predicts [SEG] is, attention maps ask which token is which cell of which frame, and
reinforcement learning asks where the answer lies.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameSpan:
    """The visual tokens of one frame: the cell (row, col) stands at ``start + row * cols + col``."""

    start: int
    rows: int
    cols: int

    @property
    def stop(self) -> int:
        return self.start + self.rows * self.cols


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
