"""Score predictions, or pack them for a server.

    python -m visa.evaluation PRED --dataset revos --root ROOT [--gallery] [--allow-missing] [--legacy]
    python -m visa.evaluation PRED --dataset mevis --root ROOT --submission out.zip

Exit codes: 0 done, 1 predictions are missing or broken, 2 bad usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset.counting import count_of
from visa.commands.output import (
    DONE,
    FAILED,
    check_output,
    complain,
    ended_by,
    prepare_output,
    speak_any_language,
    warn,
)
from visa.errors import InputError

SHOWN_COMPLAINTS = 20


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m visa.evaluation",
        description="Score masks on disk by a data set's official protocol, over all cores.",
        epilog="Exit codes: 0 done, 1 a prediction or a true mask is missing or broken, 2 bad usage.",
    )
    parser.add_argument(
        "predictions", type=Path, metavar="PRED", help="folder <video>/<expression id>/<frame>.png"
    )
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="revos, mevis, ...; all are in `python -m dataset --help`",
    )
    parser.add_argument("--root", required=True, type=Path, help="the data set's folder")
    parser.add_argument("--split", help="one of its splits (default: the one that is evaluated on)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for the scores (default: PRED-scores)"
    )
    parser.add_argument("--processes", type=int, metavar="N", help="default: one on every core")
    parser.add_argument(
        "--allow-missing", action="store_true", help="a missing or broken prediction counts as zero"
    )
    parser.add_argument(
        "--legacy",
        action="store_true",
        help="ReVOS: add A and R as VISA's script computes them, to compare with published columns",
    )
    parser.add_argument(
        "--gallery",
        type=int,
        nargs="?",
        const=20,
        default=0,
        metavar="N",
        help="draw the N worst expressions (default: 20)",
    )
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="ZIP",
        help="MeViS, Ref-YouTube-VOS: write the archive for the server, checked",
    )
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="list the N worst (default: 5)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    speak_any_language()
    options = build_parser().parse_args(arguments)
    try:
        too_few = options.processes is not None and options.processes < 1
        if too_few or min(options.gallery, options.worst) < 0:
            raise InputError("--gallery and --worst must be 0 or more, --processes 1 or more")
        return _submit(options) if options.submission else _score(options)
    except (ValueError, OSError, KeyboardInterrupt) as error:  # a ValueError: also an unreadable data set
        return ended_by(error)


def _score(options: argparse.Namespace) -> int:
    from visa.evaluation.from_disk import score_predictions

    predictions = options.predictions.absolute()
    folder = options.output or predictions.with_name(f"{predictions.name}-scores")
    check_output(folder)
    outcome = score_predictions(
        options.predictions,
        options.dataset,
        options.root,
        options.split,
        processes=options.processes,
        allow_missing=options.allow_missing,
        legacy=options.legacy,
        progress=not options.quiet,
    )
    print(outcome.table(), flush=True)
    outcome.save(prepare_output(folder))
    if options.worst and outcome.worst(options.worst):
        print(f"\nThe worst {len(outcome.worst(options.worst))}:\n\n{outcome.worst_table(options.worst)}")
    if options.gallery:
        _draw(outcome, folder, options)
    print(f"\n{folder / 'scores.json'}\n{folder / 'expressions.csv'}", flush=True)
    complaints = outcome.complaints()
    for line in complaints[:SHOWN_COMPLAINTS]:
        (complain if outcome.faults or not options.allow_missing else warn)(line)
    if len(complaints) > SHOWN_COMPLAINTS:
        warn(f"{len(complaints) - SHOWN_COMPLAINTS} more are in {folder / 'scores.json'}")
    return DONE if outcome.complete else FAILED


def _draw(outcome, folder: Path, options: argparse.Namespace) -> None:
    from dataset.registry import open_dataset
    from visa.evaluation.gallery import write_gallery
    from visa.evaluation.predictions import Predictions

    reader = open_dataset(options.dataset, options.root, options.split, lenient=True)
    worst = outcome.worst(options.gallery)
    measure = outcome.protocol.worst_by
    for line in write_gallery(folder / "gallery", worst, measure, reader, Predictions(options.predictions)):
        warn(line)
    print(f"\n{folder / 'gallery' / 'index.html'}")


def _submit(options: argparse.Namespace) -> int:
    from dataset.registry import open_dataset
    from visa.evaluation.predictions import Predictions
    from visa.evaluation.submission import SPLIT, prefix_for, write_submission

    prefix_for(options.dataset)
    if not options.predictions.is_dir():
        raise InputError(f"expected a folder of predictions at {options.predictions}, found none")
    reader = open_dataset(options.dataset, options.root, options.split or SPLIT, lenient=True)
    if not len(reader):
        why = reader.skipped[0] if reader.skipped else "there is none in it"
        raise InputError(f"{reader.meta_path} has no clip that can be packed: {why}")
    try:
        number = write_submission(
            options.submission,
            Predictions(options.predictions),
            options.dataset,
            reader,
            progress=not options.quiet,
        )
    except InputError as error:
        complain(error)
        return FAILED
    size = options.submission.stat().st_size / 2**20
    packed = f"{count_of(number, 'mask')} of {count_of(len(reader), 'video')}"
    print(f"{options.submission}: {packed}, {size:.1f} MiB, layout checked")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
