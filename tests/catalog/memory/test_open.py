"""What analysts see of what a region remembers."""

from __future__ import annotations

from pathlib import Path

import dask.array
import numpy as np
import pytest

import catalog
from catalog.errors import StoreError
from catalog.memory.encoding import db_from_codes
from catalog.memory.geometry import Geometry
from tests.support.memories import (
    DAYS,
    FIRST_VERSION,
    SECOND_VERSION,
    committed,
    made_reference,
    memory_store,
    write_version,
)
from tests.support.slots import LATTICE


def test_a_tree_shows_the_version_in_use_of_every_memory(tmp_path: Path) -> None:
    store = committed(tmp_path, (FIRST_VERSION, SECOND_VERSION))
    begun = memory_store(tmp_path, geometry=Geometry("descending", 7, "rtc"))
    write_version(begun, FIRST_VERSION)  # by a run that has not committed it yet
    tree = catalog.open_memory(f"{tmp_path}/la/")
    assert list(tree.children) == [store.name]
    field = tree[store.name]
    assert field.attrs["version"] == SECOND_VERSION
    assert field.attrs["slots"] == list(DAYS[:2])
    assert field["day"].values.astype("datetime64[D]").astype(str).tolist() == list(DAYS)
    assert field["generation"].dims == ("day",)
    sar = tree[f"{store.name}/reference"]["sar"]
    assert sar.dtype == np.float32
    assert isinstance(sar.data, dask.array.Array)  # nothing is read until it is needed
    assert np.array_equal(sar.values, db_from_codes(made_reference(LATTICE)), equal_nan=True)
    assert sar.attrs["units"] == "dB"


def test_where_nothing_is_remembered_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing is remembered at"):
        catalog.open_memory(tmp_path / "la")
    write_version(memory_store(tmp_path), FIRST_VERSION)
    with pytest.raises(StoreError, match="nothing is remembered at"):
        catalog.open_memory(tmp_path / "la")
