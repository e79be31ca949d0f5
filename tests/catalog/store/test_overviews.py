"""Overviews: the mean of their pixels, written once, found again by whoever follows conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
import zarr_cm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from catalog.grid import lattice_for
from catalog.store.layout import level_lattice, overview_factors
from catalog.store.open import open_mosaic, open_slot
from catalog.store.overviews import half_resolution, overview_shards
from catalog.store.schema import stored_values
from catalog.store.slot import SlotStore
from catalog.store.upkeep import verify
from tests.support.object_store import contents
from tests.support.scenes import same
from tests.support.slots import (
    LATTICE,
    VARIABLES,
    created,
    published,
    rioxarray_is_older_than_affine,
)

FACTORS = (4, 8, 16)  # of LATTICE, 91 x 94 pixels in shards of 32


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SlotStore:
    """A published day."""
    return published(tmp_path_factory.mktemp("store"))


@settings(max_examples=40, deadline=None)
@given(
    arrays_of.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-100, 100, width=32) | st.just(np.nan),
    )
)
def test_a_pixel_is_the_mean_of_what_is_known_of_its_four(values: np.ndarray) -> None:
    found = half_resolution(values)
    assert found.dtype == values.dtype
    for row, column in np.ndindex(found.shape):
        block = values[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        known = block[np.isfinite(block)].astype(np.float64)
        if known.size == 0:
            assert np.isnan(found[row, column])
        else:
            assert found[row, column] == pytest.approx(known.mean(), rel=1e-6, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    arrays_of.arrays(
        np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)
    )
)
def test_a_flag_is_what_most_of_its_four_are(values: np.ndarray) -> None:
    found = half_resolution(values)
    for row, column in np.ndindex(found.shape):
        block = values[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist()
        assert found[row, column] == min(set(block), key=lambda v: (-block.count(v), v))


def test_levels_end_when_a_quarter_of_a_chunk_is_as_long() -> None:
    assert overview_factors(LATTICE) == FACTORS
    wide = lattice_for((-118.0, 33.0, -117.0, 33.3))
    assert max(wide.shape) > 8192
    assert overview_factors(wide)[-1] == 32
    assert max(level_lattice(wide, 32).shape) <= 512 < max(level_lattice(wide, 16).shape)
    assert overview_factors(lattice_for((-118.0, 33.0, -117.96, 33.03))) == ()


def test_every_level_is_made_of_the_one_below(store: SlotStore) -> None:
    below = store.open()
    assert set(below) == set(VARIABLES)
    for factor in FACTORS:
        level = open_slot(store.url, factor)
        for name, array in store.pixels("r", factor).items():
            expected = half_resolution(below[name].values)
            if factor == 4:
                expected = half_resolution(expected)
            assert same(np.asarray(array), stored_values(expected, array.dtype, array.attrs))
        below = level
    # Where everything is known, that is the mean of all pixels a cell covers.
    red = store.open()["red"].values[44:64, 16:48]
    means = red.reshape(5, 4, 8, 4).mean(axis=(1, 3))
    level = open_slot(store.url, 4)
    np.testing.assert_allclose(level["red"][11:16, 4:12], means, rtol=1e-6)


def test_two_runs_write_the_same_overviews(tmp_path: Path) -> None:
    for name in ("one", "two"):
        published(tmp_path / name)
    assert contents(str(tmp_path / "one")) == contents(str(tmp_path / "two"))


@rioxarray_is_older_than_affine
def test_a_level_opens_by_itself_where_it_lies(store: SlotStore) -> None:
    base = xr.open_zarr(store.url, decode_coords="all", chunks=None)
    assert base.rio.transform().almost_equals(LATTICE.geobox.affine)
    for factor in FACTORS:
        level = xr.open_zarr(
            store.url, group=f"overviews/{factor}", decode_coords="all", chunks=None
        )
        expected = level_lattice(LATTICE, factor).geobox
        assert level.rio.transform().almost_equals(expected.affine)
        assert level.rio.crs == base.rio.crs
        assert level.rio.shape == expected.shape
        assert float(level.x[0]) == float(base.x[:factor].mean())
        assert float(level.y[0]) == float(base.y[:factor].mean())
        assert list(base.rio.bounds())[:1] == list(level.rio.bounds())[:1]


def test_the_conventions_hold_in_a_library_of_their_own(store: SlotStore) -> None:
    """zarr-cm is kept by the people who keep the conventions."""
    group = zarr.open_group(store.url, mode="r")
    for node in (group, *(group[f"overviews/{factor}"] for factor in FACTORS)):
        validated: Any = zarr_cm.validate_all(node.attrs.asdict())
        assert validated is not None
    layout = group.attrs["multiscales"]["layout"]
    assert [level["asset"] for level in layout] == [".", *(f"overviews/{f}" for f in FACTORS)]
    assert [level["transform"]["scale"][0] for level in layout] == [1, 4, 2, 2]
    for level in layout[1:]:
        node = group[level["asset"]]
        assert node.attrs["spatial:shape"] == level["spatial:shape"] == list(node["red"].shape)
        assert node.attrs["spatial:transform"] == level["spatial:transform"]
        assert "multiscales" not in node.attrs


def test_open_mosaic_opens_a_level(store: SlotStore) -> None:
    mosaic = open_mosaic(store.region_url, overview=4, bands=["vh", "sar_scene"])
    assert mosaic["vh"].shape == (1, *level_lattice(LATTICE, 4).shape)
    assert mosaic.attrs["spatial:shape"] == list(mosaic["vh"].shape[1:])
    assert same(mosaic["vh"][0].values, np.asarray(store.pixels("r", 4)["vh"]))
    assert mosaic.sar_time[mosaic.sar_scene].dims == ("time", "y", "x")


def test_damaged_and_missing_shards_of_overviews_are_named(tmp_path: Path) -> None:
    slot = published(tmp_path)
    sound = verify(slot)
    assert sound.faults == ()
    assert sound.shards == sum(
        len(level_lattice(LATTICE, factor).shards()) for factor in (1, *FACTORS)
    )
    slot.open_group("r+", 4)["dy"][:4] = 7
    receipts, *_ = slot.parts
    Path(f"{receipts}/overviews/8/0.0.json").unlink()
    found = {(fault.shard, fault.variable): fault.what for fault in verify(slot).faults}
    assert found == {
        ("overviews/4/0.0", "dy"): "differs from what was written",
        ("overviews/8/0.0", None): "its receipt is missing",
    }


def test_where_nothing_was_written_there_is_no_overview_either(tmp_path: Path) -> None:
    slot = created(tmp_path)
    assert overview_shards(LATTICE, 4, slot.written_shards()) == ()
    assert [shard.row for shard in overview_shards(LATTICE, 4, {(2, 2)})] == [0]
