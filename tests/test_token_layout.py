"""Where frames stand in a sequence: cells of a span with and without tokens between the rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.mllm.layout import FrameSpan


@given(st.integers(0, 50), st.integers(1, 7), st.integers(1, 7), st.integers(0, 3))
def test_positions_are_the_cells_row_by_row(start, rows, cols, gap):
    span = FrameSpan(start, rows, cols, row_stride=cols + gap)
    positions = span.positions().tolist()
    # A ruler: the rows laid out one after another, each with its gap.
    ruler = [(r, c) for r in range(rows) for c in [*range(cols), *[None] * gap]]
    assert [ruler[p - start] for p in positions] == [(r, c) for r in range(rows) for c in range(cols)]
    assert span.stop == positions[-1] + 1


def test_rows_without_a_gap_are_what_a_span_is_by_default():
    assert FrameSpan(3, 2, 4) == FrameSpan(3, 2, 4, row_stride=4)
    assert FrameSpan(3, 2, 4).positions().tolist() == list(range(3, 11))
    assert FrameSpan(3, 2, 4).shows == ()


def test_a_stride_shorter_than_a_row_is_refused():
    with pytest.raises(ValueError, match="5 cells to a row"):
        FrameSpan(0, 2, 5, row_stride=4)
