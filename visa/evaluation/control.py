"""The control that shows whether the words are read: every clip is asked another clip's questions.

A system that scores as high so has only found what stands out in the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dataset.counting import count_of
from dataset.revos import Expression, RevosVideo


def another_clips_question(videos: Sequence[RevosVideo]) -> Callable[[RevosVideo, Expression], str]:
    """Makes the exchange of questions.

    A clip borrows from the next one in the list (and round again) of which no question about a present
    object is asked in the clip itself: where two clips show the same object, as clips set side by side
    do, they share questions, and a borrowed one would be right again. The n-th question of a kind takes
    the n-th of it.

    Args:
        videos: All clips of the data set.

    Returns:
        A function of a clip and an expression that gives the borrowed question's text.

    Raises:
        ValueError: When called: no other clip has a question of that kind that fits.
    """
    order = {video.name: index for index, video in enumerate(videos)}

    def ask(video: RevosVideo, expression: Expression) -> str:
        same_kind = [item for item in video.expressions if item.kind == expression.kind]
        place = same_kind.index(expression)
        for step in range(1, len(videos)):
            lender = videos[(order[video.name] + step) % len(videos)]
            offered = [item for item in lender.expressions if item.kind == expression.kind]
            if offered and not _questions(lender) & _questions(video):
                return offered[place % len(offered)].text
        raise ValueError(
            f"no other clip can lend {video.name!r} a {expression.kind} question: "
            f"expected one that shares none of its questions among {count_of(len(videos), 'clip')}"
        )

    return ask


def _questions(video: RevosVideo) -> set[str]:
    return {item.text for item in video.expressions if item.kind != "absent"}
