"""The bar of a run over many videos measures frames times questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.folder_fakes import answer
from visa.batch_run import bar as run_bar
from visa.batch_run.bar import RunBar
from visa.batch_run.ranks import Rank
from visa.batch_run.task import Ask, VideoTask
from visa.video import Video


def test_the_bar_moves_on_with_questions_that_go_through_the_video_together() -> None:
    video = Video.from_frames(np.zeros((10, 4, 4, 3), np.uint8))
    asks = tuple(Ask(str(number), "thing") for number in range(4))
    task = VideoTask("a", "a.mp4", asks, open=lambda: video, num_frames=10)
    with RunBar(Rank(0, 1)) as bar:
        bar.expect(task, 4)
        bar.begin(task, 4, is_own=True)
        seen = []
        for done in range(1, 31):
            bar.stage("propagate", done, 30)
            seen.append(round(bar._tqdm.n))
        assert seen == [*range(1, 31)]
        for number in range(3):
            bar.answered(asks[number], answer(video, "thing"), Path("a"))
            assert round(bar._tqdm.n) == 30
        bar.stage("propagate", 5, 10)
        assert round(bar._tqdm.n) == 35


def test_a_terminal_shows_a_stage_as_it_begins_however_lately_it_was_drawn(monkeypatch, capsys) -> None:
    monkeypatch.setattr(run_bar.sys.stderr, "isatty", lambda: True, raising=False)
    video = Video.from_frames(np.zeros((10, 4, 4, 3), np.uint8))
    task = VideoTask("a", "a.mp4", (Ask("0", "thing"),), open=lambda: video, num_frames=10)
    with RunBar(Rank(0, 1)) as bar:
        bar._tqdm.mininterval = 3600
        bar.expect(task, 1)
        bar.begin(task, 1, is_own=True)
        seen = []
        for report in (("sample", 0, 1), ("sample", 0, 8), ("reason", 0, 1), ("save", 0, 1)):
            capsys.readouterr()
            bar.stage(*report)
            seen.append(capsys.readouterr().err.split("frames/s, ")[-1].strip())
    assert seen == ["a choosing frames", "a choosing frames 0/8", "a reading and answering", "a saving"]
