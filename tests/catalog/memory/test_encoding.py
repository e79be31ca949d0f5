"""Packing keeps numbers to its steps, and refuses what it cannot keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from catalog.errors import ArgumentError
from catalog.memory.encoding import VARIABLES, codes_from_db, db_from_codes, pack
from tests.support.memories import made_field

DECIBELS = st.floats(-50, 51.5, width=32) | st.just(np.nan)


@given(arrays_of.arrays(np.float32, st.integers(0, 20), elements=DECIBELS))
def test_decibels_are_kept_to_half_a_step(decibels: np.ndarray) -> None:
    codes = codes_from_db(decibels)
    again = db_from_codes(codes)
    assert codes.dtype == np.uint8
    assert again.dtype == np.float32
    assert np.array_equal(np.isnan(again), np.isnan(decibels))
    np.testing.assert_allclose(again, decibels, atol=0.5001)
    assert np.array_equal(codes_from_db(again), codes)


def test_what_is_darker_or_brighter_than_any_ground_is_still_data() -> None:
    assert codes_from_db(np.array([-np.inf, -300.0, 300.0, np.inf])).tolist() == [1, 1, 255, 255]


def test_a_field_is_kept_to_half_a_step_and_an_error_is_never_none() -> None:
    field = made_field()
    field["error"][0, 0], field["error"][0, 1] = 0.0, 1e-9
    packed = pack(field)
    assert packed["error"][0, :2].tolist() == [1, 1]
    for name in ("dx", "day_dy", "day_error"):
        kind = VARIABLES[name]
        codes = packed[name]
        unpacked = np.where(codes == kind.fill, np.nan, codes * (kind.scale or 1))
        np.testing.assert_allclose(unpacked, field[name].values, atol=0.0051)


@pytest.mark.parametrize("value", [-327.68, 400.0, np.inf])
def test_a_displacement_that_cannot_be_kept_is_refused_by_name(value: float) -> None:
    field = made_field()
    field["day_dx"][0, 0, 0] = value
    with pytest.raises(ArgumentError, match="day_dx") as caught:
        pack(field)
    assert caught.value.argument == "field"


def test_other_variables_or_dimensions_are_refused() -> None:
    field = made_field()
    with pytest.raises(ArgumentError, match="a memory holds dx, dy"):
        pack(field.drop_vars("count"))
    with pytest.raises(ArgumentError, match="dimensions"):
        pack(field.assign(dx=field["dx"].T))
    with pytest.raises(ArgumentError, match="it has no generation"):
        pack(field.drop_vars("generation"))
    with pytest.raises(ArgumentError, match="it has no day"):
        pack(field.isel(day=slice(0)))
