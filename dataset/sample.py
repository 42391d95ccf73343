"""One training or evaluation item: a clip, its objects' masks, and the turns of talk about them.

Legend: T frames, N objects, H W pixels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["referring", "reasoning", "absent", "talk"]
# By ReVOS's type_id 0, 1 and 2. "talk" has no number: it is answered in words and never segmented.
KINDS: tuple[Kind, ...] = ("referring", "reasoning", "absent")
TALK: Kind = "talk"


@dataclass(frozen=True)
class Turn:
    """A question with its answer.

    Attributes:
        question: What the person says.
        answer: What the system should say; without "[SEG]" if nothing in the clip is meant.
        kind: "referring", "reasoning" or "absent", ReVOS's type_id 0, 1 and 2; or "talk".
        aspect: What decides the answer ("name", "colour", "position", "motion", "order", "use", …).
        object_ids: Indices into `Sample.masks`; () if and only if the kind is "absent" or "talk".
    """

    question: str
    answer: str
    kind: Kind
    aspect: str
    object_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.kind not in (*KINDS, TALK):
            raise ValueError(f"kind must be one of {(*KINDS, TALK)}, got {self.kind!r}")
        if (self.kind in ("absent", TALK)) != (not self.object_ids):
            raise ValueError(
                f"an absent turn and talk name no object and every other turn names one: "
                f"kind {self.kind!r} came with object_ids {self.object_ids}"
            )


@dataclass(frozen=True, eq=False)
class Sample:
    """A clip with its objects and turns.

    Attributes:
        name: The clip's name; unique in its data set.
        frames: uint8 [T, H, W, 3], RGB, 0..255 (or any sequence of such frames with `shape`).
        masks: bool [N, T, H, W], the visible pixels of every object; disjoint between objects.
        turns: What is asked about it.
    """

    name: str
    frames: np.ndarray
    masks: np.ndarray
    turns: tuple[Turn, ...]

    def target(self, turn: Turn) -> np.ndarray:
        """The union of the masks that a turn means: bool [T, H, W]; all False where it means none."""
        return self.masks[list(turn.object_ids)].any(axis=0)
