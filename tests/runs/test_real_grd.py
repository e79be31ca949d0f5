"""A real Sentinel-1 GRD scene without annotation, decimated, through a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from distributed import Client
from rasterio.warp import Resampling, reproject

import catalog
from flows.plan.request import RegionRequest
from flows.register_region import register_region
from tests.support.scenes import REAL_PRODUCTS, require_products, write_raster

NAME = "S1A_IW_GRDH_1SDV_20180716T004042_20180716T004107_022812_02792A_FD5B"
PRODUCT = REAL_PRODUCTS / NAME
BOX = (76.7, 10.25, 77.1, 10.6)
CRS, PIXEL_M = "EPSG:32643", 200.0
DAY = "2018-07-16"


def made_optical(folder: Path, sar: Path) -> Path:
    """An image of the same ground, where GDAL's own thin-plate spline puts it."""
    to_crs = pyproj.Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    west, south, east, north = shapely.box(*BOX).buffer(0.1).bounds
    left, bottom, right, top = to_crs.transform_bounds(west, south, east, north)
    with rasterio.open(sar) as source:
        numbers, (points, crs) = source.read(1).astype(np.float32), source.gcps
    ground = np.zeros((int((top - bottom) // PIXEL_M), int((right - left) // PIXEL_M)), np.float32)
    reproject(
        numbers, ground, gcps=points, src_crs=crs, dst_crs=CRS, resampling=Resampling.bilinear,
        dst_transform=Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), SRC_METHOD="GCP_TPS",
    )  # fmt: skip
    bright = np.clip((20 * np.log10(np.maximum(ground, 1)) - 30) / 30, 0, 1)
    grain = np.random.default_rng(0).normal(20, 6, (3, *ground.shape))
    colours = np.array([0.7, 0.6, 0.5])[:, None, None]
    image = np.clip((1 - colours * bright) * 200 + grain, 1, 255).astype(np.uint8)
    return write_raster(
        folder / "optical.tif", image, crs=CRS, corner=(left, top), pixel=PIXEL_M, nodata=0
    )


def item(
    id_: str, collection: str, assets: dict[str, Any], outline: dict[str, Any], **properties: Any
) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": id_, "collection": collection,
        "geometry": outline, "bbox": shapely.geometry.shape(outline).bounds, "links": [],
        "properties": {"datetime": f"{DAY}T00:40:54Z", **properties}, "assets": assets,
    }  # fmt: skip


def test_it_is_registered_where_its_control_points_say(tmp_path: Path, client: Client) -> None:
    require_products()
    sar = PRODUCT / "measurement" / "iw-vv.tiff"
    footprint = json.loads((PRODUCT / "productInfo.json").read_text())["footprint"]
    around = shapely.geometry.mapping(shapely.box(*BOX).buffer(0.08, join_style="mitre"))
    bands = [{"eo:common_name": name} for name in ("red", "green", "blue")]
    optical = {"href": str(made_optical(tmp_path, sar)), "bands": bands, "roles": ["data"]}
    tiff = {"type": "image/tiff; application=geotiff"}
    features = [
        item("S2", "optical", {"visual": {**optical, **tiff}}, around),
        item("S1", "grd", {"vv": {"href": str(sar), **tiff}}, footprint, platform="sentinel-1a"),
    ]
    items = tmp_path / "items.json"
    items.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    request = RegionRequest.of(
        catalog=str(items), optical="optical", sar="grd", bbox=BOX, start=DAY, end=DAY,
        store=str(tmp_path / "store"), resolution=PIXEL_M, scheduler=client.scheduler.address,
    )  # fmt: skip
    report = register_region(request).report
    assert report.status == "registered", report
    (pair,) = report.pairs
    print(f"\nreal GRD: moved {pair.median_displacement_px:.3f} px (median)")
    assert pair.accepted, pair
    assert pair.median_displacement_px is not None
    assert pair.median_displacement_px < 0.3
    mosaic = catalog.open_mosaic(report.mosaic).isel(time=0)
    assert np.isfinite(mosaic["vv"].values).mean() > 0.9
