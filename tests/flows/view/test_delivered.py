"""SAR moved back: the displacement undone, wherever it is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flows.view.delivered import moved_back

SIDE = 96
WITHIN = np.s_[20:-20, 20:-20]  # what nothing beyond the edge moves into

Floats = NDArray[np.float32]


def ground(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Floats:
    """What a radar delivers at a place: smooth, so that interpolation errs little."""
    seen = np.sin(rows / 7.0) + np.cos(columns / 9.0) + np.sin((rows + columns) / 11.0)
    return seen.astype(np.float32)


def displacement(shift: float, swing: float, phase: float) -> Floats:
    """A shift, and a swing that changes by 0.3 px a pixel at most."""
    rows, columns = np.indices((SIDE, SIDE))
    field = shift + swing * np.sin((rows + 2 * columns) / 25.0 + phase)
    return field.astype(np.float32)


@given(
    *[st.floats(-8, 8) for _ in range(2)],
    *[st.floats(-3, 3) for _ in range(2)],
    st.floats(0, 6),
)
def test_what_was_registered_is_where_it_was_delivered(
    shift_x: float, shift_y: float, swing_x: float, swing_y: float, phase: float
) -> None:
    dx, dy = displacement(shift_x, swing_x, phase), displacement(shift_y, swing_y, phase + 1)
    rows, columns = np.indices((SIDE, SIDE), dtype=np.float64)
    registered = ground(rows + dy, columns + dx)
    moved = moved_back(registered, dx, dy)
    np.testing.assert_allclose(moved[WITHIN], ground(rows, columns)[WITHIN], atol=0.04)


def test_nothing_moved_stays_as_it_is() -> None:
    registered = np.random.default_rng(0).random((40, 30)).astype(np.float32)
    none = np.zeros_like(registered)
    np.testing.assert_array_equal(moved_back(registered, none, none), registered)


def test_what_is_not_known_moves_along() -> None:
    """A hole in registered SAR is a hole as delivered, as far away as all the rest was moved."""
    rows, columns = np.indices((40, 40), dtype=np.float64)
    registered = ground(rows, columns)
    registered[10:20, 10:20] = np.nan
    three = np.full_like(registered, 3.0)
    moved = moved_back(registered, three, np.zeros_like(three))
    hole = np.zeros((40, 40), bool)
    hole[10:20, 13:23] = True
    hole[:, :3] = True  # what lies there comes from beyond the edge
    np.testing.assert_array_equal(np.isnan(moved), hole)


def test_where_nothing_was_registered_nothing_is_shown() -> None:
    unknown = np.full((8, 8), np.nan, np.float32)
    assert np.isnan(moved_back(unknown, unknown, unknown)).all()
