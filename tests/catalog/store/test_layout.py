"""The Zarr group of a slot: made once, and understood by whoever follows conventions."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import xarray as xr
import zarr

from catalog.store.shards import write_shard
from tests.support.object_store import contents
from tests.support.slots import (
    LATTICE,
    created,
    published,
    rioxarray_is_older_than_affine,
    shard_pixels,
)


def test_create_is_idempotent_and_finishes_what_was_begun(tmp_path: Path) -> None:
    store = created(tmp_path / "once")
    shard = LATTICE.shards()[0]
    write_shard(store, shard, shard_pixels(shard))
    before = contents(str(tmp_path / "once"))
    created(tmp_path / "once")
    assert contents(str(tmp_path / "once")) == before

    begun = tmp_path / "begun"
    created(begun)
    group = begun / "la/slots/2020-11-04/abc.zarr"
    complete = contents(str(group))
    for leftover in (group / "zarr.json", group / "vh/zarr.json", group / "time/0"):
        leftover.unlink()
    created(begun)
    assert contents(str(group)) == complete


@rioxarray_is_older_than_affine
def test_plain_xarray_opens_a_slot_with_crs_and_coordinates(tmp_path: Path) -> None:
    store = published(tmp_path)
    for options in ({}, {"consolidated": False}):
        with warnings.catch_warnings():
            # Who leaves the consolidated metadata alone finds that of Zarr's version 2 beside it.
            warnings.filterwarnings("ignore", "Object at .zmetadata")
            slot = xr.open_zarr(store.url, decode_coords="all", **options)
        assert slot.rio.crs == rasterio.crs.CRS.from_epsg(32611)
        assert slot.rio.transform().almost_equals(LATTICE.geobox.affine)
        assert slot["time"].values == np.datetime64("2020-11-04")
        assert slot["red"].dims == ("y", "x")
        assert slot["red"].dtype == np.float32
        assert slot["quality"].dtype == np.uint8
        assert slot["quality"].attrs["flag_meanings"].split() == [
            "no_optical",
            "registered",
            "abstained",
            "no_sar",
            "cloud",
            "registered_from_memory",
            "registered_radar_to_radar",
            "layover_or_shadow",
        ]
        assert slot["quality"].attrs["flag_values"] == [0, 1, 2, 3, 4, 5, 6, 7]
        assert slot["optical_time"].dims == ("optical_index",)
        assert slot["optical_time"].attrs["scene_ids"] == ["", "o", "o-2"]
        assert slot.attrs["weights_sha256"] == "f00"
    # A tenth of a pixel is a metre; these agree to a micrometre.
    x, y = rasterio.transform.xy(LATTICE.geobox.affine, [0, 80], [0, 90])
    np.testing.assert_allclose(slot["x"].values[[0, 90]], x, atol=1e-6)
    np.testing.assert_allclose(slot["y"].values[[0, 80]], y, atol=1e-6)


def test_the_group_follows_the_conventions(tmp_path: Path) -> None:
    group = zarr.open_group(created(tmp_path).url, mode="r")
    assert group.attrs["proj:code"] == "EPSG:32611"
    assert group.attrs["spatial:transform"] == list(LATTICE.transform)
    assert group.attrs["spatial:shape"] == list(LATTICE.shape)
    names = {convention["name"] for convention in group.attrs["zarr_conventions"]}
    assert names == {"proj", "spatial", "multiscales"}
    assert group["red"].shards is None
    assert group["red"].chunks == (32, 32)
    assert group["red"].attrs["grid_mapping"] == "spatial_ref"
    assert group["x"].attrs["standard_name"] == "projection_x_coordinate"
    assert group["x"].attrs["units"] == "metre"
