"""A segmenter without weights for the page."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import numpy as np

from visa.sampling.choice import FrameChoice
from visa.tracklet import Tracklet


class SpreadSampler:
    """The middle frame, and two references."""

    def choose(self, num_frames: int, question: str, scorer: object) -> FrameChoice:
        """See `visa.sampling.Sampler`."""
        return FrameChoice(num_frames // 2, (0, num_frames - 1))


class HalfSegmenter:
    """Finds the left half of all frames but the first two; a bus is never there, "break" breaks it.

    "slow" takes two minutes, unless a report of how far it is ends it.
    """

    def __init__(self) -> None:
        self.sampler = SpreadSampler()
        self.asked: list[str] = []
        self.videos: list[object] = []
        self.stopped: list[str] = []

    def segment(self, video, question: str, *, sampler=None, progress=None) -> Tracklet:
        """As `visa.segmenter.Segmenter.segment`."""
        choice = (sampler or self.sampler).choose(len(video), question, SimpleNamespace())
        self.asked.append(question)
        self.videos.append(video)
        for stage in ("sample", "reason", "segment", "propagate"):
            (progress or (lambda *_: None))(stage, 1, 1)
        if "slow" in question:
            self._dawdle(question, progress)
        if "break" in question:
            print("the model breaks", file=sys.stderr)
            raise RuntimeError("secret inside of the model")
        found = "bus" not in question
        masks = np.zeros((len(video), video.height, video.width), bool)
        if found:
            masks[2:, :, : video.width // 2] = True
        answer = "It is on the left. [SEG]" if found else "There is none."
        target = choice.target if found else None
        return Tracklet(question, answer, found, 0.75, target, masks, video)

    def _dawdle(self, question: str, progress) -> None:
        try:
            for frame in range(1200):
                progress("propagate", frame, 1200)
                time.sleep(0.1)
        except RuntimeError:
            self.stopped.append(question)
            raise
