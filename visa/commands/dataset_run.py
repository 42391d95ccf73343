"""Answer every question of a data set: what `python inference.py --dataset` does.

    python inference.py --dataset revos --root ROOT --output DIR [--evaluate]

    DIR/predictions.json                          what was run on what
    DIR/results.json                              all answers in words
    DIR/<video>/manifest.json                     what is finished of a video
    DIR/<video>/<expression id>/<frame>.png       0 and 255
    DIR/<video>/<expression id>/result.json       the answer in words

A run that was interrupted goes on where it stopped (`visa/batch_run`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visa.batch_run.manifest import RESULT_NAME
from visa.batch_run.ranks import Rank
from visa.batch_run.task import Ask, VideoTask
from visa.commands.batch import work_through
from visa.commands.output import (
    BAD_USAGE,
    FAILED,
    INTERRUPTED,
    complain,
    ended_by,
    prepare_output,
    reason,
    warn,
    write_json,
)
from visa.errors import InputError
from visa.preset_files import fingerprint

if TYPE_CHECKING:
    from dataset.clip import Clip
    from dataset.reader import Reader
    from visa.tracklet import Tracklet
    from visa.video import Video

RUN_NAME = "predictions.json"


def run_dataset(options: argparse.Namespace, load: Callable[[str], Any]) -> int:
    """Runs the command.

    Args:
        options: `dataset`, `root`, `split`, `output`, `model`, `evaluate`.
        load: Loads a model; called only if something is left to do.

    Returns:
        The exit code.
    """
    try:
        from dataset.registry import open_dataset
        from visa.batch_run.engine import BatchRun
        from visa.batch_run.summary import begin_run
        from visa.evaluation.from_disk import refuse_talk

        rank = Rank.from_environment()
        reader = open_dataset(options.dataset, options.root, options.split, lenient=True)
        if not len(reader):
            raise InputError(
                f"{options.root}: {options.dataset} {reader.split} has no clip that can be read"
                + (f": {reader.skipped[0]}" if reader.skipped else "")
            )
        refuse_talk(options.dataset, reader)
        if options.evaluate and not reader.has_masks:
            raise InputError(
                f"--evaluate: the masks of {options.dataset} {reader.split} are not public; leave it out, "
                "and pack the answers for the server with: python -m visa.evaluation ... --submission out.zip"
            )
        output = prepare_output(options.output)
        about = {
            "dataset": str(options.dataset),
            "root": str(Path(options.root).resolve()),
            "split": reader.split,
            "model": str(options.model),
            "weights": fingerprint(options.model),
        }
        begin_run(output / RUN_NAME, about, same=("dataset", "split", "model", "weights"))
        run = BatchRun(_tasks(reader), output, partial(_write, model=about["model"]), rank)
    except (ValueError, OSError, KeyboardInterrupt) as error:  # a ValueError: also an unreadable data set
        return ended_by(error)
    code, outcome = work_through(run, options.model, load)
    if outcome is None or code in (BAD_USAGE, INTERRUPTED) or not outcome.speaks:
        return code
    for fault in reader.skipped:
        complain(fault)
        code = FAILED
    if options.evaluate and outcome.num_answered:  # where all failed there is nothing to score
        code = max(code, _evaluate(options, reader.split))
    return code


def _tasks(reader: Reader) -> list[VideoTask]:
    """Every clip with its expressions; their ids name the folders."""
    return [
        VideoTask(
            name=clip.name,
            source=clip.name,
            asks=tuple(Ask(item.id, item.text) for item in clip.expressions),
            open=partial(_open, clip),
            num_frames=max(1, len(clip.frame_names)),
        )
        for clip in reader
    ]


def _open(clip: Clip) -> Video:
    from visa.evaluation.clip import open_clip

    return open_clip(clip)


def _write(folder: Path, ask: Ask, tracklet: Tracklet, *, model: str) -> None:
    """Writes one expression's masks and answer."""
    from visa.evaluation.predictions import write_masks

    write_masks(folder, tracklet)
    result = {
        "asked": ask.text,
        "question": tracklet.question,
        "answer": tracklet.answer,
        "found": bool(tracklet.found),
        "score": float(tracklet.score),
        "target_frame": -1 if tracklet.target_frame is None else int(tracklet.target_frame),
        "model": model,
    }
    write_json(folder / RESULT_NAME, result)


def _evaluate(options: argparse.Namespace, split: str) -> int:
    """Scores the predictions in a process of its own, whose workers do not inherit the model."""
    print(flush=True)
    command = [sys.executable, "-m", "visa.evaluation", str(options.output), "--dataset", options.dataset]
    command += ["--root", str(options.root), "--split", split]
    try:
        return subprocess.run(command, check=False, env=_environment()).returncode
    except OSError as error:
        warn(f"cannot start the evaluation: {reason(error)}")
        return FAILED


def _environment() -> dict[str, str]:
    """This process's own, in which the project is found even where it was not installed."""
    import os

    home = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}
