"""What a run has to do: videos, each with its questions."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visa.questions import clean_question

if TYPE_CHECKING:
    from visa.video import Video

MAX_NAMED = 80


@dataclass(frozen=True)
class Ask:
    """One question about a video.

    Attributes:
        key: its number or id among the video's questions; the name of its folder.
        text: what the person, or the data set, wrote.
    """

    key: str
    text: str

    @property
    def question(self) -> str:
        """The text as it is put to the model.

        Raises:
            InputError: it is empty or too long.
        """
        return clean_question(self.text)

    @property
    def named(self) -> str:
        """The text as messages name it, short."""
        return textwrap.shorten(self.text, MAX_NAMED, placeholder=" ...") or self.text[:MAX_NAMED]


@dataclass(frozen=True)
class VideoTask:
    """One video and all that is asked about it.

    Attributes:
        name: its folder below the run's output, with "/" where nested; unique in the run.
        source: what it is called in messages: its path.
        asks: the questions, in order.
        open: opens it; raises ValueError or OSError where that cannot be.
        num_frames: frames, as far as can be told without decoding; at least 1.
        fingerprint: changes when the video does; "" if that is not watched.
    """

    name: str
    source: str
    asks: tuple[Ask, ...]
    open: Callable[[], Video]
    num_frames: int = 1
    fingerprint: str = ""

    @property
    def work(self) -> int:
        """How much there is to do: frames times questions."""
        return self.num_frames * max(1, len(self.asks))
