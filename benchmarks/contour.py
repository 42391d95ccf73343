"""Contour accuracy against the definition done directly, on whole frames, both on one thread.

    python benchmarks/contour.py [--frames 100] [--size 480 854]

The direct form makes both boundary maps with NumPy and widens each with OpenCV by the disc.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

import cv2
import numpy as np

from visa.metrics import contour_accuracy


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=100, metavar="N")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854), metavar=("H", "W"))
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    kinds = (("one object, a fifth of the frame", False), ("blobs all over the frame", True))
    for (name, cover), written in itertools.product(kinds, (False, True)):
        gt, pred = masks(options.frames, tuple(options.size), cover)
        if written:
            gt, pred = (array.astype(np.uint8) * np.uint8(255) for array in (gt, pred))
        start = time.process_time()
        expected = [direct(true, predicted) for true, predicted in zip(gt, pred, strict=True)]
        middle = time.process_time()
        values = contour_accuracy(gt, pred)
        end = time.process_time()
        if not np.allclose(values, expected, atol=1e-12):
            raise AssertionError("the two forms differ")
        direct_ms, ours_ms = (1000 * seconds / len(gt) for seconds in (middle - start, end - middle))
        print(
            f"{name}, {'0 and 255' if written else 'bool'}: {ours_ms:.2f} ms a frame, "
            f"directly {direct_ms:.2f} ms, ratio {direct_ms / ours_ms:.1f}"
        )


def masks(num_frames: int, size: tuple[int, int], cover: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ragged masks and the same ones moved a little: bool [T, H, W] each."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[0], : size[1]]
    gt = np.empty((num_frames, *size), dtype=bool)
    for index in range(num_frames):
        noise = cv2.GaussianBlur(rng.random(size), (0, 0), 6 + index % 5)
        noise = (noise - noise.mean()) / noise.std()
        distance = np.hypot((rows - size[0] / 2) / size[0], (columns - size[1] / 2) / size[1])
        gt[index] = noise > 0.3 if cover else distance + 0.01 * noise < 0.25
    return gt, np.roll(gt, (3, 4), (1, 2))


def direct(gt: np.ndarray, pred: np.ndarray, tolerance: float = 0.008) -> float:
    """F of one frame, [H, W] each, as it is defined."""
    radius = math.ceil(tolerance * math.hypot(*gt.shape))
    offsets = np.arange(-radius, radius + 1)
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    edges = [boundary(mask) for mask in (gt, pred)]
    wide = [cv2.dilate(edge.astype(np.uint8), disc) > 0 for edge in edges]
    recall = np.count_nonzero(edges[0] & wide[1]) / np.count_nonzero(edges[0])
    precision = np.count_nonzero(edges[1] & wide[0]) / np.count_nonzero(edges[1])
    return 2 * precision * recall / (precision + recall)


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from the one to the right, below or below right; bool [H, W]."""
    mask = mask.astype(bool, copy=False)
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


if __name__ == "__main__":
    main()
