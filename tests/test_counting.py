"""Lines that people read say "1 video", not "1 videos"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataset.checking import Findings
from dataset.counting import count_of
from tests.folder_fakes import answer
from visa.batch_run.bar import RunBar
from visa.batch_run.folder import folder_tasks
from visa.batch_run.ranks import Rank
from visa.batch_run.task import Ask, VideoTask
from visa.errors import InputError
from visa.video import Video
from visa.web.limits import Limits
from visa.web.timeline import describe


@pytest.fixture
def video() -> Video:
    """A clip of one frame."""
    return Video.from_frames(np.zeros((1, 4, 4, 3), np.uint8), name="still")


def test_one_is_one() -> None:
    assert [count_of(number, "video") for number in (0, 1, 2, 21)] == [
        "0 videos",
        "1 video",
        "2 videos",
        "21 videos",
    ]
    assert [count_of(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]


def test_a_clip_of_one_frame(video: Video) -> None:
    assert "1 frame of 4x4" in repr(video)
    with pytest.raises(IndexError, match="a clip of 1 frame$"):
        video[1]
    assert describe(np.ones(1)) == "in 1 of 1 frame: 0"
    with pytest.raises(InputError, match=r"^still has 1 frame, .*at most 1 frame and 0 s"):
        Limits(frames=1, seconds=0).check_length(video, "still")


def test_a_folder_of_one_video_and_one_question(
    video: Video, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = Ask("0", "thing")
    task = VideoTask("still", "still.mp4", (ask,), open=lambda: video, num_frames=1)
    with RunBar(Rank(0, 1)) as bar:
        bar.expect(task, 1)
        bar.begin(task, 1, is_own=True)
        bar.answered(ask, answer(video, "thing"), tmp_path)
    assert "1/1 question answered, " in capsys.readouterr().err
    with pytest.raises(InputError, match="the questions name 1 video, and none is in "):
        folder_tasks(tmp_path, {"gone.mp4": ["thing"]}, tmp_path / "out")


def test_a_data_set_of_one_video() -> None:
    assert Findings(dict.fromkeys(("videos", "masks"), 1)).walked() == "1 video, 1 mask"
    assert Findings({"videos": 2, "expressions": 0}).walked() == "2 videos, 0 expressions"
