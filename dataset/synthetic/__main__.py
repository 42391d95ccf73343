"""Command line of the synthetic videos: `python -m dataset.synthetic write OUT --assets …`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from dataset.counting import count_of
from dataset.synthetic.assets import SPLITS
from dataset.synthetic.library import PUBLIC_FILES, open_library, render_models
from dataset.synthetic.writer import (
    BENCHMARK_SEED,
    BENCHMARK_SPEC,
    BENCHMARK_TURNS,
    BENCHMARK_VIDEOS,
    make_samples,
    write_samples,
)


def build_parser() -> argparse.ArgumentParser:
    """The command line; the defaults of `write` are the project's held-out benchmark."""
    parser = argparse.ArgumentParser(prog="python -m dataset.synthetic", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write a data set in the layout of ReVOS")
    write.add_argument("out", type=Path, help="a new or empty folder")
    write.add_argument(
        "--assets",
        type=Path,
        nargs="+",
        required=True,
        help=f"archives ({', '.join(PUBLIC_FILES)}) or sprite folders",
    )
    write.add_argument("--cache", type=Path, help="folder for the rendered 3D models")
    write.add_argument("--split", choices=SPLITS, default=BENCHMARK_SPEC.split)
    write.add_argument("--videos", type=int, default=BENCHMARK_VIDEOS)
    write.add_argument("--seed", type=int, default=BENCHMARK_SEED)
    write.add_argument("--frames", type=int, default=BENCHMARK_SPEC.num_frames)
    write.add_argument("--size", default="480x288", help="WIDTHxHEIGHT")
    write.add_argument("--questions", type=int, default=BENCHMARK_TURNS, help="at most so many a video")
    render = commands.add_parser("render", help="render 3D models into a sprite pack (once; takes a while)")
    render.add_argument("package", type=Path, help="sweethome3d-furniture_1.8-1_all.deb")
    render.add_argument("out", type=Path, help="the .zip file to write")
    render.add_argument("--processes", type=int, default=1)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for bad arguments."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command == "render":
        count = render_models(options.package, options.out, options.processes)
        print(f"wrote {count_of(count, 'sprite')} to {options.out}")
        return 0
    try:
        width, height = (int(part) for part in options.size.split("x"))
        spec = replace(
            BENCHMARK_SPEC, height=height, width=width, num_frames=options.frames, split=options.split
        )
        assets = open_library(options.assets, options.cache)
        samples = make_samples(assets, spec, options.videos, options.seed, options.questions)
        meta = write_samples(tqdm(samples, total=options.videos, unit="video"), options.out)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    count = sum(len(video["expressions"]) for video in meta["videos"].values())
    print(
        f"wrote {count_of(len(meta['videos']), 'video')} with {count_of(count, 'question')} to {options.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
