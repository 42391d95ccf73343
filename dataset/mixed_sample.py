"""What a training mixture gives: chosen frames, questions and masks, before any network's preparation.

Legend: F target frames, N masks, H W pixels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dataset.sample import Kind

Reply = Literal["mask", "mask and words", "words"]


@dataclass(frozen=True)
class MixedTurn:
    """One question of a sample.

    Attributes:
        text: What is asked for, in the data set's words: names and phrases of images in lower case, talk
            without placeholders for pictures.
        reply: How it is to be answered.
        words: The words of such an answer; "" for a mask alone.
        is_sentence: Whether the text is a sentence, where the data set tells; None: see its question mark.
        kind: "absent" if nothing is meant: its mask is empty, and whoever teaches refusals may refuse.
    """

    text: str
    reply: Reply
    words: str
    is_sentence: bool | None
    kind: Kind


@dataclass(frozen=True)
class Draw:
    """What was drawn.

    Attributes:
        index: The sample's number in the run, counted over all ranks from 0.
        group: The recipe's group.
        source: The data set's name.
        split: And split.
        clip: The clip's place in its reader.
        name: And its name.
        expressions: Places of the expressions that are asked, one for each turn.
        turns: The questions.
        references: Frame indices.
        targets: Frame indices whose masks are given; of the clip `swapped` if there is one.
        target_places: Where the targets stand among the references; () for a swapped target.
        swapped: None, or the place of the clip whose frame stands in for the target, where nothing is found.
    """

    index: int
    group: str
    source: str
    split: str
    clip: int
    name: str
    expressions: tuple[int, ...]
    turns: tuple[MixedTurn, ...]
    references: tuple[int, ...]
    targets: tuple[int, ...]
    target_places: tuple[int, ...]
    swapped: int | None = None


@dataclass(frozen=True, eq=False)
class MixedSample:
    """A draw with its pictures.

    Attributes:
        draw: What was drawn.
        references: uint8 [H, W, 3] each, RGB. Talk about several images gives each in its own size.
        targets: F of uint8 [H, W, 3], RGB, of one size; () if nothing is to be segmented.
        masks: bool [F, N, H, W], for the N turns answered with a mask, in order; [0, 0, 0, 0] if none is.
    """

    draw: Draw
    references: tuple[NDArray[np.uint8], ...]
    targets: tuple[NDArray[np.uint8], ...]
    masks: NDArray[np.bool_]

    @property
    def turns(self) -> tuple[MixedTurn, ...]:
        """The questions."""
        return self.draw.turns

    @property
    def target_places(self) -> tuple[int, ...]:
        """Where the targets stand among the references; () for a swapped target."""
        return self.draw.target_places
