"""gIoU, cIoU, N-acc, T-acc, tIoU and vIoU on masks whose scores are plain to see."""

import math

import numpy as np
import pytest

from visa import metrics


def square(*corners, shape=(10, 10)):
    mask = np.zeros(shape, bool)
    for top, left, side in corners:
        mask[top : top + side, left : left + side] = True
    return mask


EMPTY = square()


def test_images_count_alike_in_one_and_by_their_pixels_in_the_other():
    gts = [square((0, 0, 2)), square((0, 0, 8), shape=(20, 20))]
    preds = [square((0, 0, 4)), gts[1]]
    assert metrics.mean_iou(gts, preds) == pytest.approx((4 / 16 + 1) / 2)
    assert metrics.cumulative_iou(gts, preds) == pytest.approx((4 + 64) / (16 + 64))
    written = [pred.astype(np.uint8) * 255 for pred in preds]
    assert metrics.mean_iou(gts, written) == metrics.mean_iou(gts, preds)


def test_ignored_pixels_count_nowhere():
    gt, pred, ignored = square((0, 0, 2)), square((0, 0, 4)), square((0, 0, 4)) & ~square((0, 0, 2))
    assert metrics.overlap(gt, pred, ignored) == (4, 4)
    assert metrics.mean_iou([gt, gt], [pred, pred], [ignored, None]) == pytest.approx((1 + 0.25) / 2)


def test_nothing_found_where_nothing_is_counts_as_one():
    assert metrics.mean_iou([EMPTY, EMPTY], [EMPTY, square((0, 0, 1))]) == 0.5
    assert metrics.cumulative_iou([EMPTY], [EMPTY]) == 1
    thing = square((3, 3, 3))
    gts, preds = [EMPTY, EMPTY, thing, thing, thing], [EMPTY, thing, thing, square((0, 0, 1)), EMPTY]
    assert metrics.no_target_accuracy(gts, preds) == 0.5
    assert metrics.target_accuracy(gts, preds) == pytest.approx(2 / 3)
    assert math.isnan(metrics.no_target_accuracy([thing], [thing]))


def test_lists_must_match():
    with pytest.raises(ValueError, match="got 2 images, 1 predictions"):
        metrics.mean_iou([EMPTY, EMPTY], [EMPTY])
    with pytest.raises(ValueError, match="got 0 images"):
        metrics.cumulative_iou([], [])
    with pytest.raises(ValueError, match="got 1 and 2 images"):
        metrics.target_accuracy([EMPTY, EMPTY], [EMPTY])


def test_tracks_are_compared_over_the_frames_that_either_has():
    thing, half = square((0, 0, 4)), square((0, 0, 2))
    gt = np.stack([EMPTY, thing, thing, thing, EMPTY])
    pred = np.stack([EMPTY, half, thing, EMPTY, thing])
    assert metrics.temporal_iou(gt, pred) == 2 / 4
    assert metrics.volume_iou(gt, pred) == (4 / 16 + 1) / 4
    assert metrics.temporal_iou(gt * 0, pred * 0) == metrics.volume_iou(gt * 0, pred * 0) == 1
    assert metrics.volume_iou(gt, gt) == metrics.temporal_iou(gt, gt) == 1
    with pytest.raises(ValueError, match="one shape"):
        metrics.volume_iou(gt, pred[:3])
