"""Answer questions about one video, a folder of them, or a data set: what `python inference.py` does.

    python inference.py --video clip.mp4 --query "which one could fly?" --output out
    python inference.py --video-folder DIR --queries FILE.json --output out       # `folder_run`
    python inference.py --dataset revos --root ROOT --output out [--evaluate]     # `dataset_run`

Each answer goes to `<output>/<video's stem>/<question's number>/` as soon as it is there, and
`<output>/results.json` is brought up to date with it, so an interrupted run keeps what is done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visa.commands.output import (
    BAD_USAGE,
    DONE,
    FAILED,
    INTERRUPTED,
    complain,
    prepare_output,
    reason,
    speak_any_language,
    warn,
    write_json,
)
from visa.errors import DownloadError, InputError
from visa.questions import clean_question

if TYPE_CHECKING:
    from visa.tracklet import Tracklet
    from visa.video import Video


def build_parser() -> argparse.ArgumentParser:
    """The command line, as frozen in the project's design."""
    parser = argparse.ArgumentParser(
        prog="inference.py",
        description="Answer questions about a video with words and with masks of what was asked for.",
        epilog="Exit codes: 0 done, 1 a video failed (it is named, the others are done), 2 bad usage. "
        "Started again, a run over a folder or a data set goes on where it stopped; under torchrun, "
        "deepspeed or srun the processes share its videos.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--video", metavar="CLIP", help="a video file or a folder of frames")
    what.add_argument("--video-folder", metavar="DIR", help="a folder of videos and folders of frames")
    what.add_argument("--dataset", metavar="NAME", help="every question of a data set: revos, mevis, ...")
    parser.add_argument(
        "--query",
        action="append",
        metavar="QUESTION",
        help="with --video: what to look for, in words; may be given several times",
    )
    parser.add_argument(
        "--queries",
        metavar="FILE.json",
        help='with --video-folder: {"clip.mp4": ["question", ...], ...}, or one list for every video',
    )
    parser.add_argument(
        "--cutout",
        action="store_true",
        help="add the object on a transparent ground: cutout.png and cutout.webm; not with --dataset",
    )
    parser.add_argument("--root", metavar="DIR", help="with --dataset: its folder")
    parser.add_argument("--split", help="with --dataset: a split (default: the one to evaluate on)")
    parser.add_argument(
        "--evaluate", action="store_true", help="with --dataset: score the answers at the end"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--model",
        default="embedded",
        help="a preset's name, a preset file or a folder of weights (default: %(default)s)",
    )
    # The deepspeed launcher gives it to every process; the environment says the same.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        0 when every question was answered; 1 when the work began and failed; 2 when the input cannot be used;
        130 when the person interrupted it.
    """
    speak_any_language()
    parser = build_parser()
    options = parser.parse_args(arguments)
    _refuse_mixtures(parser, options)
    if options.dataset is not None:
        from visa.commands.dataset_run import run_dataset

        return run_dataset(options, _load)
    if options.video_folder is not None:
        from visa.commands.folder_run import run_folder

        return run_folder(options, _load)
    try:
        # All that can be wrong with the input is found before the model, which takes long, is loaded.
        questions = [clean_question(question) for question in options.query]
        from visa.video import Video

        video = Video.open(options.video)
        output = prepare_output(options.output)
        prepare_output(output / video.name)
        segmenter = _load(options.model)
    except InputError as error:
        complain(error)
        return BAD_USAGE
    except (DownloadError, OSError) as error:
        complain(error)
        return FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    return _Run(segmenter, video, options, output).answer(questions)


def _refuse_mixtures(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends with the usage where options of the two forms are mixed, or one is lacking."""
    form = (
        "video" if options.video is not None else "dataset" if options.dataset is not None else "video_folder"
    )
    belongs = {
        "query": ("video",),
        "queries": ("video_folder",),
        "cutout": ("video", "video_folder"),
        "root": ("dataset",),
        "split": ("dataset",),
        "evaluate": ("dataset",),
    }
    for name, forms in belongs.items():
        if getattr(options, name) and form not in forms:
            parser.error(f"--{name} goes with {' or '.join('--' + f.replace('_', '-') for f in forms)}")
    if form == "video" and not options.query:
        parser.error("the following arguments are required: --query")
    if form == "video_folder" and not options.queries:
        parser.error("--video-folder needs --queries, a JSON file with the questions")
    if form == "dataset" and options.root is None:
        parser.error("--dataset needs --root, the data set's folder")


def _load(model: str):
    import visa

    print(f"loading {model} ...", file=sys.stderr)
    return visa.load(model)


class _Run:
    """The questions of one video, answered in turn; `results.json` is always true of what is saved."""

    def __init__(self, segmenter: Any, video: Video, options: argparse.Namespace, output: Path) -> None:
        self._segmenter = segmenter
        self._video = video
        self._cutout = options.cutout
        self._output = output
        self._entry: dict[str, Any] = {
            "video": video.name,
            "path": str(options.video),
            "warnings": [],
            "results": [],
        }
        self._summary = {"model": str(options.model), "done": False, "videos": [self._entry]}

    def answer(self, questions: list[str]) -> int:
        """Answer and save; returns the exit code."""
        try:
            self._pass_on_warnings()
            write_json(self._output / "results.json", self._summary)
            for number, question in enumerate(questions):
                self._answer_one(number, question, len(questions))
            self._summary["done"] = True
            write_json(self._output / "results.json", self._summary)
        except (InputError, DownloadError) as error:
            return self._fail(str(error))
        except OSError as error:
            return self._fail(f"{error.filename or self._output}: {reason(error)}")
        except KeyboardInterrupt:
            self._fail("interrupted")
            return INTERRUPTED
        print(f"{self._output / 'results.json'}")
        return DONE

    def _answer_one(self, number: int, question: str, num_questions: int) -> None:
        from visa.batch_run.folder import write_tracklet
        from visa.commands.progress import StageBars

        print(f"[{number + 1}/{num_questions}] {question}", flush=True)
        # The same Video goes in each time, so that the segmenter can keep what it has seen of it; each answer
        # is saved before the next question is begun.
        with StageBars() as bars:
            tracklet = self._segmenter.segment(self._video, question, progress=bars)
        folder = self._output / self._video.name / str(number)
        print("  saving ...", file=sys.stderr, flush=True)
        write_tracklet(folder, tracklet, cutout=self._cutout)
        self._pass_on_warnings()
        self._entry["results"].append(_summary_of(tracklet, number, folder.relative_to(self._output)))
        write_json(self._output / "results.json", self._summary)
        verdict = tracklet.answer if tracklet.found else f"not found: {tracklet.answer}"
        print(f"  {verdict}\n  {folder / 'contact_sheet.png'}", flush=True)

    def _pass_on_warnings(self) -> None:
        """Print and keep new warnings: some damage shows only as frames are read."""
        for line in self._video.warnings[len(self._entry["warnings"]) :]:
            warn(f"{self._entry['path']}: {line}")
            self._entry["warnings"].append(line)

    def _fail(self, message: str) -> int:
        num_done = len(self._entry["results"])
        complain(f"{self._video.name}: {message} ({num_done} question(s) answered before are kept)")
        self._entry["error"] = message
        try:
            write_json(self._output / "results.json", self._summary)
        except OSError as error:
            complain(f"cannot write {self._output / 'results.json'}: {reason(error)}")
        return FAILED


def _summary_of(tracklet: Tracklet, number: int, folder: Path) -> dict[str, Any]:
    return {
        "number": number,
        "question": tracklet.question,
        "answer": tracklet.answer,
        "found": bool(tracklet.found),
        "score": float(tracklet.score),
        "target_frame": -1 if tracklet.target_frame is None else int(tracklet.target_frame),
        "folder": folder.as_posix(),
    }
