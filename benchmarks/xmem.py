"""The published tracker at full size: one object, and several questions about one video.

    python benchmarks/xmem.py [CLIP] [--weights XMem.pth] [--frames 20] [--questions 6]

Without CLIP, a short public one; its shorter side is brought to 480. Without weights the network is untrained
but passes masks on, so that it follows things after a fashion: time does not depend on weights.

Times are processor seconds of this process: with one thread they are what a quiet core would take, even when
others use the machine. Every question starts in the middle frame and goes both ways:

    alone       one after another, each on its own, as `propagate` does, float32
    together    `propagate_many`, float32: the probabilities are those of `alone`, bit by bit
    bfloat16    the same with convolutions in bfloat16: the masks must be nearly those of `alone`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

RADIUS = 60


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if the clip cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", nargs="?", type=Path, metavar="CLIP", help="a video or a folder of frames")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the published XMem.pth")
    parser.add_argument("--frames", type=int, default=20, metavar="N", help="first frames used (default: 20)")
    parser.add_argument("--questions", type=int, default=6, metavar="N", help="questions (default: 6)")
    options = parser.parse_args(arguments)
    try:
        measure(options)
    except ValueError as error:
        print(f"xmem.py: {error}", file=sys.stderr)
        return 2
    return 0


def measure(options: argparse.Namespace) -> None:
    """Measures and prints."""
    import machine
    import numpy as np
    import torch

    from model.xmem import for_tracking, load_xmem
    from visa.downloads import fetch
    from visa.propagation import ImageEncoder
    from visa.video import Video
    from visa.xmem_propagation import Propagator

    clip = Video.open(options.clip or fetch("bikes.mp4"))
    clip = Video.from_frames(clip.frames(range(min(options.frames, len(clip)))))
    network = load_xmem(options.weights) if options.weights else untrained(clip[0])
    masks = discs(clip, options.questions)
    print(f"{len(clip)} frames of {clip.width}x{clip.height}, {len(masks)} questions, from the middle frame")
    print(f"{machine.describe()}\n", flush=True)

    def run(dtype, masks, together):
        fast = for_tracking(network, dtype)
        ImageEncoder(fast)(clip[0])  # the first call prepares the kernels
        return walk(Propagator(fast), clip, masks, together)

    alone_seconds, alone, alone_stages = run(torch.float32, masks, False)
    one_seconds = alone_seconds / len(masks)
    single_seconds, _, _ = run(torch.bfloat16, masks[:1], True)
    print(f"one object, float32: {len(clip) / one_seconds:.2f} frames/s")
    print(f"one object, bfloat16: {len(clip) / single_seconds:.2f} frames/s", flush=True)
    results = {"alone": (alone_seconds, alone_stages)}
    for name, dtype in (("together", torch.float32), ("bfloat16", torch.bfloat16)):
        seconds, probs, stages = run(dtype, masks, True)
        results[name] = seconds, stages
        difference = np.abs(probs - alone).max()
        overlaps = [overlap(own > 0.5, other > 0.5) for own, other in zip(alone, probs, strict=True)]
        print(
            f"{name}: {alone_seconds:.1f} s -> {seconds:.1f} s, {alone_seconds / seconds:.2f} times as fast, "
            f"probabilities off by {difference:.1e}, lowest mask IoU {min(overlaps):.4f}",
            flush=True,
        )
    print(f"\n{'seconds':10}" + "".join(f"{name:>10}" for name in results))
    for stage in results["alone"][1] | results["together"][1]:
        print(f"{stage:10}" + "".join(f"{stages[stage]:10.2f}" for _, stages in results.values()))
    print(f"{'all':10}" + "".join(f"{seconds:10.2f}" for seconds, _ in results.values()))


def walk(propagator, clip, masks, together):
    """Processor seconds, probabilities float32 [question, T - 1, h, w] in order of walking, and stages."""
    import numpy as np

    from model.xmem import Memory, XMem, XMemTracker
    from model.xmem.contests import without_backgrounds
    from visa.propagation import Anchor

    middle, kept, stages = len(clip) // 2, [], Counter()
    step = XMemTracker.step

    def recorded(tracker, image, given=None, **options):
        probs = step(tracker, image, given, **options)
        if given is None:
            kept.append(without_backgrounds(probs[None], tracker.contests)[0].numpy())
        return probs

    calls = ((XMem, "encode_key"), (Memory, "read"), (XMem, "segment"))
    with ExitStack() as undo:
        for owner, name in (*calls, (XMem, "encode_value"), (Memory, "add")):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, timed(getattr(owner, name), stages, name))
        undo.callback(setattr, XMemTracker, "step", step)
        XMemTracker.step = recorded
        start = time.process_time()
        if together:
            propagator.propagate_many(clip, [Anchor(middle, mask[None]) for mask in masks])
        else:
            for mask in masks:
                propagator.propagate(clip, middle, mask[None])
        seconds = time.process_time() - start
    probs = np.concatenate(kept).reshape(-1, *kept[0].shape[-2:])
    if together:
        return seconds, probs.reshape(len(clip) - 1, len(masks), *probs.shape[1:]).swapaxes(0, 1), stages
    return seconds, probs.reshape(len(masks), len(clip) - 1, *probs.shape[1:]), stages


def timed(call, stages: Counter, name: str):
    """The call, with its processor seconds added to a stage."""

    def measured(*arguments, **options):
        start = time.process_time()
        try:
            return call(*arguments, **options)
        finally:
            stages[name] += time.process_time() - start

    return measured


def untrained(frame):
    """A network of the published size that follows what looks alike, with random weights."""
    import torch
    from untrained import follow_looks

    from model.xmem import XMem
    from visa.propagation import ImageEncoder

    torch.manual_seed(0)
    network = XMem().eval().requires_grad_(False)
    # With a little noise, or float32 and bfloat16 would hardly differ.
    follow_looks(network, ImageEncoder(network), frame, noise=0.05)
    return network


def discs(clip, count: int):
    """bool [count, H, W]: a disc for each question, side by side."""
    import numpy as np

    rows, columns = np.mgrid[: clip.height, : clip.width]
    radius = min(clip.height, clip.width) * RADIUS / 480
    centres = [
        (clip.height * (0.35 if n % 2 else 0.65), clip.width * (n + 1) / (count + 1)) for n in range(count)
    ]
    return np.stack([np.hypot(rows - y, columns - x) < radius for y, x in centres])


def overlap(masks, others) -> float:
    """IoU over all frames; 1 where both are empty."""
    union = (masks | others).sum()
    return (masks & others).sum() / union if union else 1.0


if __name__ == "__main__":
    sys.exit(main())
