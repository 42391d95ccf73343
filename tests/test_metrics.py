"""Properties of the mask metrics, a direct form of the definition of F, and bad input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from visa import metrics

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=24)
FEW = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def mask_lists(draw, count):
    shape = draw(SHAPES)
    seed = draw(st.integers(0, 2**32 - 1))
    density = draw(st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
    rng = np.random.default_rng(seed)
    return [rng.random(shape) < density for _ in range(count)]


def boundary(mask):
    """The definition, pixel by pixel."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    for row in range(height):
        for column in range(width):
            below, right = min(row + 1, height - 1), min(column + 1, width - 1)
            neighbours = mask[row, right], mask[below, column], mask[below, right]
            out[row, column] = any(other != mask[row, column] for other in neighbours)
    return out


def direct_f(gt, pred, radius):
    true, predicted = (np.argwhere(boundary(mask)) for mask in (gt, pred))
    if not len(true) and not len(predicted):
        return 1.0
    if not len(true) or not len(predicted):
        return 0.0
    near = ((true[:, None] - predicted[None]) ** 2).sum(-1) <= radius**2
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@FEW
@given(mask_lists(2))
def test_region_similarity_is_symmetric_and_a_fraction(masks):
    gt, pred = masks
    values = metrics.region_similarity(gt, pred)
    assert values.dtype == np.float64
    assert values.shape == (len(gt),)
    assert ((values >= 0) & (values <= 1)).all()
    np.testing.assert_array_equal(values, metrics.region_similarity(pred, gt))


@FEW
@given(mask_lists(1))
def test_identical_masks_score_one(masks):
    for metric in (metrics.region_similarity, metrics.contour_accuracy, metrics.pixel_accuracy):
        np.testing.assert_array_equal(metric(masks[0], masks[0]), 1.0)


@FEW
@given(mask_lists(2), st.sampled_from([0.008, 0.05, 0.2, 1, 1.5, 3, 40, 1e9]))
def test_contour_accuracy_is_its_definition(masks, tolerance):
    gt, pred = masks
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*gt.shape[1:]))
    expected = [direct_f(a, b, radius) for a, b in zip(gt, pred, strict=True)]
    np.testing.assert_allclose(metrics.contour_accuracy(gt, pred, tolerance=tolerance), expected, atol=1e-12)


@FEW
@given(mask_lists(2))
def test_contour_accuracy_is_symmetric_and_grows_with_tolerance(masks):
    gt, pred = masks
    last = np.zeros(len(gt))
    for tolerance in (0, 1, 2, 4, 8, 40):
        values = metrics.contour_accuracy(gt, pred, tolerance=tolerance)
        assert (values >= last).all()
        assert (values <= 1).all()
        np.testing.assert_allclose(
            values, metrics.contour_accuracy(pred, gt, tolerance=tolerance), atol=1e-12
        )
        last = values


@FEW
@given(mask_lists(3))
def test_writing_does_not_matter(masks):
    gt, pred, other = masks
    for metric, arguments in (
        (metrics.region_similarity, (gt, pred, other)),
        (metrics.contour_accuracy, (gt, pred, other)),
        (metrics.pixel_accuracy, (gt, pred)),
        (metrics.robustness, (gt, pred, other)),
    ):
        expected = metric(*arguments)
        for write in (
            lambda mask: mask.astype(np.uint8) * np.uint8(255),
            lambda mask: mask.astype(np.int64),
            lambda mask: mask.astype(np.float32),
        ):
            np.testing.assert_array_equal(metric(*map(write, arguments)), expected)


@FEW
@given(mask_lists(3))
def test_void_pixels_belong_to_neither(masks):
    gt, pred, void = masks
    np.testing.assert_array_equal(
        metrics.region_similarity(gt, pred, void), metrics.region_similarity(gt & ~void, pred | void, void)
    )
    np.testing.assert_array_equal(
        metrics.contour_accuracy(gt, pred, void), metrics.contour_accuracy(gt & ~void, pred & ~void)
    )


def test_wide_frames_cross_word_borders():
    rng = np.random.default_rng(0)
    for width in (63, 64, 65, 127, 128, 129, 200):
        gt, pred = rng.random((2, 9, width)) < 0.1
        for radius in (1, 3, 70):
            value = metrics.contour_accuracy(gt, pred, tolerance=radius)
            assert value[0] == pytest.approx(direct_f(gt, pred, radius), abs=1e-12)


def test_frames_are_scored_one_by_one():
    gt = np.zeros((3, 8, 8), bool)
    gt[:, 2:6, 2:6] = True
    pred = gt.copy()
    pred[1] = False
    pred[2, 2:4] = False
    np.testing.assert_array_equal(metrics.region_similarity(gt, pred), [1, 0, 0.5])
    assert metrics.contour_accuracy(gt, pred)[1] == 0
    assert metrics.region_similarity(gt[0], pred[0]).shape == (1,)


def test_overlapping_ground_truth_is_clipped():
    gt = np.array([[0, 1, 2, 3]])
    np.testing.assert_array_equal(metrics.region_similarity(gt, np.array([[0, 1, 1, 1]])), [1])


def test_legacy_counts_255_as_it_stands():
    gt = np.array([[1, 0, 0, 0]], np.uint8)
    pred = np.array([[255, 255, 0, 0]], np.uint8)
    foreground = np.array([[1, 1, 1, 1]], np.uint8)
    assert metrics.pixel_accuracy(gt, pred)[0] == 0.75
    assert metrics.pixel_accuracy(gt, pred, legacy=True)[0] == 0.5
    assert metrics.robustness(gt, pred, foreground)[0] == pytest.approx(0.75, abs=1e-6)
    assert metrics.robustness(gt, pred, foreground, legacy=True)[0] == 0


GOOD = np.zeros((2, 4, 5), bool)


@pytest.mark.parametrize(
    ("gt", "pred", "message"),
    [
        (GOOD, GOOD[:, :3], r"one shape.*\(2, 4, 5\).*\(2, 3, 5\)"),
        (GOOD, GOOD[0], "one shape"),
        (GOOD, np.full((2, 4, 5), 0.5), r"pred must hold bool.*0\.5"),
        (GOOD, np.full((2, 4, 5), np.nan), "pred must hold bool"),
        (GOOD, np.where(GOOD, 0, [[0, 1, 255, 0, 0]]), "pred must hold bool.*0, 1, 255"),
        (np.where(GOOD, 0, [[0, 1, 255, 0, 0]]), GOOD, "gt must hold bool"),
        (np.full((2, 4, 5), -1), GOOD, "gt must hold bool"),
        (np.full((2, 4, 5), 2), np.full((2, 4, 5), 2), "pred must hold bool"),
        (np.zeros((2, 3, 4, 5)), GOOD, r"gt must be \[T, H, W\]"),
        (np.zeros((2, 0, 5)), np.zeros((2, 0, 5)), "at least one pixel"),
        (np.full((2, 4, 5), "a"), GOOD, "gt must be an array"),
    ],
)
def test_bad_masks_are_named(gt, pred, message):
    for metric in (metrics.region_similarity, metrics.contour_accuracy, metrics.pixel_accuracy):
        with pytest.raises(ValueError, match=message):
            metric(gt, pred)


def test_bad_legacy_values_and_tolerances_are_named():
    with pytest.raises(ValueError, match="pred must hold whole numbers"):
        metrics.pixel_accuracy(GOOD, np.full(GOOD.shape, 0.5), legacy=True)
    with pytest.raises(ValueError, match="foreground must hold 0 to 255, got 256"):
        metrics.robustness(GOOD, GOOD, np.full(GOOD.shape, 256), legacy=True)
    for tolerance in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="tolerance must be"):
            metrics.contour_accuracy(GOOD, GOOD, tolerance=tolerance)


def test_no_frames_give_no_values():
    for metric in (metrics.region_similarity, metrics.contour_accuracy, metrics.pixel_accuracy):
        assert metric(GOOD[:0], GOOD[:0]).shape == (0,)
