"""A segmenter for tests of folder runs, and `inference.py` with it, as a program of its own.

    python -m tests.folder_fakes --video-folder ... --queries ... --output ...

Every answer that is begun and every one that was kept is a line in $ASKED: "<pid> <clip>: <question>".
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import visa
from visa.batch_run.ranks import Rank
from visa.commands import inference
from visa.tracklet import Tracklet


def answer(video, question: str) -> Tracklet:
    """The left half of every frame, or nothing if it is asked for a bus; some questions are bad news."""
    if "impossible" in question:
        raise ValueError(f"cannot answer {question!r}")
    found = "bus" not in question
    masks = np.zeros((len(video), video.height, video.width), bool)
    masks[:, :, : video.width // 2] = found
    return Tracklet(question, f"Here: {question}.", found, 0.5, 0 if found else None, masks, video)


class Fake:
    """Answers one by one; counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.videos: list[object] = []
        self.seconds = float(os.environ.get("SECONDS_PER_ANSWER", "0"))

    def segment_each(self, video, questions, *, progress=None) -> Iterator[Tracklet]:
        self.videos.append(video)
        for question in questions:
            self.asked.append((video.name, question))
            note(f"{video.name}: {question}")
            time.sleep(self.seconds)
            for frame in range(len(video) + 1):
                progress("propagate", frame, len(video))
            yield answer(video, question)


class Together:
    """Gives its answers all at once, as `segment_many` may."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def segment_many(self, video, questions, *, progress=None) -> list[Tracklet]:
        self.calls.append(list(questions))
        return [answer(video, question) for question in questions]


def note(line: str) -> None:
    """A line in $ASKED, if it is set; whole, whoever else writes to it."""
    if path := os.environ.get("ASKED"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {line}\n")


if __name__ == "__main__":
    vars(visa)["load"] = lambda name: Fake()
    Rank.take_gpu = lambda self: None  # it would import torch
    sys.exit(inference.main())
