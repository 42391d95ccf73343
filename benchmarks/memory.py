"""Peak memory of a whole run about a short and a long video of 854x480.

    python benchmarks/memory.py [--frames 500 5000] [--model tiny] [--question TEXT ...]

Each length is measured in a process of its own, which does what `inference.py` does: open an H.264 file,
answer, carry the masks to all frames, write masks, overlay, contact sheet and result.json. The file is made
before and shows squares that move over noise.

`tiny` is no system that answers: it draws two squares for the first question and one for every further one,
and a tracker with few channels follows them at 240 pixels, with the memory of the embedded one. All else is
the system's own: how it reads the file, its caches with their bounds, its walk through the video and its
writing. What larger layers take on top is the same for every length. Another --model is what `visa.load`
takes: `embedded` needs many times as long.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

SIZE = (480, 854)
SQUARE = 120
TINY = "tiny"
MOST_LOST = 0.1  # of the frames


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 1 if a process of it failed, 2 if the model cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[500, 5000], metavar="N", help="default: 500 5000"
    )
    parser.add_argument("--model", default=TINY, help="tiny, or what visa.load takes (default: tiny)")
    parser.add_argument("--question", action="append", metavar="TEXT", help='default: "the squares"')
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)  # a process of one length
    options = parser.parse_args(arguments)
    options.question = options.question or ["the squares"]
    try:
        run(options) if options.clip else compare(options)
    except ValueError as error:
        print(f"memory.py: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"memory.py: {error.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return 1
    return 0


def compare(options: argparse.Namespace) -> None:
    """Measures every length, and prints it beside the first."""
    import machine

    print(f"{options.model}, {len(options.question)} questions, 854x480; {machine.describe()}", flush=True)
    peaks = []
    for length in options.frames:
        with tempfile.TemporaryDirectory() as folder:
            clip = write_clip(Path(folder) / "clip.mp4", length)
            command = [sys.executable, __file__, "--clip", str(clip), "--model", options.model]
            command += [word for question in options.question for word in ("--question", question)]
            start = time.perf_counter()
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds = time.perf_counter() - start
        peaks.append(int(printed.split()[-1]))
        print(
            f"{length} frames: peak {peaks[-1] / 2**20:.0f} MiB, {peaks[-1] / peaks[0]:.3f} of the first, "
            f"{seconds:.0f} s",
            flush=True,
        )


def run(options: argparse.Namespace) -> None:
    """Answers and writes as a run does, and prints the peak memory in bytes."""
    import machine

    import visa
    from visa.video import Video

    video = Video.open(options.clip)
    segmenter = tiny(video[0]) if options.model == TINY else visa.load(options.model)
    for number, tracklet in enumerate(segmenter.segment_each(video, options.question)):
        tracklet.save(options.clip.parent / "out" / str(number))
        # Empty masks cost nothing to keep: a run that lost the squares would tell of no memory.
        if options.model == TINY and (lost := int((tracklet.areas() == 0).sum())) > len(video) * MOST_LOST:
            raise ValueError(f"the squares were lost in {lost} of {len(video)} frames")
    print(machine.peak_bytes())


def tiny(frame):
    """A segmenter whose reasoner draws squares and whose tracker, with few channels, fits such frames."""
    import torch
    from untrained import follow_looks

    from model.xmem import XMem, for_tracking
    from model.xmem.resnet import ResNetKeyTrunk
    from visa.propagation import ImageEncoder
    from visa.reasoning import DrawnFrames, GivenAnswer
    from visa.sampling import MiddleFrame
    from visa.segmenter import Segmenter
    from visa.tracking import TRACKING_CONFIG
    from visa.viewing import ViewingLimits
    from visa.xmem_propagation import Propagator

    class Squares:
        limits, sam, tower = ViewingLimits(), None, None

        def scorer(self, viewing):
            return None

        def answer(self, viewing, choice, question):
            return GivenAnswer(question, "[SEG]", True, 1.0)

        def draw(self, viewing, choice, answer, progress):
            import numpy as np

            masks = np.zeros((2 if answer.question.endswith("s") else 1, 1, *SIZE), bool)
            for number, mask in enumerate(masks):
                top, left = corner_of(number, choice.target)
                mask[0, top : top + SQUARE, left : left + SQUARE] = True
            return DrawnFrames(answer, (choice.target,), masks)

    torch.manual_seed(0)
    trunk = ResNetKeyTrunk(stem=8, widths=(16, 32, 64), depths=(1, 1, 1))
    sizes = {"value_widths": (4, 8, 8), "value_depths": (1, 1, 1), "decoder_widths": (16, 8, 4)}
    network = XMem(32, 64, 8, trunk, value_stem=4, update_width=8, **sizes).eval().requires_grad_(False)
    follow_looks(network, ImageEncoder(network, 240), frame, noise=0)
    fast, config = for_tracking(network), replace(TRACKING_CONFIG, top_k=8)
    return Segmenter(Squares(), Propagator(fast, config, ImageEncoder(fast, 240)), MiddleFrame(2))


def corner_of(number: int, frame: int) -> tuple[int, int]:
    """(row, column) of a square's corner: it goes to and fro, once in 400 frames."""
    height, width = (side - SQUARE for side in SIZE)
    return height // 4 + number * height // 2, abs(frame % 400 - 200) * width // 200


def write_clip(path: Path, num_frames: int) -> Path:
    """Writes two squares that move over noise."""
    import av
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 90, (*SIZE, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "30"}
        for index in range(num_frames):
            frame = noise.copy()
            for number, level in enumerate((255, 190)):
                top, left = corner_of(number, index)
                frame[top : top + SQUARE, left : left + SQUARE] = level
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    sys.exit(main())
