"""Command line of data sets on disk: `python -m dataset check NAME ROOT`, `python -m dataset show NAME ROOT`.

check   says what is missing, broken or inconsistent, in one table; exit code 1 if anything is
show    draws a contact sheet of samples with their masks and expressions

The synthetic videos have a command line of their own: `python -m dataset.synthetic --help`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dataset.registry import IMAGES, VIDEOS, open_dataset, reader_class, registered_name


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset",
        description=__doc__,
        epilog="data sets:\n"
        + "\n".join(f"  {name:18}{item.about}" for name, item in {**VIDEOS, **IMAGES}.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say what is wrong with a data set on disk")
    check.add_argument("--decode", action="store_true", help="decode every frame too (slower)")
    check.add_argument(
        "--all", action="store_true", help="print every fault, not only the first of each sort"
    )
    show = commands.add_parser("show", help="draw samples with masks and expressions")
    show.add_argument("--count", type=int, default=8, help="how many samples (default: 8)")
    show.add_argument("--seed", type=int, default=0, help="which ones are drawn (default: 0)")
    show.add_argument("--video", help="expressions of this one only")
    show.add_argument("--output", type=Path, help="the picture to write (default: NAME_SPLIT.png)")
    for command in (check, show):
        command.add_argument("name", help="which data set; see `python -m dataset --help`")
        command.add_argument("root", type=Path, help="its folder")
        command.add_argument("--split", help="which part of it (default: the one that is evaluated on)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 if the data are not right, 2 for bad arguments."""
    options = build_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode gets question marks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options.name = registered_name(options.name)
        splits = reader_class(options.name).splits
    except ValueError as error:
        return _refuse(str(error))
    if options.split is not None and options.split not in splits:
        return _refuse(f"{options.name} has no split {options.split!r}: expected one of {', '.join(splits)}")
    if not options.root.is_dir():
        return _refuse(f"expected a folder {options.root}, found none")
    try:
        return _check(options) if options.command == "check" else _show(options)
    except KeyboardInterrupt:
        print("python -m dataset: interrupted", file=sys.stderr)
        return 130


def _check(options: argparse.Namespace) -> int:
    from dataset.checking import Findings, check
    from dataset.errors import DatasetError

    try:
        reader = open_dataset(options.name, options.root, options.split, lenient=True)
    except DatasetError as error:
        findings, split = Findings(), options.split
        findings.add(error)
    else:
        findings, split = check(reader, decode=options.decode, progress=sys.stderr.isatty()), reader.split
    print(f"{options.name}{'' if split is None else f' {split}'} at {options.root}: {findings.walked()}")
    if not findings.num_faults:
        print("nothing is wrong")
        return 0
    print(findings.table())
    if options.all:
        for messages in findings.faults.values():
            print(*messages, sep="\n")
    return 1


def _show(options: argparse.Namespace) -> int:
    from PIL import Image

    from dataset.showing import draw_sheet

    split = options.split or reader_class(options.name).splits[0]
    path = options.output or Path(f"{options.name}_{split}.png")
    if options.count < 1 or options.seed < 0:
        return _refuse(f"--count is 1 or more and --seed 0 or more, not {options.count} and {options.seed}")
    if path.suffix.lower() not in Image.registered_extensions():
        return _refuse(f"--output {path}: expected a picture's name, such as {path.stem}.png")
    try:
        reader = open_dataset(options.name, options.root, options.split, lenient=True)
        clips = reader if options.video is None else [reader.video(options.video)]
        if not len(clips):
            raise ValueError(f"{reader.meta_path}: there is nothing in it to show")
    except ValueError as error:
        print(f"python -m dataset: {error}", file=sys.stderr)
        return 1
    for fault in reader.skipped:
        print(f"left out: {fault}", file=sys.stderr)
    sheet, faults = draw_sheet(clips, options.count, options.seed)
    for fault in faults:
        print(fault, file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        return _refuse(f"cannot write {path} ({error})")
    print(f"wrote {path}")
    return 1 if faults or reader.skipped else 0


def _refuse(message: str) -> int:
    print(f"python -m dataset: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
