"""A drawn region as a catalogue of scenes, with its true misregistration beside it.

The ground and what both sensors see of it come from `tar_engine.training.synthesis`; here
it becomes cloud-optimised GeoTIFFs, a STAC ItemCollection and the truth as a raster.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import Resampling

from tar_engine.training.synthesis import PIXEL_M, draw_ground, optical_image, sar_image

OPTICAL_COLLECTION = "demo-optical"
SAR_COLLECTION = "demo-sar"
CRS = "EPSG:32632"
ORIGIN_EASTING_M, ORIGIN_NORTHING_M = 494_000.0, 5_206_000.0  # north-west corner of the ground
MARGIN_PX = 64  # ground drawn around the region, so that no sensor looks over its edge
SAR_SUBPIXEL = (0.4, 0.3)  # the radar's grid does not fall on the optical one


@dataclass(frozen=True)
class DemoRegion:
    """Where a written region lies: what a `RegionRequest` needs, and the truth."""

    catalog: Path
    truth: Path
    bbox: tuple[float, float, float, float]
    start: str
    end: str


def write_region(folder: Path, *, size_px: int = 1200, seed: int = 7) -> DemoRegion:
    """Draw a region of `size_px` squared and write it as a catalogue of scenes into `folder`.

    Two optical granules (west, east), two SAR frames (north, south) two days later, and one optical
    granule of ten days earlier that has no partner. Files: cloud-optimised GeoTIFFs, `items.json`
    (a STAC ItemCollection) and `truth.tif` (dx, dy in pixels, float32).
    """
    folder.mkdir(parents=True, exist_ok=True)
    ground = draw_ground(size_px + 2 * MARGIN_PX, seed)
    optical, sar = optical_image(ground), sar_image(ground, SAR_SUBPIXEL)
    seam = min(48, size_px // 8)  # neighbouring scenes overlap by twice this
    half, full = MARGIN_PX + size_px // 2, MARGIN_PX + size_px
    west, east = slice(MARGIN_PX, half + seam), slice(half - seam, full)
    north, south = slice(16, half + seam), slice(half - seam, full + MARGIN_PX - 16)
    rows, columns = slice(MARGIN_PX, full), slice(16, full + MARGIN_PX - 16)
    items = [
        _write_optical(folder, "S2-DEMO-WEST", optical, rows, west, "2024-06-12T10:20:31Z"),
        _write_optical(folder, "S2-DEMO-EAST", optical, rows, east, "2024-06-12T10:20:31Z"),
        _write_sar(folder, "S1-DEMO-NORTH", sar, north, columns, "2024-06-14T05:34:20Z"),
        _write_sar(folder, "S1-DEMO-SOUTH", sar, south, columns, "2024-06-14T05:34:45Z"),
        _write_optical(folder, "S2-DEMO-EARLY", optical, rows, west, "2024-06-02T10:20:29Z"),
    ]
    catalog = folder / "items.json"
    catalog.write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))
    truth = folder / "truth.tif"
    _write_raster(truth, ground.displacement[:, rows, rows], rows, rows)
    # A little inside the ground, so that the lattice (snapped outwards) stays on it.
    inset = slice(MARGIN_PX + 4, full - 4)
    west_lon, south_lat, east_lon, north_lat = _inner_bbox(inset, inset)
    bbox = (west_lon, south_lat, east_lon, north_lat)
    return DemoRegion(catalog, truth, bbox, "2024-06-01", "2024-06-15")


def _write_optical(
    folder: Path, name: str, image: npt.NDArray[Any], rows: slice, columns: slice, when: str
) -> dict[str, Any]:
    path = folder / f"{name}.tif"
    _write_raster(path, image[:, rows, columns], rows, columns)
    properties = {
        "datetime": when,
        "platform": "sentinel-2a",
        "constellation": "sentinel-2",
        "gsd": PIXEL_M,
        "eo:cloud_cover": 0.0,
        "sat:relative_orbit": 65,
        "sat:orbit_state": "descending",
    }
    bands = [{"name": c, "eo:common_name": c} for c in ("red", "green", "blue")]
    return _item(name, OPTICAL_COLLECTION, properties, "visual", path, bands, rows, columns)


def _write_sar(
    folder: Path, name: str, image: npt.NDArray[Any], rows: slice, columns: slice, when: str
) -> dict[str, Any]:
    path = folder / f"{name}.tif"
    _write_raster(path, image[:, rows, columns], rows, columns, SAR_SUBPIXEL)
    properties = {
        "datetime": when,
        "platform": "sentinel-1a",
        "constellation": "sentinel-1",
        "gsd": PIXEL_M,
        "sar:instrument_mode": "IW",
        "sar:frequency_band": "C",
        "sar:polarizations": ["VH"],
        "sar:product_type": "GRD",
        "sat:relative_orbit": 168,
        "sat:orbit_state": "descending",
    }
    return _item(name, SAR_COLLECTION, properties, "vh", path, [{"name": "vh"}], rows, columns)


def _write_raster(
    path: Path,
    image: npt.NDArray[Any],
    rows: slice,
    columns: slice,
    offset_px: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write (bands, H, W) as a cloud-optimised GeoTIFF; integers declare 0 as nodata."""
    bands, height, width = image.shape
    left = ORIGIN_EASTING_M + (columns.start + offset_px[0]) * PIXEL_M
    top = ORIGIN_NORTHING_M - (rows.start + offset_px[1]) * PIXEL_M
    with rasterio.open(
        path, "w", driver="COG", count=bands, height=height, width=width, dtype=image.dtype,
        crs=CRS, transform=Affine(PIXEL_M, 0.0, left, 0.0, -PIXEL_M, top),
        nodata=0 if image.dtype == np.uint8 else np.nan,
        compress="deflate", blocksize=256, overview_resampling=Resampling.average.name,
    ) as raster:  # fmt: skip
        raster.write(image)


def _item(
    name: str,
    collection: str,
    properties: dict[str, Any],
    asset: str,
    path: Path,
    bands: list[dict[str, str]],
    rows: slice,
    columns: slice,
) -> dict[str, Any]:
    """A STAC item for one raster, its href relative to the catalogue."""
    corners = _corners_lonlat(rows, columns)
    extensions = ["projection/v2.0.0", "sat/v1.0.0"]
    extensions.append("sar/v1.0.0" if collection == SAR_COLLECTION else "eo/v1.1.0")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            f"https://stac-extensions.github.io/{extension}/schema.json" for extension in extensions
        ],
        "id": name,
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
        "bbox": [*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist()],
        "properties": {**properties, "proj:code": CRS},
        "links": [],
        "assets": {
            asset: {
                "href": path.name,
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "bands": bands,
            }
        },
    }


def _corners_lonlat(rows: slice, columns: slice) -> list[list[float]]:
    """South-west, south-east, north-east, north-west corner as (lon, lat)."""
    to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    left, right = (ORIGIN_EASTING_M + c * PIXEL_M for c in (columns.start, columns.stop))
    top, bottom = (ORIGIN_NORTHING_M - r * PIXEL_M for r in (rows.start, rows.stop))
    outline = ((left, bottom), (right, bottom), (right, top), (left, top))
    return [list(to_lonlat.transform(x, y)) for x, y in outline]


def _inner_bbox(rows: slice, columns: slice) -> tuple[float, float, float, float]:
    """West, south, east, north of the largest lon/lat box inside these pixels."""
    (sw, se, ne, nw) = _corners_lonlat(rows, columns)
    return max(sw[0], nw[0]), max(sw[1], se[1]), min(se[0], ne[0]), min(ne[1], nw[1])
