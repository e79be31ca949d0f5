"""Optical and SAR images as files with their STAC items, on one grid of 10 m pixels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from tests.support.scenes import write_raster

PIXEL_M = 10.0
OPTICAL_COLLECTION, SAR_COLLECTION = "made-optical", "made-sar"
GEOTIFF = "image/tiff; application=geotiff"


@dataclass(frozen=True)
class Site:
    """Where images are written: a folder, a CRS, and the corner of their pixel (0, 0), metres."""

    folder: Path
    crs: str
    easting_m: float
    northing_m: float

    def write(
        self, name: str, image: NDArray[Any], origin: tuple[int, int], nodata: float
    ) -> dict[str, Any]:
        """An image (bands, H, W) whose upper left pixel is pixel (row, column) `origin`."""
        row, column = origin
        corner = (self.easting_m + column * PIXEL_M, self.northing_m - row * PIXEL_M)
        path = write_raster(
            self.folder / f"{name}.tif", image, crs=self.crs, corner=corner, pixel=PIXEL_M,
            nodata=nodata, tiled=True, blockxsize=256, blockysize=256, compress="deflate",
        )  # fmt: skip
        return {"href": path.name, "type": GEOTIFF, "roles": ["data"]}


def optical_acquisition(
    site: Site,
    name: str,
    when: datetime,
    image: NDArray[Any],
    *,
    origin: tuple[int, int] = (0, 0),
    cloud_cover: float = 0.0,
    scene_classes: NDArray[np.uint8] | None = None,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Write red, green, blue (3, H, W), nodata 0, and Sentinel-2's scene classes (H, W) if given.

    Returns the STAC item. `scale` leads from the numbers to reflectance; cloud cover in percent.
    """
    bands = [{"name": name, "eo:common_name": name} for name in ("red", "green", "blue")]
    visual = site.write(name, image, origin, 0) | {"bands": bands, "raster:scale": scale}
    assets = {"visual": visual}
    if scene_classes is not None:
        assets["scl"] = site.write(f"{name}_SCL", scene_classes[None], origin, 0)
    properties = {
        "platform": "sentinel-2a", "constellation": "sentinel-2", "eo:cloud_cover": cloud_cover,
        "sat:relative_orbit": 65, "sat:orbit_state": "descending",
    }  # fmt: skip
    return _item(site, name, OPTICAL_COLLECTION, when, properties, assets)


def sar_acquisition(
    site: Site,
    name: str,
    when: datetime,
    image: NDArray[np.float32],
    *,
    polarisation: str,
    platform: str,
    origin: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Write decibels (H, W), nodata NaN, of relative orbit 168, descending. Returns the item."""
    written = site.write(name, image[None], origin, np.nan)
    assets = {polarisation: written | {"bands": [{"name": polarisation}]}}
    properties = {
        "platform": platform, "constellation": "sentinel-1", "sar:instrument_mode": "IW",
        "sar:frequency_band": "C", "sar:polarizations": [polarisation.upper()],
        "sar:product_type": "GRD", "sat:relative_orbit": 168, "sat:orbit_state": "descending",
    }  # fmt: skip
    return _item(site, name, SAR_COLLECTION, when, properties, assets)


def lonlat_bounds(path: Path, inset_px: float = 0.0) -> tuple[float, float, float, float]:
    """West, south, east, north of a raster, or of what is so many pixels inside of its edges."""
    with rasterio.open(path) as source:
        left, bottom, right, top = source.bounds
        inset = inset_px * source.res[0]
        bounds = (left + inset, bottom + inset, right - inset, top - inset)
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *bounds)
    return west, south, east, north


def _item(
    site: Site,
    name: str,
    collection: str,
    when: datetime,
    properties: dict[str, Any],
    assets: dict[str, Any],
) -> dict[str, Any]:
    box = lonlat_bounds(site.folder / f"{name}.tif")
    told = {"datetime": when.isoformat(), "gsd": PIXEL_M, "proj:code": site.crs}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": shapely.geometry.mapping(shapely.box(*box)),
        "bbox": list(box),
        "properties": told | properties,
        "links": [],
        "assets": assets,
    }
