"""What a person sees while a run goes on: videos, questions, frames per second, time left."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dataset.counting import count_of
from visa.batch_run.ranks import Rank
from visa.batch_run.task import Ask, VideoTask
from visa.commands.output import complain, warn
from visa.commands.progress import STAGES

if TYPE_CHECKING:
    from visa.tracklet import Tracklet

FORMAT = "{percentage:3.0f}%|{bar:20}| {elapsed}, {remaining} left{postfix}"
# Seconds between two lines where stderr is no terminal but, say, a log.
LOG_INTERVAL = 30.0


class RunBar:
    """One bar on stderr; it measures work in frames times questions, so that long videos weigh more.

    Args:
        rank: of several, only the first draws; every one complains.
    """

    def __init__(self, rank: Rank) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm(
            total=0,
            bar_format=FORMAT,
            file=sys.stderr,
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else LOG_INTERVAL,
            disable=rank.index > 0,
        )
        self._who = f"rank {rank.index} of {rank.count}, " if rank.count > 1 else ""
        self._expected: dict[str, int] = {}
        self._num_videos = self._num_questions = 0
        self._videos_done = self._questions_done = self._frames_done = 0
        self._name, self._stage = "", ""
        self._frames = 1  # of the video that is worked on, as far as is known
        self._part = 0.0  # of the questions that are worked on; 1 is one of them
        self._work_done = self._video_end = 0.0
        self._started = time.monotonic()

    def expect(self, task: VideoTask, num_questions: int) -> None:
        """There is this much to do for a video."""
        if num_questions and task.name not in self._expected:
            self._expected[task.name] = num_questions
            self._num_videos += 1
            self._num_questions += num_questions
            self._tqdm.total += task.num_frames * num_questions

    def begin(self, task: VideoTask, num_questions: int, *, is_own: bool) -> None:
        """A video is begun; one of another rank comes on top of what was expected."""
        if not is_own or task.name not in self._expected:
            self.expect(task, num_questions)
        self._name, self._stage, self._frames, self._part = task.name, "", task.num_frames, 0.0
        self._video_end = self._work_done + task.num_frames * self._expected.get(task.name, num_questions)
        self._show()

    def stage(self, stage: str, done: int, total: int) -> None:
        """As the segmenter reports its stages."""
        label = STAGES.get(stage, stage)
        self._stage = f"{label} {done}/{total}" if total > 1 else label
        if stage == "propagate" and total:
            # Several questions may go through the video together: so many frames are theirs.
            self._part = max(self._part, done / total * max(1, round(total / self._frames)))
        self._show(at_once=not done)

    def answered(self, ask: Ask, tracklet: Tracklet, folder: Path) -> None:
        """A question is answered and kept in a folder."""
        self._questions_done += 1
        self._frames_done += tracklet.video.num_frames
        self._next_question()

    def passed_over(self) -> None:
        """A question has failed."""
        self._next_question()

    def end(self, task: VideoTask) -> None:
        """A video is done with, whatever came of it."""
        self._videos_done += 1
        self._work_done, self._part = max(self._work_done, self._video_end), 0.0
        self._show()

    def complain(self, message: str) -> None:
        """A line on stderr about what failed, above the bar."""
        with self._tqdm.external_write_mode(file=sys.stderr):
            complain(message)

    def warn(self, message: str) -> None:
        """A line on stderr about what can be lived with, above the bar."""
        with self._tqdm.external_write_mode(file=sys.stderr):
            warn(message)

    def _next_question(self) -> None:
        self._work_done += self._frames
        self._part = max(0.0, self._part - 1)
        self._show()

    def _show(self, *, at_once: bool = False) -> None:
        """at_once: a stage begins and may take long, so a terminal shows it whenever the last look was."""
        seconds = max(1e-6, time.monotonic() - self._started)
        counts = (
            f"{self._who}video {min(self._videos_done + 1, self._num_videos)}/{self._num_videos}, "
            f"{self._questions_done}/{count_of(self._num_questions, 'question')} answered, "
            f"{self._frames_done / seconds:.1f} frames/s"
        )
        self._tqdm.set_postfix_str(f"{counts}, {self._name} {self._stage}".rstrip(), refresh=False)
        now = min(self._work_done + self._part * self._frames, self._tqdm.total)
        self._tqdm.update(max(0, now - self._tqdm.n))
        if at_once and sys.stderr.isatty():
            self._tqdm.refresh()

    def __enter__(self) -> RunBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        self._tqdm.close()
