"""Which tracklet the attention means: correlation, several objects, nothing at all, and arg-max beside it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visa.steerseg.maps import AttentionMaps
from visa.steerseg.ranking import RankingSettings, consistency, cover, cover_of_steps, pearson, rank

KEYFRAMES, HEIGHT, WIDTH = 5, 48, 80
SHOWS = ((0, 1), (2, 3), (4,))
SETTINGS = {
    "rule": "pearson",
    "frame_weight": 0.3,
    "max_objects": 1,
    "max_overlap": 0.3,
    "share_of_best": 0.9,
    "absent_below": 0.15,
}


def box(left: int, top: int, side: int = 16, drift: int = 0, keyframes=range(KEYFRAMES)) -> np.ndarray:
    """A tracklet: a square that drifts to the right."""
    masks = np.zeros((KEYFRAMES, HEIGHT, WIDTH), bool)
    for k in keyframes:
        masks[k, top : top + side, left + drift * k : left + drift * k + side] = True
    return masks


def maps_on(masks: np.ndarray, noise: float = 0.2, seed: int = 0) -> AttentionMaps:
    """Maps that are high where the masks are, on grids of 6 x 10 and 3 x 5 cells, with noise."""
    generator = torch.Generator().manual_seed(seed)
    frame, video = cover(masks, (6, 10)), cover_of_steps(cover(masks, (3, 5)), SHOWS)
    frame = frame + noise * torch.rand(frame.shape, generator=generator)
    return AttentionMaps(frame, video + noise * torch.rand(video.shape, generator=generator), SHOWS)


def verdict(tracklets, maps, **changes):
    return rank(tracklets, maps, maps.frame, RankingSettings(**SETTINGS | changes))


@given(seed=st.integers(0, 100), scale=st.floats(1e-6, 1e6), shift=st.floats(-3, 3))
def test_correlation_does_not_see_scale_and_shift(seed, scale, shift):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.rand(2, 3, 4, 5, generator=generator)
    same = pearson((one.double() + shift) * scale, other)
    assert same == pytest.approx(pearson(one, other), abs=1e-6)
    assert pearson(-one, other) == pytest.approx(-pearson(one, other), abs=1e-6)
    assert pearson(one, other) == pytest.approx(np.corrcoef(one.flatten(), other.flatten())[0, 1], abs=1e-6)


@given(value=st.floats(-1e6, 1e6), seed=st.integers(0, 100))
def test_correlation_with_a_constant_is_nothing(value, seed):
    other = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed))
    constant = torch.full((3, 4, 5), value)
    assert pearson(constant, other) == pearson(other, constant) == pearson(constant, constant) == 0


def test_correlation_of_what_is_not_finite_is_nothing():
    other = torch.rand(2, 3, 4)
    assert pearson(torch.full((2, 3, 4), torch.nan), other) == 0
    assert pearson(other, torch.full((2, 3, 4), torch.inf)) == 0


@given(left=st.integers(0, 48), top=st.integers(0, 30), drift=st.integers(-2, 4), seed=st.integers(0, 50))
def test_the_planted_object_wins(left, top, drift, seed):
    left = max(left, -drift * KEYFRAMES)
    planted = box(left, top, drift=min(drift, (WIDTH - 16 - left) // KEYFRAMES))
    rivals = [np.roll(planted, shift, axis=(1, 2)) for shift in ((20, 0), (0, 30), (20, 30))]
    rivals += [np.ones_like(planted), box(left, top, side=4)]
    result = verdict([*rivals, planted], maps_on(planted, seed=seed))
    assert result.winners == (5,)
    assert result.score == result.scores[5] == max(result.scores) > 0.5


def test_area_counts_and_time_counts():
    planted = box(20, 10, drift=3)
    maps = maps_on(planted, noise=0.05)
    still, whole = box(20, 10), np.ones_like(planted)
    vanishing = box(20, 10, drift=3, keyframes=range(2))
    result = verdict([still, whole, vanishing, planted], maps)
    assert result.winners == (3,)
    assert result.scores[1] == 0
    assert 0 < result.scores[2] < result.scores[3]


def test_the_streams_weights():
    planted, other = box(0, 0), box(48, 30)
    maps = AttentionMaps(maps_on(planted).frame, maps_on(other).video, SHOWS)
    assert verdict([planted, other], maps, frame_weight=1.0).winners == (0,)
    assert verdict([planted, other], maps, frame_weight=0.0).winners == (1,)
    assert verdict([planted, other], maps, frame_weight=0.3).winners == (1,)
    thirty = consistency(planted, maps, 0.3)
    assert thirty == pytest.approx(
        0.3 * consistency(planted, maps, 1.0) + 0.7 * consistency(planted, maps, 0.0)
    )


def test_several_objects_where_their_union_agrees_better():
    two = [box(0, 0), box(48, 28)]
    maps = maps_on(two[0] | two[1], noise=0.05)
    nested = box(2, 2, side=12)
    tracklets = [two[0], nested, two[1], box(40, 0)]
    assert sorted(verdict(tracklets, maps, max_objects=4, share_of_best=0.5).winners) == [0, 2]
    assert len(verdict(tracklets, maps, max_objects=1).winners) == 1
    alone = maps_on(two[0], noise=0.05)
    assert verdict(tracklets, alone, max_objects=4, share_of_best=0.0).winners == (0,)


def test_what_agrees_with_nothing_is_not_there():
    tracklets = [box(0, 0), box(48, 28)]
    noise = AttentionMaps(torch.rand(5, 6, 10), torch.rand(3, 3, 5), SHOWS)
    result = verdict(tracklets, noise, absent_below=0.5)
    assert result.winners == ()
    assert result.score == max(result.scores) < 0.5
    assert verdict(tracklets, noise, absent_below=None).winners != ()
    flat = AttentionMaps(torch.zeros(5, 6, 10), torch.zeros(3, 3, 5), SHOWS)
    assert verdict(tracklets, flat).winners == ()
    assert verdict([], noise).winners == ()


def test_argmax_takes_what_lies_under_the_highest_cell():
    small, large = box(64, 16, side=8), box(0, 0, side=40)
    maps = maps_on(large, noise=0.05)
    maps.frame[2, 2, 8] = 5.0  # one cell on the small thing
    assert verdict([large, small], maps, rule="argmax").winners == (1,)
    assert verdict([large, small], maps).winners == (0,)


@given(grid=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 50))
def test_cells_are_covered_by_the_share_of_their_pixels(grid, seed):
    masks = np.random.default_rng(seed).random((2, 37, 53)) < 0.4
    covered = cover(masks, grid)
    assert covered.shape == (2, *grid)
    assert covered.min() >= 0
    assert covered.max() <= 1
    if 37 % grid[0] == 0 and 53 % grid[1] == 0:
        assert covered.mean((1, 2)).tolist() == pytest.approx(masks.mean((1, 2)), abs=1e-6)
    assert cover(np.ones_like(masks), grid).min() == 1


def test_a_step_is_covered_by_the_mean_of_its_keyframes():
    covered = torch.tensor([0.0, 1.0, 0.5, 0.25, 0.75])[:, None, None].expand(5, 2, 2)
    assert cover_of_steps(covered, SHOWS)[:, 0, 0].tolist() == [0.5, 0.375, 0.75]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "best"},
        {"frame_weight": -0.1},
        {"max_overlap": 1.1},
        {"share_of_best": 2},
        {"max_objects": 0},
        {"absent_below": 3},
    ],
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RankingSettings(**SETTINGS | wrong)
