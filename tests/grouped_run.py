"""`inference.py` over a folder as a program of its own: the pipeline on a tiny tracker, killed on cue.

    python -m tests.grouped_run PRECISION --video-folder ... --queries ... --output ...

Every question that is begun is a line in $ASKED: "<pid> <clip>: <question>". $KILL_AT ends the process as
`kill -9` does: "note 5" before the fifth manifest is written, "frame 2 9" at the ninth frame of the second
walk through a video.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

import visa
from model.xmem import MemoryConfig, for_tracking
from tests.folder_fakes import note
from tests.small_xmem import small_network
from visa.batch_run.manifest import Manifest
from visa.batch_run.ranks import Rank
from visa.commands import inference
from visa.propagation import ImageEncoder
from visa.reasoning import DrawnFrames, GivenAnswer
from visa.sampling import FrameChoice, MiddleFrame
from visa.segmenter import Segmenter
from visa.tracklet import Tracklet
from visa.viewing import ViewingLimits
from visa.xmem_propagation import Propagator

PRECISIONS = ("bfloat16", "autocast")


class Boxes:
    """A reasoner that draws boxes where a question's words say: one or two, on a frame of its own."""

    limits, sam, tower = ViewingLimits(), None, None

    def scorer(self, viewing):
        return None

    def answer(self, viewing, choice: FrameChoice, question: str) -> GivenAnswer:
        note(f"{viewing.video.name}: {question}")
        return GivenAnswer(question, f"It is {question}. [SEG]", "bus" not in question, 0.5)

    def draw(self, viewing, choice: FrameChoice, answer: GivenAnswer, progress: Callable) -> DrawnFrames:
        video, draw = viewing.video, random.Random(answer.question)
        masks = np.zeros((2 if answer.question.endswith("s") else 1, 1, video.height, video.width), bool)
        for mask in masks:
            top, left = draw.randrange(video.height // 2), draw.randrange(video.width // 2)
            mask[0, top : top + video.height // 3, left : left + video.width // 3] = True
        return DrawnFrames(answer, (draw.choice([2, 2, 5]),), masks)


class Watched:
    """Asks a segmenter all at once, and counts the frames of every walk."""

    def __init__(self, segmenter: Segmenter, at_frame: Callable[[int, int], None]) -> None:
        self.segmenter, self.at_frame, self.walks = segmenter, at_frame, 0

    def segment_each(self, video, questions, *, progress: Callable) -> Iterator[Tracklet]:
        def report(stage: str, done: int, total: int) -> None:
            progress(stage, done, total)
            if stage == "propagate":
                self.walks += done == 1
                self.at_frame(self.walks, done)

        return self.segmenter.segment_each(video, questions, progress=report)


def system(precision: str) -> Segmenter:
    """A segmenter whose tracker runs in bfloat16, or in float32 with convolutions in bfloat16."""
    torch.set_num_threads(1)
    network = for_tracking(small_network(), torch.bfloat16 if precision == "bfloat16" else torch.float32)
    config = MemoryConfig(
        mem_every=2, top_k=7, max_mid_term_frames=4, min_mid_term_frames=2, num_prototypes=5
    )
    autocast = torch.bfloat16 if precision == "autocast" else None
    return Segmenter(
        Boxes(), Propagator(network, config, ImageEncoder(network, None), autocast), MiddleFrame(2)
    )


def die() -> None:
    """As by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(precision: str, arguments: list[str], kill_at: str = "") -> int:
    """Runs the command with the system of that precision."""
    kind, *numbers = kill_at.split() or ("never",)
    cue = [int(number) for number in numbers]
    watched = Watched(
        system(precision), lambda *place: die() if kind == "frame" and [*place] == cue else None
    )
    notes: list[Manifest] = []
    write = Manifest.write

    def counted(manifest: Manifest) -> None:
        notes.append(manifest)
        if kind == "note" and [len(notes)] == cue:
            die()
        write(manifest)

    before = vars(visa).get("load")
    Manifest.write, vars(visa)["load"] = counted, lambda name: watched
    try:
        return inference.main(arguments)
    finally:
        Manifest.write = write
        vars(visa).pop("load") if before is None else vars(visa).update(load=before)


if __name__ == "__main__":
    Rank.take_gpu = lambda self: None
    sys.exit(main(sys.argv[1], sys.argv[2:], os.environ.get("KILL_AT", "")))
