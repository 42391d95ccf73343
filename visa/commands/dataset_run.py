"""Answer every question of a data set: what `python inference.py --dataset` does.

    python inference.py --dataset revos --root ROOT --output DIR [--evaluate]

    DIR/predictions.json                          what was run on what
    DIR/<video>/<expression id>/<frame>.png       0 and 255
    DIR/<video>/<expression id>/result.json       the answer in words; written last

An expression's folder appears when it is whole, so a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visa.commands.output import complain, prepare_output, reason, warn, write_json
from visa.errors import DownloadError, InputError

if TYPE_CHECKING:
    from dataset.clip import Clip, Expression
    from dataset.reader import Reader
    from visa.tracklet import Tracklet
    from visa.video import Video

RUN_NAME = "predictions.json"
RESULT_NAME = "result.json"
DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


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
        from visa.evaluation.from_disk import refuse_talk

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
        run = _Run(reader, output, _begin(output, options, reader))
        if run.waiting():
            run.answer_all(load(options.model))
    except ValueError as error:  # bad input, a data set that cannot be read
        complain(error)
        return BAD_USAGE
    except (DownloadError, OSError) as error:
        complain(error)
        return FAILED
    except KeyboardInterrupt:
        complain("interrupted; run the same command to go on")
        return INTERRUPTED
    code = run.report()
    return max(code, _evaluate(options, reader.split)) if options.evaluate else code


def _begin(output: Path, options: argparse.Namespace, reader: Reader) -> dict[str, str]:
    """What this run is, written down; refuses a folder that holds another one's predictions."""
    about = {
        "dataset": str(options.dataset),
        "root": str(Path(options.root).resolve()),
        "split": reader.split,
        "model": str(options.model),
    }
    path = output / RUN_NAME
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}): give another --output") from error
        changed = [key for key in ("dataset", "split", "model") if before.get(key) != about[key]]
        if changed:
            differences = ", ".join(f"{key} {before.get(key)!r} and not {about[key]!r}" for key in changed)
            raise InputError(f"{output} holds predictions of {differences}: give another --output")
    write_json(path, about)
    return about


class _Run:
    """All questions of a data set, a clip at a time.

    Args:
        reader: The data set.
        output: Where the predictions go.
        about: What is run; kept with every result.
    """

    def __init__(self, reader: Reader, output: Path, about: dict[str, str]) -> None:
        self._reader = reader
        self._output = output
        self._about = about
        self._faults = [str(error) for error in reader.skipped]
        self._waiting = [
            (clip, [item for item in clip.expressions if not self._is_done(clip, item)]) for clip in reader
        ]

    def waiting(self) -> int:
        """How many expressions have no prediction yet."""
        return sum(len(expressions) for _, expressions in self._waiting)

    def answer_all(self, segmenter: Any) -> None:
        """Answers and saves; what fails is noted, and the rest goes on."""
        from tqdm import tqdm

        total = sum(len(clip.expressions) for clip in self._reader)
        with tqdm(total=total, initial=total - self.waiting(), desc="segmenting", unit="question") as bar:
            for clip, expressions in self._waiting:
                if not expressions:
                    continue
                bar.set_postfix_str(clip.name)
                try:
                    video = _open(clip)
                except (ValueError, OSError) as error:
                    self._faults.append(f"{clip.name}: {error}")
                    bar.update(len(expressions))
                    continue
                for expression in expressions:
                    # the same Video each time, so that the segmenter keeps what it has seen of it
                    self._answer(segmenter, video, clip, expression)
                    bar.update()

    def report(self) -> int:
        """Says what was done; returns the exit code."""
        done = sum(self._is_done(clip, item) for clip in self._reader for item in clip.expressions)
        total = sum(len(clip.expressions) for clip in self._reader)
        for line in self._faults:
            complain(line)
        print(f"{self._output}: {done} of {total} expressions", flush=True)
        return FAILED if self._faults else DONE

    def _answer(self, segmenter: Any, video: Video, clip: Clip, expression: Expression) -> None:
        from visa.questions import clean_question

        try:
            tracklet = segmenter.segment(video, clean_question(expression.text))
            _save(self._output / clip.name / expression.id, expression, tracklet, self._about["model"])
        except (ValueError, DownloadError) as error:
            self._faults.append(f"{clip.name}, expression {expression.id!r}: {error}")
        except OSError as error:
            if error.filename is None or str(error.filename).startswith(str(self._output)):
                raise  # a full disk ends the run: what is saved is whole
            self._faults.append(f"{clip.name}, expression {expression.id!r}: {reason(error)}")

    def _is_done(self, clip: Clip, expression: Expression) -> bool:
        """Whether its folder is there, whole, and answers this very question."""
        path = self._output / clip.name / expression.id / RESULT_NAME
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(result, dict) and result.get("asked") == expression.text


def _open(clip: Clip) -> Video:
    from visa.evaluation.clip import open_clip

    return open_clip(clip)


def _save(folder: Path, expression: Expression, tracklet: Tracklet, model: str) -> None:
    """Writes one expression's masks and answer, all at once."""
    from PIL import Image

    partial = folder.with_name(f".{folder.name}.part")
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, mask in zip(tracklet.frame_names, tracklet.masks, strict=True):
        Image.fromarray(mask).convert("L").save(partial / f"{name}.png")
    result = {
        "asked": expression.text,
        "question": tracklet.question,
        "answer": tracklet.answer,
        "found": bool(tracklet.found),
        "score": float(tracklet.score),
        "target_frame": -1 if tracklet.target_frame is None else int(tracklet.target_frame),
        "model": model,
    }
    write_json(partial / RESULT_NAME, result)
    partial.replace(folder)


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
