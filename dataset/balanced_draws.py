"""Draws that every process makes alike without talking to the others.

VISA's ``--balance_sample``: in each step all ranks take a sample of the same kind (and the same number of
frames), so that none waits for another. A tiny congruential generator gives the list; it repeats after 256
draws, in which every value has its share to the nearest 256th.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

Value = TypeVar("Value")


def balanced_draws(values: Sequence[Value], probabilities: Sequence[float], length: int) -> list[Value]:
    """``length`` draws from ``values``, the same in every call.

    Args:
        values: what can be drawn.
        probabilities: of each value, together 1.
        length: number of draws, >= 0.

    Raises:
        ValueError: no value, not one probability for each, or they do not make 1.
    """
    if not values or len(values) != len(probabilities) or min(probabilities) < 0:
        raise ValueError(
            f"balanced draws need a probability for each value, got {len(values)} and {list(probabilities)}"
        )
    if abs(sum(probabilities) - 1) > 1e-6:
        raise ValueError(f"probabilities must make 1, got {sum(probabilities)}")
    bounds = list(accumulate(probabilities))[:-1]
    state, drawn = 0, []
    for _ in range(length):
        state = (1103515245 * state + 12345) % 256
        drawn.append(values[sum(state / 256 >= bound for bound in bounds)])
    return drawn
