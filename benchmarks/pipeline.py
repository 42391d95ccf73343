"""Time and peak memory of a whole run by stage, on a clip of 50 frames of 854x480.

    python benchmarks/pipeline.py [CLIP] [--model embedded] [--question "the bicycle"] [--frames 50]

The run is what `inference.py` does: load, open the clip, answer, write masks and overlay. Downloads are
made before the clock starts; frames that are decoded meanwhile, by another thread, show up in no "decode".
Without CLIP, a short public one is enlarged to 480p. The baseline, in the same run, is SAM as published,
prompted anew in every frame with the last mask's box and centre point.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from inspect import ismethod
from pathlib import Path

from stage_clock import StageClock

STAGES = ("load", "decode", "encode", "sample", "reason", "segment", "propagate", "write", "other")
INNER = ("decode", "encode")
SIZE = (480, 854)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if the clip cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", nargs="?", type=Path, metavar="CLIP", help="a video or a folder of frames")
    parser.add_argument("--model", default="embedded", help="what visa.load takes (default: embedded)")
    parser.add_argument("--question", action="append", metavar="TEXT", help='default: "the bicycle"')
    parser.add_argument(
        "--frames", type=int, default=50, metavar="N", help="frames of the clip (default: 50)"
    )
    parser.add_argument(
        "--baseline-frames", type=int, default=8, metavar="N", help="0: no baseline; default: 8"
    )
    parser.add_argument(
        "--processor", action="store_true", help="processor seconds, for a machine that others use, too"
    )
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, Path(folder))
    except ValueError as error:
        print(f"pipeline.py: {error}", file=sys.stderr)
        return 2
    return 0


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measures and prints."""
    from visa.downloads import fetch
    from visa.public_files import FILES

    for name in FILES:
        fetch(name)
    clip_path = make_clip(options.clip or fetch("bikes.mp4"), options.frames, folder / "clip.mp4")
    clock = StageClock(INNER, time.process_time if options.processor else None)
    with clock.watching():
        with clock.stage("load"):
            import visa

            segmenter = visa.load(options.model)
        tracklets = run(segmenter, clip_path, options.question or ["the bicycle"], folder / "out", clock)
    import machine

    video = tracklets[0].video
    print(f"{len(video)} frames of {video.width}x{video.height}, {len(tracklets)} questions")
    print(f"{machine.describe()}\n\n{clock.table(STAGES)}\n")
    for tracklet in tracklets:
        print(f"{tracklet.question!r}: {tracklet.answer!r}, found: {tracklet.found}")
    if options.baseline_frames > 1:
        compare(segmenter, clock, tracklets, options.baseline_frames)


def run(segmenter, clip_path: Path, questions: list[str], output: Path, clock: StageClock) -> list:
    """Answers the questions as `inference.py` does, every stage on the clock."""
    import visa.segmenter
    from visa.tracklet import Tracklet
    from visa.video import Video

    reasoner = type(segmenter.reasoner)
    calls = [
        ("decode", Video, "open"),
        ("decode", Video, "frames"),
        ("decode", Video, "__getitem__"),
        ("encode", type(segmenter.reasoner.sam), "encode"),
        ("sample", type(segmenter.sampler), "choose"),
        ("reason", reasoner, "answer"),
        ("segment", reasoner, "draw"),
        ("propagate", visa.segmenter, "carry"),
        ("write", Tracklet, "save"),
    ]
    tower = segmenter.reasoner.tower
    calls.append(("encode", reasoner, "tower") if ismethod(tower) else ("encode", type(tower), "__call__"))
    if segmenter.propagator is not None:
        calls.append(("encode", type(segmenter.propagator.encoder), "__call__"))
    start = clock.now()
    before = sum(clock.seconds.values())
    with clock.wrapping(*calls):
        tracklets = segmenter.segment_many(clip_path, questions)
        for index, tracklet in enumerate(tracklets):
            tracklet.save(output / str(index))
    on_the_clock = sum(clock.seconds.values()) - before
    clock.seconds["other"] = clock.now() - start - on_the_clock
    return tracklets


def compare(segmenter, clock: StageClock, tracklets: list, num_frames: int) -> None:
    """Prints the ratio to tracking by prompting SAM anew in every frame."""
    from baselines import centre_point, public_sam, reprompt

    video = tracklets[0].video
    sam = public_sam(str(segmenter.reasoner.sam.sam.device))
    mask = next((tracklet.masks[0] for tracklet in tracklets if tracklet.masks[0].any()), None)
    if mask is None:
        mask = centre_point(sam, sam.encode(video.frames([0])))
    start = clock.now()
    masks = reprompt(sam, video, mask, num_frames)
    baseline = (clock.now() - start) / (len(masks) - 1)
    found = sum(tracklet.found for tracklet in tracklets)
    print(f"\nbaseline, SAM prompted in every frame: {baseline:.2f} s a frame")
    if found:
        ours = clock.whole_seconds["propagate"] / found / max(1, len(video) - 1)
        print(f"propagation: {ours:.2f} s a frame, ratio to the baseline {ours / baseline:.2f}")
    whole = sum(clock.seconds.values())
    print(
        f"whole run with loading: {whole:.1f} s, ratio {whole / (baseline * len(video) * len(tracklets)):.2f}"
    )


def make_clip(source: Path, num_frames: int, path: Path) -> Path:
    """Writes the first frames of a clip, forwards and back where it is too short, as a 480p video."""
    import av
    import cv2
    import numpy as np

    from visa.video import Video

    video = Video.open(source)
    there_and_back = [*range(len(video)), *range(len(video) - 2, 0, -1)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(num_frames):
            frame = cv2.resize(video[there_and_back[index % len(there_and_back)]], SIZE[::-1])
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    sys.exit(main())
