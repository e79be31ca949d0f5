"""A part of a field, or of a map on nodes, is that field or map, to the bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tar_engine.fields.field import ControlLattice, Field
from tar_engine.fields.nodes import NODE_PX, NodeMap

SIDE_PX = 900
RANDOM = np.random.default_rng(0)
LATTICE = ControlLattice(3, -5, NODE_PX, 30, 25)  # begins right of the window, ends above its end
BENT = Field("smooth", np.eye(2, 3), LATTICE, RANDOM.normal(0, 3, (2, 30, 25)))
NODES = NodeMap(RANDOM.random((39, 39), np.float32))

Interval = tuple[int, int]


@st.composite
def nested(draw: st.DrawFn) -> tuple[Interval, Interval]:
    """Two intervals (first, size) of pixels, the second in the first."""
    a, b, c, d = sorted(draw(st.lists(st.integers(0, SIDE_PX), min_size=4, max_size=4)))
    return (a, d - a + 1), (b, c - b + 1)


@given(x=nested(), y=nested())
def test_a_window_needs_no_more_of_a_field_than_its_cut(
    x: tuple[Interval, Interval], y: tuple[Interval, Interval]
) -> None:
    ((x0, width), (inner_x0, inner_width)), ((y0, height), (inner_y0, inner_height)) = x, y
    cut = BENT.within(x0, y0, width, height)
    inner = inner_x0, inner_y0, inner_width, inner_height
    assert np.array_equal(cut.displacement(*inner), BENT.displacement(*inner))
    corners = np.array([[x0, y0], [x0 + width - 1, y0 + height - 1]], float)
    assert np.array_equal(cut.at(corners), BENT.at(corners))
    assert cut.control is not None
    assert cut.control.shape[1] <= height / NODE_PX + 7
    assert cut.control.shape[2] <= width / NODE_PX + 7


@given(x=nested(), y=nested())
def test_a_window_needs_no_more_of_a_map_than_its_cut(
    x: tuple[Interval, Interval], y: tuple[Interval, Interval]
) -> None:
    ((x0, width), (inner_x0, inner_width)), ((y0, height), (inner_y0, inner_height)) = x, y
    cut = NODES.within(x0, y0, width, height)
    inner = inner_x0, inner_y0, inner_width, inner_height
    assert np.array_equal(cut.on_window(*inner), NODES.on_window(*inner))
    assert cut.values.shape[0] <= height / NODE_PX + 3
    assert cut.values.shape[1] <= width / NODE_PX + 3


def test_a_field_without_control_points_is_its_own_cut() -> None:
    shift = Field("shift", np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]]))
    assert shift.within(10, 10, 50, 50) is shift
