"""Answer questions about all videos of a folder: what `python inference.py --video-folder` does.

python inference.py --video-folder DIR --queries FILE.json --output DIR

DIR/run.json                       what was run on what
DIR/results.json                   all answers in words
DIR/<video>/manifest.json          what is finished of a video
DIR/<video>/<question's number>/   as `Tracklet.save` writes it
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visa.batch_run.ranks import Rank
from visa.batch_run.task import Ask
from visa.commands.batch import work_through
from visa.commands.output import ended_by, prepare_output, warn
from visa.errors import InputError
from visa.preset_files import fingerprint

if TYPE_CHECKING:
    from visa.tracklet import Tracklet

RUN_NAME = "run.json"


def run_folder(options: argparse.Namespace, load: Callable[[str], Any]) -> int:
    """Runs the command.

    Args:
        options: `video_folder`, `queries`, `output`, `model`, `cutout`.
        load: loads a model; called only if something is left to do.

    Returns:
        The exit code.
    """
    try:
        from visa.batch_run.engine import BatchRun
        from visa.batch_run.folder import folder_tasks, spoken, write_tracklet
        from visa.batch_run.queries import read_queries
        from visa.batch_run.summary import begin_run

        rank = Rank.from_environment()
        queries = read_queries(options.queries)
        tasks, warnings = folder_tasks(options.video_folder, queries, options.output)
        output = prepare_output(options.output)
        about = {
            "model": str(options.model),
            "weights": fingerprint(options.model),
            "cutout": "yes" if options.cutout else "no",
            "video_folder": spoken(Path(options.video_folder).resolve()),
        }
        begin_run(output / RUN_NAME, about, same=("model", "weights", "cutout"))
        if rank.index == 0:
            for line in warnings:
                warn(line)

        def write(folder: Path, _: Ask, tracklet: Tracklet) -> None:
            write_tracklet(folder, tracklet, cutout=options.cutout)

        run = BatchRun(tasks, output, write, rank)
    except (InputError, OSError, KeyboardInterrupt) as error:
        return ended_by(error)
    code, _ = work_through(run, options.model, load)
    return code
