"""Peaks of attention: which cells become points, where they lie in a frame, and maps without any."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visa.steerseg.points import Peak, PointSettings, find_peaks

SETTINGS = PointSettings(threshold=0.8, radius=1, per_frame=5)


def attention(cells: dict[tuple[int, int, int], float], shape=(3, 6, 8)) -> torch.Tensor:
    """A map that is 0 but for the given (keyframe, row, col)."""
    maps = torch.zeros(shape)
    for place, value in cells.items():
        maps[place] = value
    return maps


def places(peaks: list[Peak]) -> list[tuple[int, int, int]]:
    return [(peak.keyframe, peak.row, peak.col) for peak in peaks]


def test_peaks_reach_the_threshold_and_come_strongest_first():
    found = find_peaks(
        attention({(0, 1, 1): 0.85, (0, 4, 6): 0.9, (1, 2, 2): 1.0, (2, 0, 0): 0.79}), SETTINGS
    )
    assert places(found) == [(1, 2, 2), (0, 4, 6), (0, 1, 1)]
    assert [round(peak.value, 2) for peak in found] == [1.0, 0.9, 0.85]


def test_neighbours_of_a_peak_are_no_peaks():
    maps = attention({(0, 2, 2): 1.0, (0, 2, 3): 0.95, (0, 3, 3): 0.9, (0, 2, 4): 0.93})
    assert places(find_peaks(maps, SETTINGS)) == [(0, 2, 2)]
    everything = PointSettings(threshold=0.8, radius=0, per_frame=5)
    assert places(find_peaks(maps, everything)) == [(0, 2, 2), (0, 2, 3), (0, 2, 4), (0, 3, 3)]


def test_a_plateau_gives_points_that_keep_their_distance():
    maps = torch.zeros(1, 6, 8)
    maps[0, 1:5, 1:7] = 1
    found = find_peaks(maps, PointSettings(threshold=0.8, radius=2, per_frame=50))
    assert places(found) == [(0, 1, 1), (0, 1, 4), (0, 4, 1), (0, 4, 4)]


def test_at_most_so_many_of_a_keyframe():
    maps = attention({(0, 0, col): 0.8 + col / 100 for col in range(0, 8, 2)} | {(1, 3, 3): 0.9})
    found = find_peaks(maps, PointSettings(threshold=0.8, radius=1, per_frame=2))
    assert places(found) == [(1, 3, 3), (0, 0, 6), (0, 0, 4)]


def test_without_a_cell_above_the_threshold_the_highest_of_all_is_taken():
    maps = attention({(0, 1, 1): 0.3, (2, 5, 7): 0.5})
    assert find_peaks(maps, SETTINGS) == [Peak(2, 5, 7, 0.5)]


@pytest.mark.parametrize(
    "maps",
    [
        torch.zeros(2, 3, 4),
        torch.ones(2, 3, 4),
        torch.full((2, 3, 4), torch.nan),
        torch.tensor([[[0.1, torch.nan], [1.0, 0.2]]]),
        torch.zeros(0, 3, 4),
    ],
)
def test_nothing_stands_out_of_a_flat_or_broken_map(maps):
    assert find_peaks(maps, SETTINGS) == []


@given(
    seed=st.integers(0, 1000),
    threshold=st.floats(0, 1),
    radius=st.integers(0, 3),
    per_frame=st.integers(1, 6),
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_what_holds_of_all_peaks(seed, threshold, radius, per_frame, grid):
    maps = torch.rand(3, *grid, generator=torch.Generator().manual_seed(seed))
    found = find_peaks(maps, PointSettings(threshold, radius, per_frame))
    assert found
    assert found[0].value == maps.max()
    assert [peak.value for peak in found] == sorted((peak.value for peak in found), reverse=True)
    for peak in found:
        assert peak.value == maps[peak.keyframe, peak.row, peak.col]
        assert peak.value >= threshold or len(found) == 1
        others = [other for other in found if other.keyframe == peak.keyframe and other is not peak]
        assert len(others) < per_frame
        assert all(max(abs(peak.row - o.row), abs(peak.col - o.col)) > radius for o in others)


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (37, 1001)])
def test_points_are_the_centres_of_cells_of_the_whole_frame(size):
    """Portrait as well as landscape: (x, y), in pixels of the video."""
    height, width = size
    assert Peak(0, 0, 0, 1.0).place((2, 4), size) == (width / 8, height / 4)
    assert Peak(0, 1, 3, 1.0).place((2, 4), size) == (width * 7 / 8, height * 3 / 4)


@pytest.mark.parametrize("wrong", [{"threshold": 2}, {"radius": -1}, {"per_frame": 0}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PointSettings(**{"threshold": 0.8, "radius": 1, "per_frame": 5} | wrong)
