"""A segmenter without weights for conversations, and the program that runs chat.py with it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from visa.tracklet import Tracklet

ROOT = Path(__file__).parent.parent

# chat.py as it is, but `visa.load` gives the fake. Arguments: chat.py's own.
RUNNER = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
import visa
from tests.chat_fakes import PlacedSegmenter
visa.load = PlacedSegmenter.load
sys.argv[0] = "chat.py"
runpy.run_path({str(ROOT / "chat.py")!r}, run_name="__main__")
"""


class PlacedSegmenter:
    """Finds what a question has a place for: the half of every frame that its first place word names.

    "bus" is never there; "slow" takes until it is interrupted, a minute at most; "twins" are two objects.
    """

    HALVES = ("left", "right", "top", "bottom")

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.asked: list[str] = []
        self.videos: list[object] = []
        self.fail: BaseException | None = None

    @classmethod
    def load(cls, name: str) -> PlacedSegmenter:
        """In place of `visa.load`; knows the models "embedded" and "visa-7b"."""
        from visa.errors import InputError

        if name not in ("embedded", "visa-7b"):
            raise InputError(f"no model is called {name!r}")
        return cls(name)

    def segment(self, video, question: str, *, progress=None) -> Tracklet:
        """As `visa.segmenter.Segmenter.segment`."""
        self.asked.append(question)
        self.videos.append(video)
        progress("reason", 0, 1)
        if self.fail is not None and "fail" in question:
            raise self.fail
        if "slow" in question:
            print("at it", file=sys.stderr, flush=True)
            for _ in range(600):
                time.sleep(0.1)
        progress("reason", 1, 1)
        found = "bus" not in question
        masks = np.zeros((2, len(video), video.height, video.width), bool)
        if found:
            masks[0] = half(
                next((word for word in question.split() if word in self.HALVES), "left"), masks[0]
            )
            masks[1] = half("top", masks[0]) & ("twins" in question)
        answer = f"It is {question} says {self.name}. [SEG]" if found else "There is none."
        return Tracklet(
            question,
            answer,
            found,
            0.75,
            1 if found else None,
            masks.any(0),
            video,
            object_masks=masks if "twins" in question else None,
        )


def half(place: str, like: np.ndarray) -> np.ndarray:
    """Masks bool like `like` [T, H, W] of the half of the frame at a place."""
    masks = np.zeros_like(like)
    height, width = like.shape[1:]
    rows = {"top": slice(0, height // 2), "bottom": slice(height // 2, None)}.get(place, slice(None))
    columns = {"left": slice(0, width // 2), "right": slice(width // 2, None)}.get(place, slice(None))
    masks[:, rows, columns] = True
    return masks
