"""The schema: what is declared is what is created, stored and opened, and costs no memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.store.schema import FLAG_FILLS, SlotSchema, is_flag
from tests.support.scenes import NOON, same
from tests.support.slots import LATTICE, SCHEMA, slot_store


@pytest.mark.parametrize("classes", [False, True])
def test_what_is_declared_is_what_is_stored_and_opened(tmp_path: Path, classes: bool) -> None:
    schema = replace(SCHEMA, classes=classes)
    store = slot_store(tmp_path)
    store.create(LATTICE, schema, {})
    declared, opened = schema.empty(LATTICE.shape), store.open()
    assert set(opened) == set(declared)
    assert ("optical_class" in declared) == classes
    for name, variable in declared.items():
        assert opened[name].dims == variable.dims
        assert opened[name].attrs == variable.attrs
        assert same(opened[name].values, variable.values)
    for factor in (1, *store.overview_factors()):
        for name, array in store.pixels("r", factor).items():
            encoding = declared[name].encoding
            assert array.dtype == encoding["dtype"]
            assert np.array_equal(array.fill_value, encoding["_FillValue"], equal_nan=True)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(["red", "green", "nir"]), unique=True),
    st.lists(st.sampled_from(["vv", "vh"]), unique=True),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_every_slot_is_empty_until_a_copy_is_written(
    optical: list[str],
    sar: list[str],
    sar_scenes: int,
    optical_scenes: int,
    classes: bool,
    shape: tuple[int, int],
) -> None:
    seen, shown = ({f"s{n}": NOON for n in range(many)} for many in (sar_scenes, optical_scenes))
    schema = SlotSchema(tuple(optical), tuple(sar), seen, shown, classes)
    empty = schema.empty(shape)
    assert list(empty)[: len(optical) + len(sar)] == [*optical, *sar]
    canvas = empty.copy(deep=True)
    for name, variable in canvas.items():
        assert variable.shape == shape
        if is_flag(variable):
            assert (variable == FLAG_FILLS[name]).all()
            assert len(variable.attrs["flag_values"]) == len(
                variable.attrs["flag_meanings"].split()
            )
        else:
            assert variable.dtype == np.float32
            assert np.isnan(variable).all()
        variable.values[0, 0] = 1
        assert canvas[name].values[0, 0] == 1
        assert not (empty[name] == 1).any()
    assert canvas["sar_scene"].attrs["flag_values"] == list(range(sar_scenes + 1))
    assert canvas["optical_scene"].attrs["flag_values"] == list(range(optical_scenes + 1))


def test_an_empty_slot_takes_no_memory() -> None:
    huge = SCHEMA.empty((10**6, 10**6))
    assert all(variable.values.strides == (0, 0) for variable in huge.values())
