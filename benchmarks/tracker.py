"""The tracker alone: from the first true mask on, beside SAM prompted anew in every frame.

    python benchmarks/tracker.py ROOT [--model embedded] [--frames 40] [--limit N] [--skip-baseline]

Prints J (mean over the frames after the first) and seconds a frame for each object of each video, and the
ratio to the baseline, which prompts MobileSAM as published with the last mask's box and centre point.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if the folder cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="data set in the ReVOS layout")
    parser.add_argument("--model", default="embedded", help="what visa.load takes (default: embedded)")
    parser.add_argument("--frames", type=int, default=40, metavar="N", help="first frames used (default: 40)")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N videos")
    parser.add_argument("--skip-baseline", action="store_true", help="measure the tracker only")
    options = parser.parse_args(arguments)
    try:
        measure(options)
    except ValueError as error:
        print(f"tracker.py: {error}", file=sys.stderr)
        return 2
    return 0


def measure(options: argparse.Namespace) -> None:
    """Measures and prints line by line."""
    import machine
    from baselines import public_sam, reprompt

    import visa
    from dataset.revos import Revos
    from visa.evaluation import open_clip

    data = Revos(options.root)
    segmenter = visa.load(options.model)
    propagator = segmenter.propagator
    print(f"{options.root.name}, first {options.frames} frames, from the first true mask")
    print(f"{machine.describe()}\n")
    trackers = {"tracker": lambda clip, mask: propagator.propagate(clip, 0, mask[None])[0]}
    if not options.skip_baseline:
        sam = public_sam(str(segmenter.reasoner.sam.sam.device))
        trackers["re-prompted SAM"] = lambda clip, mask: reprompt(sam, clip, mask)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in trackers}
    for video in data[: options.limit]:
        for key in video.annotation_ids:
            truth = data.annotation(video, key)[: options.frames]
            if len(truth) < 2 or not truth[0].any():
                continue
            parts = []
            for name, track in trackers.items():
                j, seconds = measure_one(track, open_clip(video, options.frames), truth)
                rows[name].append((j, seconds))
                parts.append(f"{name} J {j:.3f}, {seconds:.2f} s/frame")
            print(f"{video.name:24} object {key:>3}: " + "; ".join(parts), flush=True)
    if not rows["tracker"]:
        raise ValueError(f"{options.root}: no object is visible in a first frame, nothing to track")
    means = {
        name: [sum(column) / len(values) for column in zip(*values, strict=True)]
        for name, values in rows.items()
    }
    print()
    for name, (j, seconds) in means.items():
        print(f"{name}: mean J {j:.3f}, {seconds:.2f} s/frame over {len(rows[name])} objects")
    if not options.skip_baseline:
        (j, seconds), (other_j, other_seconds) = means.values()
        print(f"ratios: {seconds / other_seconds:.2f} of its time, {j / other_j:.2f} of its J")


def measure_one(track, clip, truth) -> tuple[float, float]:
    """Mean J over the frames after the first, and seconds for each of them."""
    from visa.metrics import region_similarity

    start = time.perf_counter()
    masks = track(clip, truth[0])
    seconds = time.perf_counter() - start
    return float(region_similarity(truth[1:], masks[1:]).mean()), seconds / (len(truth) - 1)


if __name__ == "__main__":
    sys.exit(main())
