"""The percentage mark of a video: how VISA asks for it, reads the answers and turns it into a frame.

Text-guided frame sampling (VISA, arXiv 2407.11325, section 3.2), with the question, the reading and the
arithmetic of the released code, oddities kept: of several marks in an answer the smallest counts (0% only if
it stands alone), "last" turns a mark round, and an answer with none of the eleven marks does not count.
"""

from collections.abc import Sequence

# The gap in the middle belongs to the question as the released code asks it.
_QUESTION = (
    "If I want to find '{}', which percentage mark of the video should I check?\n"
    "             Please choose one answer from 0%, 10%, 20%, 30%, 40%, 50%, 60%, 70%, 80%, 90%, and 100%."
)
# In the order in which they are looked for: "0%" is part of every other mark.
_MARKS = {f"last {10 * tens}%": (10 - tens) / 10 for tens in range(11)}
_MARKS |= {f"{10 * tens}%": tens / 10 for tens in (*range(1, 11), 0)}
# Where to look when nobody could say.
NO_ANSWER = 0.5


def percent_question(expression: str) -> str:
    """What a video MLLM is asked, of the thing to find; one question mark at its end is left out."""
    return _QUESTION.format(expression.removesuffix("?"))


def parse_percent(answer: str) -> float | None:
    """The mark named in an answer as a fraction [0, 1], or None where there is none."""
    return next((fraction for mark, fraction in _MARKS.items() if mark in answer), None)


def mean_percent(answers: Sequence[str]) -> float:
    """The mean fraction [0, 1] of the answers that name a mark; the middle where none does."""
    fractions = [fraction for fraction in map(parse_percent, answers) if fraction is not None]
    return sum(fractions) / len(fractions) if fractions else NO_ANSWER


def frame_at(num_frames: int, fraction: float) -> int:
    """The frame at a fraction [0, 1] of a video.

    Raises:
        ValueError: no frame, or no such fraction.
    """
    if num_frames < 1 or not 0 <= fraction <= 1:
        raise ValueError(
            f"a frame at a fraction from 0 to 1 of a video, not {fraction} of {num_frames} frames"
        )
    return min(int(num_frames * fraction), num_frames - 1)
