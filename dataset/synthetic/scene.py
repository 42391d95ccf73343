"""What is in a synthetic video, in words and numbers: the description from which questions are written.

The renderer fills it from what is really visible after occlusion; the question writer reads nothing else.
Legend: T frames. Coordinates are (x, y), as fractions of the frame's width and height.
"""

from dataclasses import dataclass, field

import numpy as np

MOTIONS = ("still", "left", "right", "up", "down", "growing", "shrinking", "wandering")
COLOURS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object (or one compound thing that a question names as a whole) and its visible course.

    Attributes:
        id: Its index in the video's masks.
        name: Head noun phrase without article, such as "apple" or "mountain goat"; a compound thing has
            the name of its main part, e.g. "monkey" in "monkey riding a bicycle".
        category: A hypernym, such as "fruit"; one of `assets.CATEGORIES`.
        colour: A word of `COLOURS` measured from the pixels, or None if no single colour stands out.
        size: Mean visible fraction of the frame, over the frames in which it is visible.
        centres: float [T, 2], (x, y) of the visible pixels' centroid in 0..1; NaN when not visible.
        visible: bool [T].
        motion: One of `MOTIONS`: the net course over its visible frames relative to the frame's edges.
            "wandering" means that it moves without a net direction.
        enters: First frame in which it is visible.
        leaves: First frame from which it is never visible again, or None if it is visible at the end.
        parts: Names of a compound thing's parts, main part first; () for a simple object.
        phrase: How the whole is called without an article: "monkey riding a bicycle"; equals `name` for
            a simple object.
        keywords: Words that people associate with it (lower case), from the sprite's public keywords.
        depth: Drawing order, 0 is farthest; a higher one occludes a lower one.
        half: "left" or "right" in a video made of two scenes side by side, otherwise None.
        speed: Mean path length per frame as a fraction of the frame's diagonal.
    """

    id: int
    name: str
    category: str
    colour: str | None
    size: float
    centres: np.ndarray
    visible: np.ndarray
    motion: str
    enters: int
    leaves: int | None
    parts: tuple[str, ...] = ()
    phrase: str = ""
    keywords: tuple[str, ...] = ()
    depth: int = 0
    half: str | None = None
    speed: float = 0.0

    def __post_init__(self):
        if self.motion not in MOTIONS:
            raise ValueError(f"motion must be one of {MOTIONS}, got {self.motion!r}")
        if self.colour is not None and self.colour not in COLOURS:
            raise ValueError(f"colour must be None or one of {COLOURS}, got {self.colour!r}")
        if self.centres.shape != (len(self.visible), 2):
            raise ValueError(f"centres must be [T, 2] with T = {len(self.visible)}, got {self.centres.shape}")
        if not self.phrase:
            object.__setattr__(self, "phrase", self.name)


@dataclass(frozen=True, eq=False)
class Scene:
    """A synthetic video's contents.

    Attributes:
        objects: The objects a question may ask for; each is visible in at least one frame.
        num_frames: T.
        setting: The background in a word or two ("wood", "sky and ground", "photograph").
    """

    objects: tuple[SceneObject, ...]
    num_frames: int
    setting: str = field(default="")
