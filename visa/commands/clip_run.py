"""Answer questions about one clip: what `python inference.py --video` does, on the engine of the folder run.

DIR/run.json                      what was run
DIR/results.json                  all answers in words, those of clips asked about before too
DIR/<clip>/manifest.json          what is finished of a clip
DIR/<clip>/<question's number>/   as `Tracklet.save` writes it

Started again, it answers what has no answer yet and tells what has.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visa.answer_words import verdict
from visa.batch_run.ranks import Rank
from visa.batch_run.task import Ask, VideoTask
from visa.commands.batch import work_through
from visa.commands.output import complain, ended_by, prepare_output, warn
from visa.commands.progress import StageBars
from visa.errors import InputError
from visa.preset_files import fingerprint
from visa.questions import clean_question

if TYPE_CHECKING:
    from visa.batch_run.summary import Outcome
    from visa.tracklet import Tracklet


def run_clip(options: argparse.Namespace, load: Callable[[str], Any]) -> int:
    """Runs the command.

    Args:
        options: `video`, `query`, `output`, `model`, `cutout`.
        load: loads a model; called only if something is left to do.

    Returns:
        The exit code.
    """
    try:
        # All that can be wrong with the input is found before the model, which takes long, is loaded.
        for question in options.query:
            clean_question(question)
        from visa.batch_run.engine import BatchRun
        from visa.batch_run.folder import clip_task, spoken, write_tracklet
        from visa.batch_run.manifest import Manifest
        from visa.batch_run.summary import begin_run
        from visa.commands.folder_run import RUN_NAME
        from visa.video import Video

        rank = Rank.from_environment()
        task = clip_task(options.video, Video.open(options.video), options.query)
        output = prepare_output(options.output)
        prepare_output(output / task.name)
        about = {
            "model": str(options.model),
            "weights": fingerprint(options.model),
            "cutout": "yes" if options.cutout else "no",
            "video": spoken(Path(options.video).resolve()),
        }
        begin_run(output / RUN_NAME, about, same=("model", "weights", "cutout"))

        def write(folder: Path, _: Ask, tracklet: Tracklet) -> None:
            write_tracklet(folder, tracklet, cutout=options.cutout)

        run = BatchRun([task], output, write, rank, partial(AnswerLines, task))
        manifest = Manifest.read(output, task)
        for number, ask in enumerate(task.asks):
            if manifest.has(ask):
                entry = manifest.answered[ask.key]
                told = verdict(entry["answer"], entry["found"])
                say_answer(task, number, f"{told} (answered before)", output / entry["folder"])
    except (InputError, OSError, KeyboardInterrupt) as error:
        return ended_by(error)
    code, _ = work_through(run, options.model, load, tell=_nothing_more)
    return code


def say_answer(task: VideoTask, number: int, words: str, folder: Path) -> None:
    """The question, its answer and where the picture is, on stdout."""
    from visa.tracklet import CONTACT_SHEET_NAME

    question = task.asks[number].question
    print(f"[{number + 1}/{len(task.asks)}] {question}")
    print(f"  {words}\n  {folder / CONTACT_SHEET_NAME}", flush=True)


class AnswerLines:
    """What a person sees while questions about one clip are answered: a bar per stage, and every answer.

    It stands in for `visa.batch_run.bar.RunBar`, which describes the methods.
    """

    def __init__(self, task: VideoTask, _: Rank) -> None:
        self._task = task
        self._bars = StageBars()

    def expect(self, task: VideoTask, num_questions: int) -> None:
        return

    def begin(self, task: VideoTask, num_questions: int, *, is_own: bool) -> None:
        return

    def stage(self, stage: str, done: int, total: int) -> None:
        self._bars(stage, done, total)

    def answered(self, ask: Ask, tracklet: Tracklet, folder: Path) -> None:
        self._bars.close()
        say_answer(self._task, self._task.asks.index(ask), verdict(tracklet.answer, tracklet.found), folder)

    def passed_over(self) -> None:
        self._bars.close()

    def end(self, task: VideoTask) -> None:
        self._bars.close()

    def complain(self, message: str) -> None:
        self._bars.close()
        complain(message)

    def warn(self, message: str) -> None:
        self._bars.close()
        warn(message)

    def __enter__(self) -> AnswerLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.close()


def _nothing_more(_: Outcome) -> None:
    """Each answer has been told already."""
