"""Scenes and rasters that the tests make, and where the real ones lie."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform_bounds

from catalog.archives.items import Asset, Scene
from catalog.grid import Lattice, Window
from catalog.pixels import open_files
from catalog.pixels.composite import read_composite

REAL_SCENES = Path(__file__).resolve().parents[3] / "shared" / "data" / "scenes"
REAL_ITEMS = REAL_SCENES / "items.json"

needs_real_data = pytest.mark.skipif(
    not REAL_ITEMS.exists(), reason=f"REAL DATA MISSING: {REAL_ITEMS} is not there"
)

REAL_PRODUCTS = REAL_SCENES.parent / "products"


def require_products() -> None:
    """Skips a test where the real Sentinel-1 products are absent."""
    if not REAL_PRODUCTS.exists():
        pytest.skip(f"REAL DATA MISSING: {REAL_PRODUCTS} is not there")


UTM = "EPSG:32611"
CORNER = (500_000.0, 4_000_000.0)
NOON = datetime(2020, 11, 4, 18, 35, tzinfo=UTC)
DAY = NOON.date()
WORLD = (-180.0, -90.0, 180.0, 90.0)


def scene(
    scene_id: str,
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    when: datetime = NOON,
    **fields: Any,
) -> Scene:
    """A scene that is all metadata: no raster behind it."""
    assets = fields.pop("assets", (Asset("data", "/nowhere.tif", ("vh",)),))
    fields = {"collection": "test", "platform": "sentinel-1a", **fields}
    return Scene(id=scene_id, datetime=when, footprint=shapely.box(*box), assets=assets, **fields)


def write_raster(
    path: Path,
    values: NDArray[Any],
    *,
    crs: str | None = UTM,
    corner: tuple[float, float] = CORNER,
    pixel: float = 10.0,
    **profile: Any,
) -> Path:
    """A GeoTIFF of `values` (bands, H, W) with its upper left corner at `corner`.

    Without georeference for crs None, with ground control points alone when given `gcps`.
    """
    bands, height, width = values.shape
    placed: dict[str, Any] = {} if crs is None else {"crs": crs}
    if placed and "gcps" not in profile:
        placed["transform"] = _north_up(corner, pixel)
    profile |= {"driver": "GTiff", "dtype": values.dtype, **placed}
    with warnings.catch_warnings():
        # Some are made without georeference on purpose.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", count=bands, height=height, width=width, **profile) as target:
            target.write(values)
    return path


def scene_of(path: Path, bands: Sequence[str], scene_id: str = "scene", **fields: Any) -> Scene:
    """The scene whose only asset is a raster on disk."""
    asset_fields = {key: fields.pop(key) for key in ("nodata", "scale", "offset") if key in fields}
    asset = Asset("data", str(path), tuple(bands), **asset_fields)
    with rasterio.open(path) as source:
        box = transform_bounds(source.crs, "EPSG:4326", *source.bounds, densify_pts=21)
    return scene(scene_id, box, assets=(asset,), **fields)


def item(scene_id: str, href: str, **properties: Any) -> dict[str, Any]:
    """A STAC item as plain JSON, one asset."""
    box = properties.pop("box", (10.0, 50.0, 10.1, 50.1))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": scene_id,
        "collection": properties.pop("collection", "optical"),
        "geometry": shapely.geometry.mapping(shapely.box(*box)),
        "bbox": list(box),
        "properties": {"datetime": "2020-11-04T18:35:41Z", **properties},
        "links": [],
        "assets": {"visual": {"href": href, "type": "image/tiff", "roles": ["data"]}},
    }


def write_items(folder: Path, *items: dict[str, Any]) -> str:
    """The path of an ItemCollection with these items."""
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path)


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    """Random values from 1 to 250, so that 0 stays free to mean no data."""
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Equal to the bit, NaN equal to NaN."""
    return left.dtype == right.dtype and np.array_equal(
        left, right, equal_nan=left.dtype.kind == "f"
    )


def close_open_files() -> None:
    """Close what this thread keeps open, so that what comes next starts cold."""
    while open_files._kept.files:
        open_files._kept.files.popitem()[1].close()


def _north_up(corner: tuple[float, float], pixel: float) -> Affine:
    return Affine(pixel, 0.0, corner[0], 0.0, -pixel, corner[1])


def aligned_lattice(height: int = 64, width: int = 64, shift: int = 0) -> Lattice:
    """A lattice on the pixels of `write_raster`, its corner `shift` pixels up and left."""
    left, top = CORNER[0] - 10 * shift, CORNER[1] + 10 * shift
    affine = Affine(10.0, 0.0, left, 0.0, -10.0, top)
    return Lattice(GeoBox((height, width), affine, UTM), shard_px=32)


def read_window(
    scenes: Sequence[Scene], lattice: Lattice, window: Window, bands: Sequence[str]
) -> NDArray[np.float32]:
    """The values of scenes composited on a window: float32 (bands, H, W), NaN for no data."""
    return read_composite(scenes, lattice, window, bands).values
