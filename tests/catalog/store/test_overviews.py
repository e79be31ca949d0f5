"""Overviews: the mean of their pixels, written once, found again by whoever follows conventions."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
import zarr_cm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from catalog.grid import lattice_for
from catalog.store.layout import level_lattice, overview_factors
from catalog.store.open import open_mosaic
from catalog.store.overviews import half_resolution, overview_shards, write_overview_shard
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

FACTORS = (2, 4)  # of LATTICE, 91 x 94 pixels in chunks of 16
# rasterio's wheels hold 3.10 (Python 3.11) or 3.12; GDAL reads sharded Zarr v3 from 3.13 on.
GDAL_READS_SHARDS = tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) >= (3, 13)


def write_overviews(store: SlotStore) -> None:
    below = store.written_shards()
    for factor in overview_factors(LATTICE):
        for shard in overview_shards(LATTICE, factor, below):
            write_overview_shard(store, factor, shard)
        below = store.written_shards(factor)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SlotStore:
    """A published day with its overviews."""
    found = published(tmp_path_factory.mktemp("store"))
    write_overviews(found)
    return found


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


def test_levels_end_when_two_chunks_hold_one() -> None:
    assert overview_factors(LATTICE) == FACTORS
    wide = lattice_for((-118.0, 33.0, -117.0, 33.3))
    assert max(wide.shape) > 8192
    assert overview_factors(wide)[-1] == 32
    assert max(level_lattice(wide, 32).shape) <= 512
    assert overview_factors(lattice_for((-118.0, 33.0, -117.96, 33.03))) == ()


def test_every_level_is_made_of_the_one_below(store: SlotStore) -> None:
    below = {name: np.asarray(pixels) for name, pixels in store.pixels("r").items()}
    assert set(below) == set(VARIABLES)
    for factor in FACTORS:
        level = {name: np.asarray(pixels) for name, pixels in store.pixels("r", factor).items()}
        for name, values in level.items():
            assert same(values, half_resolution(below[name])), (factor, name)
        below = level
    # Where everything is known, that is the mean of all pixels a cell covers.
    red = store.open()["red"].values[32:64, 16:48]
    means = red.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(below["red"][8:16, 4:12], means, rtol=1e-6)


def test_two_runs_write_the_same_overviews(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_overviews(published(tmp_path / name))
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
    assert [level["asset"] for level in layout] == [".", "overviews/2", "overviews/4"]
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
    write_overviews(slot)
    sound = verify(slot)
    assert sound.faults == ()
    assert sound.shards == sum(
        len(level_lattice(LATTICE, factor).shards()) for factor in (1, *FACTORS)
    )
    slot.open_group("r+", 2)["dy"][:4] = np.float32(7)
    receipts, *_ = slot.parts
    Path(f"{receipts}/overviews/4/0.0.json").unlink()
    found = {(fault.shard, fault.variable): fault.what for fault in verify(slot).faults}
    assert found == {
        ("overviews/2/0.0", "dy"): "differs from what was written",
        ("overviews/4/0.0", None): "its receipt is missing",
    }


def test_where_nothing_was_written_there_is_no_overview_either(tmp_path: Path) -> None:
    slot = created(tmp_path)
    assert overview_shards(LATTICE, 2, slot.written_shards()) == ()
    assert [shard.row for shard in overview_shards(LATTICE, 2, {(1, 1)})] == [0]


def test_gdal_reads_the_slot_where_it_can(store: SlotStore) -> None:
    """As far as GDAL's Zarr driver goes: it has to read shards, which it does from 3.13 on."""
    address = f'ZARR:"{store.url}":/red'
    if not GDAL_READS_SHARDS:
        with pytest.raises(rasterio.errors.RasterioIOError, match="sharding_indexed"):
            rasterio.open(address)
        pytest.skip(
            f"GDAL {rasterio.__gdal_version__} of this rasterio says 'Unsupported codec: "
            "sharding_indexed'; GDAL reads sharded Zarr v3 from 3.13 on"
        )
    with warnings.catch_warnings(), rasterio.open(address) as source:
        warnings.simplefilter("ignore")
        assert same(source.read(1), store.open()["red"].values)
        assert source.transform.almost_equals(LATTICE.geobox.affine)
