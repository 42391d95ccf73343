"""Agreement with vos-benchmark, an independent implementation of J and F, on random masks.

It is installed by itself, without what it asks for: that would bring a second OpenCV.
"""

import cv2
import numpy as np
import pytest

from visa import metrics

evaluator = pytest.importorskip(
    "vos_benchmark.evaluator", reason="pip install --no-deps vos-benchmark==0.1.0"
)


def random_mask(rng, size):
    """Blobs, or noise, or next to nothing."""
    noise = rng.random(size)
    kind = rng.integers(4)
    if kind == 0:
        return noise < rng.random() * 0.1
    if kind == 1:
        return noise < rng.random()
    smooth = cv2.GaussianBlur(noise, (0, 0), 1 + 8 * rng.random())
    return smooth > np.quantile(smooth, rng.random())


@pytest.mark.parametrize("seed", range(60))
def test_j_and_f_agree(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 200, 2))
    gt = random_mask(rng, size)
    near = np.roll(gt, tuple(rng.integers(-4, 5, 2)), (0, 1)) if seed % 2 else random_mask(rng, size)
    gt[0, 0] = True  # it scores no object that is not in the truth
    theirs = evaluator.Evaluator()
    theirs.feed_frame(near.astype(np.uint8), gt.astype(np.uint8))
    (j,), (f,) = ((scores[1],) for scores in theirs.conclude())
    assert metrics.region_similarity(gt, near)[0] == pytest.approx(j / 100, abs=1e-12)
    assert metrics.contour_accuracy(gt, near)[0] == pytest.approx(f / 100, abs=1e-12)


def test_a_video_agrees():
    rng = np.random.default_rng(0)
    gt = np.stack([random_mask(rng, (120, 213)) for _ in range(8)])
    pred = np.roll(gt, (2, -3), (1, 2))
    gt[0, 0, 0] = True
    theirs = evaluator.Evaluator()
    for frame, predicted in zip(gt, pred, strict=True):
        theirs.feed_frame(predicted.astype(np.uint8), frame.astype(np.uint8))
    j, f = theirs.conclude()
    assert metrics.region_similarity(gt, pred).mean() == pytest.approx(j[1] / 100, abs=1e-12)
    assert metrics.contour_accuracy(gt, pred).mean() == pytest.approx(f[1] / 100, abs=1e-12)
