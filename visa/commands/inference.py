"""Answer questions about one video, a folder of them, or a data set: what `python inference.py` does.

    python inference.py --video clip.mp4 --query "which one could fly?" --output out   # `clip_run`
    python inference.py --video-folder DIR --queries FILE.json --output out            # `folder_run`
    python inference.py --dataset revos --root ROOT --output out [--evaluate]          # `dataset_run`

All work on one engine (`visa/batch_run`): each answer goes to `<output>/<video's stem>/<question's number>/`
as soon as it is there, the same command goes on where an earlier one stopped, and `<output>/results.json`
sums up what the folder holds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from visa.commands.output import speak_any_language
from visa.preset_files import MODEL_HELP, check_model


def build_parser() -> argparse.ArgumentParser:
    """The command line, as frozen in the project's design."""
    parser = argparse.ArgumentParser(
        prog="inference.py",
        description="Answer questions about a video with words and with masks of what was asked for.",
        epilog="Exit codes: 0 done, 1 a video failed (it is named, the others are done), 2 bad usage, "
        "130 interrupted. Started again, a run goes on where it stopped; under torchrun, deepspeed or srun "
        "the processes share its videos.",
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
        help=MODEL_HELP,
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
    from visa.commands.clip_run import run_clip

    return run_clip(options, _load)


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
    check_model(model)
    import visa

    print(f"loading {model} ...", file=sys.stderr)
    return visa.load(model)
