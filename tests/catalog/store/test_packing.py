"""Packing: what is stored gives back what was measured, to whoever opens it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from catalog.archives.items import Asset, Numbers
from catalog.errors import ArgumentError
from catalog.store.layout import level_lattice
from catalog.store.open import open_slot
from catalog.store.schema import (
    DISPLACEMENT,
    Packing,
    measured_values,
    optical_packing,
    stored_values,
)
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from tests.support.slots import (
    LATTICE,
    SCHEMA,
    rioxarray_is_older_than_affine,
    shard_pixels,
    slot_store,
    write_overviews,
)

SAR = SCHEMA.empty((1, 1))["vh"].attrs
FLOAT = np.dtype(np.float32)


def asset(dtype: str | None, scale: float, offset: float, nodata: float | None = None) -> Asset:
    """A file of such numbers."""
    found = None if dtype is None else Numbers(dtype, nodata)
    return Asset("red", "/nowhere.tif", ("red",), None, scale, offset, found=found)


def physical(numbers: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """As files are read."""
    return numbers.astype(np.float32) * np.float32(scale) + np.float32(offset)


@settings(deadline=None)
@given(
    st.sampled_from(["uint8", "int16", "uint16"]),
    st.sampled_from([1.0, 0.0001, 0.01, 2.75e-05]),
    st.lists(st.integers(-2000, 2000), min_size=1, max_size=3),
    st.sampled_from([None, 0.0]),
    st.data(),
)
def test_the_numbers_of_files_come_back_whatever_their_offsets(
    dtype: str, scale: float, offsets: list[int], nodata: float | None, data: st.DataObject
) -> None:
    files = [asset(dtype, scale, many * scale, nodata) for many in offsets]
    packing = optical_packing(files)
    assert packing is not None
    for file in files:
        lowest = 1 if nodata is not None and dtype != "int16" else np.iinfo(dtype).min
        elements = st.integers(lowest, np.iinfo(dtype).max)
        numbers = data.draw(arrays_of.arrays(dtype, 5, elements=elements))
        values = packing.unpack(packing.pack(physical(numbers, file.scale, file.offset)))
        found = (values.astype(np.float64) - file.offset) / file.scale
        assert np.array_equal(np.rint(found), numbers)
    assert np.isnan(packing.unpack(packing.pack(np.full(3, np.nan, np.float32)))).all()


def test_one_file_with_zero_for_nothing_is_stored_as_it_is() -> None:
    packing = optical_packing([asset("uint16", 0.0001, -0.1, 0)])
    assert packing == Packing("uint16", 0.0001, -0.1)
    numbers = np.arange(1, 2**16, dtype=np.uint16)
    assert np.array_equal(packing.pack(physical(numbers, 0.0001, -0.1)), numbers)


@pytest.mark.parametrize(
    "files",
    [
        [asset("float32", 1.0, 0.0)],
        [asset(None, 1.0, 0.0)],
        [asset("uint16", 0.0001, 0.0), asset("float32", 1.0, 0.0)],
        [asset("uint16", 0.0001, 0.0), asset("uint16", 0.0002, 0.0)],
        [asset("uint16", 0.0001, 0.0), asset("uint16", 0.0001, 0.00005)],
    ],
)
def test_what_shares_no_whole_numbers_stays_floats(files: list[Asset]) -> None:
    assert optical_packing(files) is None


@given(
    arrays_of.arrays(np.float32, 9, elements=st.floats(-511, 511, width=32) | st.just(np.nan)),
)
def test_displacements_are_kept_to_a_hundredth_of_a_pixel(values: np.ndarray) -> None:
    found = DISPLACEMENT.unpack(DISPLACEMENT.pack(values))
    np.testing.assert_allclose(found, values, rtol=0, atol=0.01)
    assert np.array_equal(DISPLACEMENT.pack(found), DISPLACEMENT.pack(values))


def test_what_no_number_stands_for_is_told() -> None:
    with pytest.raises(ArgumentError, match=r"512.0 cannot be stored as int16 in steps of"):
        DISPLACEMENT.pack(np.array([1, 512], np.float32))


@given(
    arrays_of.arrays(
        np.float32, 9, elements=st.floats(-60, 40, width=32) | st.just(np.nan)
    ),
)  # fmt: skip
def test_backscatter_loses_no_fiftieth_of_a_decibel(decibels: np.ndarray) -> None:
    """Whether it is power or decibels: nobody told which."""
    power = (10 ** (decibels / 10)).astype(np.float32)
    for values, as_decibels in ((decibels, lambda found: found), (power, to_decibels)):
        found = stored_values(values, FLOAT, SAR)
        assert np.array_equal(stored_values(found, FLOAT, SAR), found, equal_nan=True)
        assert measured_values(found, FLOAT, SAR) is found
        difference = as_decibels(found) - as_decibels(values)
        assert np.array_equal(np.isnan(found), np.isnan(values))
        assert np.nanmax(np.abs(difference), initial=0) <= 0.02


def to_decibels(power: np.ndarray) -> Any:
    """In double precision."""
    return 10 * np.log10(power.astype(np.float64))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SlotStore:
    """A day whose red is reflectance of two baselines, whose other bands are as they were."""
    files = [asset("uint16", 0.0001, offset, 0) for offset in (0.0, -0.1)]
    packing = optical_packing(files)
    assert packing is not None
    schema = replace(SCHEMA, optical_packings={"red": packing})
    found = slot_store(tmp_path_factory.mktemp("store"))
    found.create(LATTICE, schema, {})
    for shard in LATTICE.shards():
        write_shard(found, shard, pixels(shard))
    write_overviews(found)
    return found


def pixels(shard: Any) -> xr.Dataset:
    """Noise; red in tenths of thousands of it."""
    drawn = shard_pixels(shard)
    return drawn.assign(red=(drawn["red"] * np.float32(0.01) - np.float32(0.1)))


@rioxarray_is_older_than_affine
def test_everyone_opens_a_slot_with_the_same_values_and_crs(store: SlotStore) -> None:
    """GDAL is the one that rasterio brings, whichever that is; QGIS opens by it too."""
    expected = store.open()
    plain = xr.open_zarr(store.url, decode_coords="all")
    assert plain.rio.crs.to_epsg() == 32611
    for name, variable in expected.items():
        np.testing.assert_allclose(plain[name], variable, rtol=1e-6)
        address = f'ZARR:"{store.url}":/{name}'
        with rasterio.open(address) as source:
            assert source.crs.to_epsg() == 32611
            assert source.transform.almost_equals(LATTICE.geobox.affine)
            assert source.shape == variable.shape
        with rioxarray.open_rasterio(address, masked=True, mask_and_scale=True) as raster:
            assert raster.rio.crs.to_epsg() == 32611
            values = raster.squeeze().values
        if name in ("quality", "sar_scene", "optical_scene"):
            values = np.nan_to_num(values)  # GDAL calls the flag of unwritten pixels no data
        np.testing.assert_allclose(values, variable.values, rtol=1e-6)
    for shard in LATTICE.shards():
        red = pixels(shard)["red"]
        np.testing.assert_allclose(expected["red"][shard.window.slices], red, rtol=0, atol=6e-5)


def test_gdal_opens_overviews_where_they_lie(store: SlotStore) -> None:
    for factor in store.overview_factors():
        with rasterio.open(f'ZARR:"{store.url}":/overviews/{factor}/dx') as source:
            read = source.read(1, masked=True) * source.scales[0]
            assert source.transform.almost_equals(level_lattice(LATTICE, factor).geobox.affine)
        assert np.array_equal(read.filled(np.nan), open_slot(store.url, factor)["dx"], True)
