"""How well a map points, and the loss that makes it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.mllm.layout import FrameSpan, TokenLayout
from visa.training.steering.items import shares_of
from visa.training.steering.map_quality import map_quality, mean_quality
from visa.training.steering.objective import steering_losses, stretched

MASK = np.zeros((4, 6))
MASK[1:3, 2:4] = 1.0
HEAT = st.integers(0, 30).map(lambda value: value / 10)


def test_a_perfect_map_and_its_opposite() -> None:
    perfect, opposite = map_quality(3 + 2 * MASK, MASK), map_quality(1 - MASK, MASK)
    assert (perfect.iou, perfect.auc, perfect.peak) == (1.0, 1.0, 1.0)
    assert (opposite.iou, opposite.auc, opposite.peak) == (0.0, 0.0, 0.0)
    flat = map_quality(np.full_like(MASK, 0.3), MASK)
    assert (flat.iou, flat.auc) == (0.0, 0.5)
    assert flat.peak == pytest.approx(4 / 24)  # what guessing hits


def test_figures_worked_out_by_hand() -> None:
    quality = map_quality(np.array([0.0, 1.0, 0.5, 0.25]), np.array([0.0, 0.5, 1.0, 0.0]))
    assert quality.iou == pytest.approx((0.5 + 0.5) / (1.0 + 1.0 + 0.25))
    # Inside: 0.5 at heat 1, 1 at 0.5. Outside: 1 at 0, 0.5 at heat 1, 1 at 0.25; a tie counts half.
    assert quality.auc == pytest.approx((0.5 * (2 + 0.25) + 1 * 2) / (1.5 * 2.5))
    assert quality.peak == pytest.approx(0.5)


@given(arrays.arrays(float, (4, 6), elements=HEAT), st.integers(1, 9), st.integers(-5, 5))
@settings(max_examples=60, deadline=None)
def test_scale_and_offset_do_not_matter_and_auc_counts_pairs(heat, scale, offset) -> None:
    quality = map_quality(heat, MASK)
    moved = map_quality(scale * heat + offset, MASK)
    inside, outside = heat[MASK > 0], heat[MASK == 0]
    pairs = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    assert quality.auc == pytest.approx(pairs)
    assert (moved.iou, moved.auc) == pytest.approx((quality.iou, quality.auc))


@pytest.mark.parametrize(
    ("heat", "mask", "message"),
    [
        (MASK[:2], MASK, "of one size, not 12 and 24 cells"),
        (np.full_like(MASK, np.nan), MASK, "must be finite"),
        (MASK, MASK * 0, "something and not everything"),
        (MASK, MASK * 0 + 1, "something and not everything"),
        (MASK, MASK * 2, "shares"),
    ],
)
def test_what_has_no_quality_is_refused(heat, mask, message) -> None:
    with pytest.raises(ValueError, match=message):
        map_quality(heat, mask)


def test_mean_quality() -> None:
    mean = mean_quality([map_quality(MASK, MASK), map_quality(1 - MASK, MASK)])
    assert (mean.iou, mean.auc, mean.peak) == (0.5, 0.5, 0.5)
    assert np.isnan(mean_quality([]).iou)


def test_the_loss_wants_heat_on_the_mask_alone() -> None:
    mask = torch.from_numpy(MASK).float().flatten()[None]
    worse, better = torch.rand(1, 24, generator=torch.Generator().manual_seed(0)), mask * 0.9 + 0.05
    for one, other in zip(steering_losses(better, mask), steering_losses(worse, mask), strict=True):
        assert one < other
    bce, dice = steering_losses(better, mask)
    assert bce < 1e-3
    assert dice < 1e-6
    torch.testing.assert_close(
        torch.stack(steering_losses(worse * 7e-6, mask)), torch.stack(steering_losses(worse, mask))
    )


def test_a_thing_smaller_than_a_cell_covers_its_cell() -> None:
    mask = torch.zeros(1, 24)
    mask[0, 7] = 0.1
    peak = torch.zeros(1, 24).index_fill(1, torch.tensor([7]), 0.2)
    bce, dice = steering_losses(peak, mask)
    assert bce < 1e-3
    assert dice < 1e-6


def test_gradients_pass_the_maximum_and_a_flat_map_gives_none_that_is_not_finite() -> None:
    maps = torch.rand(2, 24, requires_grad=True, generator=torch.Generator().manual_seed(0))
    mask = torch.from_numpy(MASK).float().flatten().expand(2, -1)
    sum(steering_losses(maps, mask)).backward()
    assert maps.grad.abs().sum(1).min() > 0
    assert maps.grad[0, maps[0].argmax()] != 0
    flat = torch.full((1, 24), 1e-3, requires_grad=True)
    sum(steering_losses(flat, mask[:1])).backward()
    assert flat.grad.isfinite().all()
    assert not stretched(torch.full((1, 5), 2.0)).any()


def test_shares_follow_the_layout() -> None:
    masks = torch.zeros(1, 3, 8, 12)
    masks[0, 0, :4, :6], masks[0, 1, :4, :3], masks[0, 2] = 1, 1, 1
    alone = TokenLayout(50, tuple(FrameSpan(4 + 6 * k, 2, 3) for k in range(3)), ())
    shares = shares_of(masks, alone)
    assert shares.shape == (1, 3, 2, 3)
    assert shares[0, 0].tolist() == [[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]
    # Temporal patches of two frames; the last shows the third frame and its repetition.
    pairs = TokenLayout(50, (FrameSpan(4, 2, 3, shows=(0, 1)), FrameSpan(10, 2, 3, shows=(2, 3))), ())
    shares = shares_of(masks, pairs)
    assert shares[0, 0].tolist() == [[0.875, 0.25, 0.0], [0.0, 0.0, 0.0]]
    assert shares[0, 1].eq(1).all()
