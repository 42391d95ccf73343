"""Everything within a radius of a mask's pixels, in few steps.

A digital disc is a convex polygon whose edges come in opposite pairs, so it is the sum of its edges: moving
the mask along one edge, uniting it with itself and going on with the next edge makes the polygon, and the
points that such sums leave out are united one by one. For a radius of 8 pixels that takes 11 unions, where
the disc's rows take 25 and its points 197.

Source: that a polygon of this kind (a zonotope) is a sum of segments is in any text on convex geometry, such
as Ziegler, "Lectures on Polytopes", ch. 7.

Legend: H W pixels; (x, y) steps, y downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from visa.metrics.bit_planes import BitPlanes, pack_rows

# Beyond this, planning the steps takes too long for what it saves; 32 is the tolerance of a frame of 8K.
MAX_STEPPED_RADIUS = 32.0

Point = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """One union: of what there is with itself, moved, or (`whole` False) with the mask itself, moved.

    Attributes:
        by: (x, y) from where the pixels are taken; y is 0 or more.
        whole: See above.
    """

    by: Point
    whole: bool


def within(planes: BitPlanes, radius: float) -> NDArray[np.uint8]:
    """The pixels at most `radius` from one that is set, packed alike.

    Args:
        planes: The mask; with floor(radius) empty columns beside it if the radius is no more than
            `MAX_STEPPED_RADIUS`.
        radius: In pixels, 0 or more.
    """
    rows, stride = planes.packed.shape
    if radius > MAX_STEPPED_RADIUS:
        from scipy.ndimage import distance_transform_edt

        return pack_rows(distance_transform_edt(~planes.unpack()) <= radius, stride)
    reach = math.floor(radius)
    # Each union looks ahead only; the steps add up to twice the disc's half sides, (x, y).
    overhang = sum(step.by[0] for step in steps_of_disc(radius) if step.whole) // 2
    mask = planes.above_and_below(reach).reshape(-1)
    if overhang:
        mask = np.pad(mask, overhang)
    united = mask
    for step in steps_of_disc(radius):
        ahead = step.by[1] * stride + step.by[0]
        if step.whole:
            united = united[:-ahead] | united[ahead:]
        else:
            united |= mask[ahead : ahead + united.size]
    return united.reshape(rows, stride)


@lru_cache(maxsize=64)
def steps_of_disc(radius: float) -> tuple[Step, ...]:
    """The unions that make x² + y² <= radius² out of a single point, its upper left corner going first."""
    moves = [
        (x * length, y * length)
        for x, y, times in sorted(_edges(radius), key=lambda edge: (edge[0] ** 2 + edge[1] ** 2, edge))
        for length in _doubling(times)
    ]
    # later[k]: what the moves from k on make of a point
    later: list[set[Point]] = [{(0, 0)}]
    for move in reversed(moves):
        later.append(later[-1] | _moved(later[-1], move))
    later.reverse()
    made, shape = set(later[0]), {(0, 0)}
    steps: list[Step] = []
    for number, move in enumerate(moves, start=1):
        shape |= _moved(shape, move)
        steps.append(Step(move, whole=True))
        for hole in sorted(_sum_of_segments(moves[:number]) - shape):
            filled = _moved(later[number], hole)
            if not filled <= made:
                made |= filled
                shape.add(hole)
                steps.append(Step(hole, whole=False))
    return tuple(steps)


def _edges(radius: float) -> list[tuple[int, int, int]]:
    """Half of the edges of the disc's convex hull, as (x, y, times) with the smallest whole x and y."""
    half_widths = [math.isqrt(math.floor(radius**2 - y * y)) for y in range(math.floor(radius) + 1)]
    corners: list[Point] = []
    for y in range(len(half_widths) - 1, -1, -1):
        point = (half_widths[y], y)
        while len(corners) > 1 and _turns_in(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    edges = [(1, 0, 2 * half_widths[-1])] if half_widths[-1] else []
    for (left, top), (right, bottom) in pairwise(corners):
        x, y = right - left, top - bottom
        times = math.gcd(x, y)
        if x:
            edges += [(x // times, y // times, times), (-x // times, y // times, times)]
        else:
            edges.append((0, 1, 2 * times))
    return edges


def _turns_in(first: Point, second: Point, third: Point) -> bool:
    return (second[0] - first[0]) * (third[1] - second[1]) >= (second[1] - first[1]) * (third[0] - second[0])


def _doubling(times: int) -> list[int]:
    """Lengths of moves that make a run of `times` + 1 points."""
    lengths, length = [], 1
    while length <= times:
        lengths.append(min(length, times + 1 - length))
        length += lengths[-1]
    return lengths


def _moved(points: set[Point], by: Point) -> set[Point]:
    return {(x + by[0], y + by[1]) for x, y in points}


def _sum_of_segments(moves: list[Point]) -> set[Point]:
    """All whole points of the polygon that is the sum of the segments from (0, 0) to each move."""
    columns, rows = (
        range(sum(min(0, move[axis]) for move in moves), sum(max(0, move[axis]) for move in moves) + 1)
        for axis in (0, 1)
    )
    bounds = []
    for x, y in set(moves):
        for normal in ((y, -x), (-y, x)):
            bounds.append((normal, sum(max(0, normal[0] * u + normal[1] * v) for u, v in moves)))
    return {(x, y) for x in columns for y in rows if all(a * x + b * y <= limit for (a, b), limit in bounds)}
