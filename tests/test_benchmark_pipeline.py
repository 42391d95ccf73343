"""benchmarks/pipeline.py on a tiny system: every stage of several questions is on the clock."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests import grouped_run
from tests.synthetic_clips import write_clip
from visa.sampling import MiddleFrame
from visa.tracklet import RESULT_NAME

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PAUSE = 0.05


class SlowSam:
    """Encodes nothing, and takes its time."""

    def encode(self, frames: np.ndarray) -> None:
        time.sleep(PAUSE)


class SlowBoxes(grouped_run.Boxes):
    """Reads, answers and draws, each in its time."""

    sam = SlowSam()

    def tower(self, frames: np.ndarray) -> list[int]:
        time.sleep(PAUSE)
        return [0] * len(frames)

    def answer(self, viewing, choice, question):
        viewing.cells([choice.target])
        time.sleep(PAUSE)
        return super().answer(viewing, choice, question)

    def draw(self, viewing, choice, answer, progress):
        viewing.sam_features(choice.target)
        time.sleep(PAUSE)
        return super().draw(viewing, choice, answer, progress)


def test_stages_of_several_questions_are_told_apart(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import pipeline
    from stage_clock import StageClock

    segmenter = grouped_run.system("bfloat16")
    segmenter.reasoner, segmenter.sampler = SlowBoxes(), MiddleFrame(2)
    clock = StageClock(pipeline.INNER)
    clip = write_clip(tmp_path / "clip.mp4", 8, height=48, width=80)
    started = time.perf_counter()
    tracklets = pipeline.run(segmenter, clip, ["a dog", "two cats", "the red bus"], tmp_path / "out", clock)
    whole = time.perf_counter() - started
    assert [tracklet.found for tracklet in tracklets] == [True, True, False]
    assert all((tmp_path / "out" / str(number) / RESULT_NAME).is_file() for number in range(3))
    assert set(clock.seconds) == {*pipeline.STAGES} - {"load"}
    assert clock.seconds["reason"] >= 3 * PAUSE
    assert clock.seconds["segment"] >= 2 * PAUSE
    assert clock.seconds["encode"] >= 2 * PAUSE  # one frame, by the tower and by SAM, once for all questions
    assert min(clock.seconds.values()) >= 0
    assert clock.seconds["propagate"] > 0 < clock.seconds["write"]
    assert sum(clock.seconds.values()) <= whole
    assert not hasattr(SlowBoxes.tower, "__wrapped__"), "what was timed is put back"
