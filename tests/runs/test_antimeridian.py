"""A region across the antimeridian: planned, registered, published and opened as any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import xarray as xr
from distributed import Client
from shapely.geometry import box, mapping, shape

import catalog
from catalog.grid import lattice_for
from catalog.longitudes import as_geojson_has_it, facing, in_one_piece
from flows.cli import demo_region
from flows.cli.demo import error_against_truth
from flows.cli.demo_region import DemoRegion, write_region
from flows.cli.pair import register_files
from flows.register_region import register_region
from flows.report.schema import Report
from tests.support.regions import request_of

CRS, NORTHING_M = "EPSG:32660", 5_206_000.0
SIDE_PX = 400


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> DemoRegion:
    """The drawn region where the antimeridian runs through its middle."""
    to_crs = pyproj.Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    to_lonlat = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    _, latitude = to_lonlat.transform(728_000.0, NORTHING_M)
    easting, _ = to_crs.transform(180.0, latitude)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_region, "CRS", CRS)
        patch.setattr(demo_region, "ORIGIN_EASTING_M", easting // 10 * 10 - 3000)
        patch.setattr(demo_region, "ORIGIN_NORTHING_M", NORTHING_M)
        made = write_region(tmp_path_factory.mktemp("region"), size_px=SIDE_PX, seed=3)
    content = json.loads(made.catalog.read_text())
    written = ("split", "around", "beyond", "split", "around")
    for item, how in zip(content["features"], written, strict=True):
        write_as(item, how)
    made.catalog.write_text(json.dumps(content))
    return made


def write_as(item: dict[str, Any], how: str) -> None:
    """Write the geometry of an item as archives do; as drawn it leads around the world."""
    whole = facing(in_one_piece(shape(item["geometry"])), 180.0)
    cut, bbox = as_geojson_has_it(whole)
    if how == "split":
        assert cut.geom_type == "MultiPolygon"
        item |= {"geometry": mapping(cut), "bbox": bbox}
    if how == "beyond":
        item |= {"geometry": mapping(whole), "bbox": whole.bounds}


@pytest.fixture(scope="module")
def report(region: DemoRegion, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Report:
    store = tmp_path_factory.mktemp("store")
    request = request_of(region, store, scheduler=client.scheduler.address)
    west, _, east, _ = request.bbox
    assert west > 179.9
    assert east < -179.9
    return register_region(request).report


def test_all_scenes_of_a_pass_are_one_day_and_register_as_elsewhere(
    report: Report, region: DemoRegion
) -> None:
    assert report.status == "registered"
    assert [slot.slot for slot in report.slots] == ["2024-06-12"]
    assert len(report.pairs) == 4
    assert all(pair.accepted for pair in report.pairs), report.pairs
    assert not report.warnings
    truth = error_against_truth(report.mosaic, region.truth)
    assert truth.before_px >= 2.5
    assert truth.after_px <= 0.5
    assert truth.after_p90_px <= 1.0
    assert truth.registered_share >= 0.97


def test_the_mosaic_opens_whole_and_in_part(report: Report, region: DemoRegion) -> None:
    mosaic = catalog.open_mosaic(report.mosaic)
    assert mosaic.rio.crs == CRS
    assert bool(np.isfinite(mosaic["red"].isel(time=0)).all())
    west, south, _, north = region.bbox
    part = catalog.open_mosaic(report.mosaic, bbox=(west, south, -179.999, north))
    assert 0.5 < part.sizes["x"] / mosaic.sizes["x"] < 0.7
    plain = xr.open_zarr(report.slots[0].url, decode_coords="all", chunks=None)
    assert np.array_equal(plain["vh"].values, mosaic["vh"].values[0], equal_nan=True)


def test_items_and_collection_are_cut_at_the_antimeridian(
    report: Report, region: DemoRegion
) -> None:
    item = pystac.Item.from_file(f"{report.mosaic}/items/2024-06-12.json")
    collection = pystac.Collection.from_file(f"{report.mosaic}/collection.json")
    assert item.geometry is not None
    assert item.geometry["type"] == "MultiPolygon"
    assert box(-180, -90, 180, 90).contains(shape(item.geometry))
    (extent,) = collection.extent.spatial.bboxes
    for told in (item.bbox, extent):
        assert told == pytest.approx(region.bbox, abs=3e-3)  # snapped outwards
    whole = facing(in_one_piece(shape(item.geometry)), 180.0)
    assert whole.geom_type == "Polygon"
    lattice = lattice_for(region.bbox)
    assert whole.symmetric_difference(lattice.lonlat_extent()).area < 1e-3 * whole.area


def test_a_raster_across_the_antimeridian_does_not_span_the_world(
    region: DemoRegion, tmp_path: Path
) -> None:
    folder, far = region.catalog.parent, tmp_path / "far.tif"
    with rasterio.open(folder / "S1-DEMO-NORTH.tif") as raster:
        profile, values = raster.profile | {"driver": "GTiff", "crs": "EPSG:32632"}, raster.read()
    with rasterio.open(far, "w", **profile) as raster:
        raster.write(values)
    result = register_files(folder / "S2-DEMO-WEST.tif", far, tmp_path / "out.tif")
    assert (result.accepted, result.reason) == (False, "the two rasters do not overlap")
