"""The bar of a run over many videos measures frames times questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.folder_fakes import answer
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
