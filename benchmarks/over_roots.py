"""The command line of benchmarks that measure a system over data sets in the ReVOS layout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def options_for(description: str, model: str) -> argparse.ArgumentParser:
    """A parser that takes data sets, the model (by default ``model``), and how many videos."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path, metavar="ROOT", help="data sets in the ReVOS layout")
    parser.add_argument("--model", default=model, help=f"what visa.load takes (default: {model})")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N videos")
    return parser


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Which split, how much of each video, and where reports are written."""
    parser.add_argument("--split", default="valid", help="meta_expressions_SPLIT_.json (default: valid)")
    parser.add_argument("--frames", type=int, metavar="N", help="use each video's first N frames")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write every report there as JSON")


def measure_all(
    script: str, options: argparse.Namespace, measure: Callable[[Path, argparse.Namespace], None]
) -> int:
    """Measure every data set; 2, with one line on stderr, if a folder or the model cannot be used."""
    try:
        for root in options.roots:
            measure(root, options)
    except ValueError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 2
    return 0
