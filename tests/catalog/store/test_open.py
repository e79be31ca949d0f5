"""Opening what is published: by box, days, bands and overview, and when each pixel was seen."""

from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import cf_units
import cf_xarray  # noqa: F401  (gives xarray objects their .cf accessor)
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import xarray as xr
import zarr

import catalog
from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Window, lattice_for
from catalog.store.open import load_window, open_mosaic, open_slot, open_undivided
from catalog.store.slot import SlotStore
from tests.support.scenes import NOON, same
from tests.support.slots import (
    BOX,
    LATTICE,
    created,
    published,
    rioxarray_is_older_than_affine,
    shard_pixels,
)

DAYS = ("2020-11-04", "2020-11-09", "2020-12-01")
# Each day counts from 1 what it shows; the second day shares one scene with the first.
OPTICAL = (
    {"o": NOON, "o-2": NOON + timedelta(seconds=4)},
    {"o-1": NOON - timedelta(days=1), "o": NOON},
    {"o-4": NOON + timedelta(days=4), "o-5": NOON + timedelta(days=5)},
)
SCENES = (
    {"s": NOON, "s-2": NOON + timedelta(seconds=25)},
    {"s-2": NOON + timedelta(seconds=25), "s-3": NOON + timedelta(days=3)},
    {"s-0": NOON - timedelta(days=1), "a b": NOON + timedelta(days=9)},
)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    stores: list[SlotStore] = []
    for seed, (slot, sar, optical) in enumerate(zip(DAYS, SCENES, OPTICAL, strict=True)):
        stores.append(
            published(folder, seed=seed, sar_scenes=sar, optical_scenes=optical, slot=slot)
        )
    return stores[0].region_url


@pytest.mark.parametrize("factor", [1, 4])
def test_a_small_window_is_the_same_with_and_without_dask(tmp_path: Path, factor: int) -> None:
    url = published(tmp_path).url
    window = Window(2, 5, 9, 13)
    names = ["red", "dx", "quality", "sar_scene"]
    rows, columns = window.slices
    loaded = load_window(open_undivided(url, factor), names, window)
    expected = open_slot(url, factor)[names].isel(y=rows, x=columns).compute()
    assert loaded.identical(expected)
    assert all(loaded[name].dtype == expected[name].dtype for name in names)


def test_every_pixel_knows_when_radar_saw_it_on_any_day(region: str) -> None:
    mosaic = open_mosaic(region)
    assert mosaic.sar_id.values.tolist() == ["", "s-0", "s", "s-2", "s-3", "a b"]
    assert mosaic["sar_scene"].dtype == np.uint16
    assert mosaic["sar_scene"].attrs["flag_meanings"].split()[-1] == "a_b"
    seen, ids = mosaic.sar_time[mosaic.sar_scene], mosaic.sar_id[mosaic.sar_scene]
    assert seen.dims == ("time", "y", "x")
    assert seen.chunks is not None  # nothing is read until it is needed
    shard = LATTICE.shards()[0]
    for number, scenes in enumerate(SCENES):
        index = shard_pixels(shard, number)["sar_scene"]
        where = (number, *shard.window.slices)
        assert same(ids[where].values, np.array(["", *scenes])[index].astype(ids.dtype))
        times = pd.to_datetime([when.replace(tzinfo=None) for when in scenes.values()]).to_numpy(
            "datetime64[ns]"
        )
        expected = np.array([np.datetime64("NaT"), *times])[index]
        assert np.array_equal(seen[where].values, expected, equal_nan=True)


def test_every_pixel_knows_which_optical_scene_it_shows_on_any_day(region: str) -> None:
    mosaic = open_mosaic(region)
    assert mosaic.optical_id.values.tolist() == ["", "o-1", "o", "o-2", "o-4", "o-5"]
    assert mosaic["optical_scene"].dtype == np.uint16
    shard = LATTICE.shards()[0]
    ids, when = mosaic.optical_id[mosaic.optical_scene], mosaic.optical_time[mosaic.optical_scene]
    for number, scenes in enumerate(OPTICAL):
        shown = np.array(["", *scenes])[shard_pixels(shard, number)["optical_scene"]]
        found = ids[number].values[shard.window.slices]
        assert same(found, shown.astype(ids.dtype))
        times = when[number].values[shard.window.slices]
        assert np.array_equal(np.isnat(times), shown == "")
        for id_, taken in scenes.items():
            assert (times[shown == id_] == np.datetime64(taken.replace(tzinfo=None))).all()


def test_one_day_counts_as_it_is_stored(region: str) -> None:
    day = open_mosaic(region, time="2020-12-01")
    assert same(
        day["sar_scene"][0].values[LATTICE.shards()[0].window.slices],
        shard_pixels(LATTICE.shards()[0], 2)["sar_scene"],
    )
    assert day.sar_time.values[1] == np.datetime64("2020-11-03T18:35:00")


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (None, DAYS),
        ("2020-11-09", DAYS[1:2]),
        (date(2020, 11, 9), DAYS[1:2]),
        (datetime(2020, 11, 9, 23, 59), DAYS[1:2]),
        (np.datetime64("2020-11-09T10:00"), DAYS[1:2]),
        (pd.Timestamp("2020-11-09"), DAYS[1:2]),
        (("2020-11-04", "2020-11-09"), DAYS[:2]),
        (slice("2020-11-05", None), DAYS[1:]),
        (slice(None, date(2020, 11, 30)), DAYS[:2]),
    ],
)
def test_days_are_chosen_both_ends_included(
    region: str, time: Any, expected: tuple[str, ...]
) -> None:
    mosaic = open_mosaic(region, time=time)
    assert [str(day)[:10] for day in mosaic.time.values] == list(expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"time": "2021-01-01"}, r"no day on 2021-01-01 .*; 3, 2020-11-04 to 2020-12-01, are"),
        ({"time": ("2020-11-05", "2020-11-08")}, "no day from 2020-11-05 to 2020-11-08"),
        ({"time": "yesterday"}, "'yesterday' is neither a day"),
        ({"time": slice("2020-11-05", None, 2)}, "neither a day"),
        ({"bands": ["red", "swir", "b8"]}, r"swir, b8 asked for; .* has blue, .*quality, red"),
        ({"bands": []}, "none asked for"),
        ({"overview": 3}, r"none of factor 3; there are: 4, 8, 16"),
        ({"bbox": (10.0, 46.0, 11.0, 47.0)}, r"does not touch .* spans \[-118.0"),
        ({"bbox": (11.0, 46.0, 10.0, 47.0)}, "west 11.0 must be less than east"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    region: str, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        open_mosaic(region, **asked)
    assert caught.value.argument == next(iter(asked))


def test_bands_are_chosen_by_name(region: str) -> None:
    assert set(open_mosaic(region, bands="vh").data_vars) == {"vh"}
    chosen = open_mosaic(region, bands=["quality", "red"])
    assert set(chosen.data_vars) == {"quality", "red"}
    assert "sar_time" not in chosen.coords
    assert set(open_mosaic(region, bands=["sar_scene"]).coords) >= {"sar_time", "sar_id"}


@rioxarray_is_older_than_affine
def test_a_box_cuts_to_the_pixels_it_touches(region: str) -> None:
    whole = open_mosaic(region, time=DAYS[0])
    west, south, east, north = -117.997, 33.752, -117.993, 33.756
    part = open_mosaic(region, bbox=(west, south, east, north), time=DAYS[0])
    to_utm = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32611", always_xy=True)
    x, y = to_utm.transform([west, east, east, west], [south, south, north, north])
    left, bottom, right, top = part.rio.bounds()
    assert 0 <= min(x) - left < 10
    assert 0 <= right - max(x) < 10
    assert 0 <= min(y) - bottom < 10
    assert 0 <= top - max(y) < 10
    expected = whole["red"].sel(x=part.x, y=part.y)
    assert same(part["red"].values, expected.values)
    assert part.attrs["spatial:shape"] == list(part["red"].shape[1:])
    assert part.attrs["spatial:transform"][2] == left
    assert whole.rio.transform().almost_equals(LATTICE.geobox.affine)
    assert "multiscales" not in part.attrs
    assert part.attrs["overview_factors"] == [4, 8, 16]
    names = {convention["name"] for convention in part.attrs["zarr_conventions"]}
    assert names == {"proj", "spatial"}


@rioxarray_is_older_than_affine
def test_what_was_opened_can_be_saved_and_opened_by_plain_xarray(
    region: str, tmp_path: Path
) -> None:
    part = open_mosaic(region, bbox=(-117.997, 33.752, -117.993, 33.756), time=DAYS[0])
    part = part.chunk(y=64, x=64)  # zarr wants all chunks alike, and the box cut the first
    # Strings have no place in the Zarr v3 specification yet.
    part = part.drop_vars(["sar_id", "optical_id"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")
        part.to_zarr(tmp_path / "part.zarr")
    again = xr.open_zarr(tmp_path / "part.zarr", decode_coords="all")
    assert again.equals(part.compute())
    assert again.rio.transform() == part.rio.transform()
    assert again["vh"].encoding["grid_mapping"] == "spatial_ref"


def test_cf_is_understood_by_libraries_that_know_it(region: str) -> None:
    """cf-xarray reads flags and names by CF; cf-units is UDUNITS, which CF takes its units from."""
    mosaic = open_mosaic(region)
    assert mosaic.cf.standard_names["quality_flag"] == ["quality"]
    assert mosaic.cf.standard_names["projection_x_coordinate"] == ["x"]
    assert list(mosaic.cf.grid_mapping_names) == ["transverse_mercator"]
    for name in ("quality", "sar_scene", "optical_scene"):
        assert mosaic[name].cf.is_flag_variable
    registered = (mosaic["quality"].cf == "registered").values
    assert np.array_equal(registered, mosaic["quality"].values == 1)
    assert bool((mosaic["sar_scene"].cf == "s-2").any())
    stored = xr.open_zarr(f"{region}/slots/{DAYS[0]}/abc.zarr", chunks=None, decode_cf=False)
    for name, variable in stored.variables.items():
        if name in ("spatial_ref", "quality", "sar_scene", "optical_scene"):
            continue  # flags and the grid mapping have none
        assert cf_units.Unit(variable.attrs["units"]), name
        assert variable.attrs.get("long_name") or variable.attrs["standard_name"]


@rioxarray_is_older_than_affine
def test_the_union_of_extents_lies_where_it_says(tmp_path: Path) -> None:
    published(tmp_path, seed=1)
    wider = lattice_for((-118.002, 33.749, -117.995, 33.759), shard_px=64)
    published(tmp_path, wider, seed=2, slot="2020-11-09")
    mosaic = catalog.open_mosaic(f"{tmp_path}/la")
    a, _, left, _, e, top = mosaic.rio.transform()[:6]
    assert (left, top) == (float(mosaic.x[0]) - a / 2, float(mosaic.y[0]) - e / 2)
    assert left == min(wider.transform[2], LATTICE.transform[2])
    assert BOX[0] > -118.002  # the second slot begins further west
    part = catalog.open_mosaic(f"{tmp_path}/la", bbox=(-118.001, 33.752, -117.999, 33.754))
    assert part.rio.transform()[2] > left
    assert part["vh"].isel(time=1).notnull().any()


def test_a_day_of_an_earlier_version_opens_beside_a_new_one(tmp_path: Path) -> None:
    """Without overviews, `sar_scene` and `optical_scene`."""
    old = published(tmp_path, slot=DAYS[0])
    published(tmp_path, seed=1, slot=DAYS[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")
        warnings.filterwarnings("ignore", "Object at .zmetadata")
        group = zarr.open_group(old.url, mode="r+", use_consolidated=False)
        for name in ("sar_scene", "sar_time", "optical_scene", "optical_time", "overviews"):
            del group[name]
        attrs = group.attrs.asdict()
        group.attrs.put({key: value for key, value in attrs.items() if key != "multiscales"})
        zarr.consolidate_metadata(old.url)
    mosaic = open_mosaic(old.region_url)
    assert mosaic["sar_scene"].dtype == np.uint16
    assert (mosaic["sar_scene"][0].values == 0).all()
    assert np.isnat(mosaic.sar_time[mosaic.sar_scene][0].values).all()
    assert np.isnat(mosaic.optical_time[mosaic.optical_scene][0].values).all()
    assert (mosaic.optical_id[mosaic.optical_scene][1].values != "").any()
    assert mosaic.attrs["overview_factors"] == []
    assert "sar_time" not in open_mosaic(old.region_url, time=DAYS[0]).coords
    with pytest.raises(ArgumentError, match="there are: none"):
        open_mosaic(old.region_url, overview=4)


@rioxarray_is_older_than_affine
def test_a_mosaic_is_its_published_slots_in_time(tmp_path: Path) -> None:
    published(tmp_path, seed=2, slot="2020-11-09")
    published(tmp_path, seed=1, slot="2020-11-04")
    created(tmp_path, slot="2020-11-20")  # never published
    mosaic = catalog.open_mosaic(f"{tmp_path}/la")
    assert (mosaic.sizes["time"], mosaic.sizes["y"], mosaic.sizes["x"]) == (2, *LATTICE.shape)
    assert [str(day)[:10] for day in mosaic["time"].values] == ["2020-11-04", "2020-11-09"]
    assert mosaic.rio.crs == rasterio.crs.CRS.from_epsg(32611)
    assert mosaic["red"].rio.transform().almost_equals(LATTICE.geobox.affine)
    assert mosaic["red"].chunks is not None
    shard = LATTICE.shards()[0]
    for number, seed in enumerate((1, 2)):
        for name, values in shard_pixels(shard, seed).items():
            assert same(mosaic[name][(number, *shard.window.slices)].values, values)


def test_slots_of_different_extent_share_their_pixels(tmp_path: Path) -> None:
    published(tmp_path, seed=1)
    wider = lattice_for((-118.002, 33.749, -117.995, 33.759), shard_px=64)
    published(tmp_path, wider, seed=2, slot="2020-11-09")
    mosaic = open_mosaic(f"{tmp_path}/la")
    assert mosaic["quality"].dtype == np.uint8
    assert (np.diff(mosaic["y"].values) == -10).all()
    assert (np.diff(mosaic["x"].values) == 10).all()
    x, y = LATTICE.centres(LATTICE.window)
    first = mosaic.isel(time=0).sel(x=x, y=y)
    for shard in LATTICE.shards():
        assert same(first["dx"].values[shard.window.slices], shard_pixels(shard, 1)["dx"])
    outside = mosaic.isel(time=0, y=0)
    assert np.isnan(outside["red"].values).all()
    assert (outside["quality"].values == 0).all()


@pytest.mark.parametrize("change", [{"resolution": 20.0}, {"crs": "EPSG:3395"}])
def test_slots_on_other_grids_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    published(tmp_path)
    published(tmp_path, lattice_for(BOX, shard_px=64, **change), slot="2020-11-09")
    with pytest.raises(StoreError, match="different pixel grids"):
        open_mosaic(f"{tmp_path}/la")


def test_what_is_no_mosaic_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no mosaic is published"):
        open_mosaic(str(tmp_path / "nothing"))
    created(tmp_path)
    with pytest.raises(StoreError, match="no mosaic is published"):
        open_mosaic(f"{tmp_path}/la")
    objects.put(f"{tmp_path}/la/items/2020-11-04.json", b'{"assets": {}}')
    with pytest.raises(StoreError, match="not the item of a mosaic: KeyError: 'mosaic'"):
        open_mosaic(f"{tmp_path}/la")
