"""Widening by a disc: in few steps, exactly as its definition, at every radius and size."""

import math

import numpy as np
import pytest

from visa.metrics.bit_planes import BitPlanes
from visa.metrics.disc import MAX_STEPPED_RADIUS, steps_of_disc, within

RADII = [0, 1, 1.5, 2, 2.5, 3, 4, 5, 5.9, 6, 7, 8, 9, 10, 12, 18, 32, 33, 40.5]


def widened(mask, radius):
    points = np.argwhere(mask)
    rows, columns = np.indices(mask.shape)
    out = np.zeros(mask.shape, bool)
    for row, column in points:
        out |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return out


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (17, 9), (40, 61), (64, 8)])
def test_it_is_its_definition(radius, shape):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < 0.02
    mask[0, 0] = mask[-1, -1] = True
    (planes,) = BitPlanes.pack_alike([mask], math.floor(radius))
    np.testing.assert_array_equal(planes.unpack(), mask)
    near = BitPlanes(within(planes, radius), planes.height, planes.width).unpack()
    np.testing.assert_array_equal(near, widened(mask, radius))


def test_a_disc_of_a_point_is_made_in_few_steps():
    assert len(steps_of_disc(8)) == 11
    for radius in range(1, int(MAX_STEPPED_RADIUS) + 1):
        assert len(steps_of_disc(radius)) < 2.7 * radius + 10


def test_columns_without_pixels_are_left_out():
    masks = np.zeros((2, 20, 200), bool)
    masks[0, 4:9, 100:110] = True
    masks[1, 4:9, 103:115] = True
    first, second = BitPlanes.pack_alike(list(masks), 3)
    assert first.width == second.width == 17
    assert first.packed.shape[1] % 8 == 0
    assert (first.count(), second.count()) == (50, 60)
    assert first.count(second.packed) == 35
