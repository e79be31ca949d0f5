"""Sentinel-2 scenes as archives keep them: their ids, keys, extensions, offsets, file formats.

After the public items of Earth Search v1, the Planetary Computer and the Copernicus Data Space. The
same reflectance goes into all of them, as numbers that each archive's convention leads back from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

from catalog.archives.providers import MSI_BANDS

CRS = "EPSG:32632"
CORNER = (600_000.0, 5_200_020.0)  # a multiple of 60 m
TILE, WHEN = "T32TPT", "20240612T101559"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
JP2 = "image/jp2"
NATIVE_PX_M = {
    **dict.fromkeys(MSI_BANDS, 20),
    **dict.fromkeys(("blue", "green", "red", "nir"), 10),
    **dict.fromkeys(("coastal", "nir09", "cirrus"), 60),
}
EARTH_SEARCH_KEYS = {"rededge071": "rededge1", "rededge075": "rededge2", "rededge078": "rededge3"}


@dataclass(frozen=True)
class Convention:
    """How an archive tells reflectance."""

    provider: str
    collection: str
    baseline: str
    added: int
    """What its numbers have more than ten thousand times the reflectance."""
    properties: Mapping[str, Any]
    declared: Mapping[str, Any]
    """Of every reflectance asset."""


CONVENTIONS = {
    # The archive subtracted the offset, and its items declare it nevertheless.
    "earth search, applied": Convention(
        "earth-search", "sentinel-2-l2a", "05.10", 0,
        {"earthsearch:boa_offset_applied": True},
        {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}]},
    ),
    "earth search, not applied": Convention(
        "earth-search", "sentinel-2-l2a", "04.00", 1000,
        {"earthsearch:boa_offset_applied": False},
        {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}]},
    ),
    "earth search, before baseline 4": Convention(
        "earth-search", "sentinel-2-l2a", "02.14", 0,
        {"earthsearch:boa_offset_applied": False},
        {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": 0}]},
    ),
    "earth search, collection 1": Convention(
        "earth-search", "sentinel-2-c1-l2a", "05.00", 1000, {},
        {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}]},
    ),
    # Nothing is declared: the baseline has to be known.
    "planetary computer": Convention(
        "planetary-computer", "sentinel-2-l2a", "05.10", 1000, {}, {}
    ),
    "planetary computer, before baseline 4": Convention(
        "planetary-computer", "sentinel-2-l2a", "03.00", 0, {}, {}
    ),
    "copernicus": Convention(
        "copernicus", "sentinel-2-l2a", "05.10", 1000, {},
        {"nodata": 0, "data_type": "uint16", "raster:scale": 0.0001, "raster:offset": -0.1},
    ),
    "plain STAC": Convention(
        "stac", "sentinel-2", "05.10", 1000, {},
        {"nodata": 0, "raster:scale": 0.0001, "raster:offset": -0.1},
    ),
}  # fmt: skip


def write_scene(
    folder: Path,
    convention: Convention,
    reflectance: Mapping[str, NDArray[Any]],
    classes: NDArray[np.uint8] | None = None,
    *,
    name: str = TILE,
    corner: tuple[float, float] = CORNER,
    added: int | None = None,
    **properties: Any,
) -> dict[str, Any]:
    """A scene's files in `folder`, and its item, whose hrefs are absolute.

    reflectance: by common name (H, W) at 10 m, NaN for no data; each band is written at its own
    resolution. classes: (H, W) at 10 m. added: where the numbers contradict the convention.
    """
    folder.mkdir(parents=True, exist_ok=True)
    baseline = convention.baseline.replace(".", "")
    product = f"S2A_MSIL2A_{WHEN}_N{baseline}_R065_{name}_20240612T150000"
    provider = convention.provider
    assets = {
        key: _band(folder / product, key, band, values, convention, corner, added)
        for band, values in reflectance.items()
        for key in _keys(provider, band)
    }
    if classes is not None:
        key = {"planetary-computer": "SCL", "copernicus": "SCL_20m"}.get(provider, "scl")
        path = _write(
            folder / product, key, _shrunk(classes, 2, nearest=True), 20, corner, provider
        )
        assets[key] = {"href": str(path), "type": _media_type(provider), "roles": ["data"]}
    height, width = next(iter(reflectance.values())).shape
    left, top = corner
    outline = transform_bounds(CRS, "EPSG:4326", left, top - 10 * height, left + 10 * width, top)
    return {
        "type": "Feature",
        "stac_version": "1.1.0" if provider == "copernicus" else "1.0.0",
        "id": product if provider == "copernicus" else f"S2A_{name[1:]}_20240612_0_L2A",
        "collection": convention.collection,
        "geometry": mapping(box(*outline)),
        "bbox": list(outline),
        "links": [],
        "assets": {
            **_beside(folder, provider),
            **assets,
        },
        "properties": {
            "datetime": "2024-06-12T10:15:59.024Z",
            "platform": "sentinel-2a",
            "constellation": "sentinel-2",
            "sat:relative_orbit": 65,
            "sat:orbit_state": "descending",
            "eo:cloud_cover": 3.2,
            **_baseline_properties(provider, convention.baseline, product),
            **convention.properties,
            **properties,
        },
    }


def _baseline_properties(provider: str, baseline: str, product: str) -> dict[str, str]:
    if provider == "copernicus":
        return {"processing:version": baseline}
    return {"s2:processing_baseline": baseline, "s2:product_uri": f"{product}.SAFE"}


def _keys(provider: str, band: str) -> tuple[str, ...]:
    """Under which keys an archive keeps a band."""
    if provider == "copernicus":
        native = NATIVE_PX_M[band]
        return tuple(f"{MSI_BANDS[band]}_{px_m}m" for px_m in (60, 20, 10) if px_m >= native)
    if provider == "planetary-computer":
        return (MSI_BANDS[band],)
    key = EARTH_SEARCH_KEYS.get(band, band)
    return (f"{key}-jp2", key) if provider == "earth-search" else (key,)


def _beside(folder: Path, provider: str) -> dict[str, Any]:
    """What items hold beside bands, and no one may mistake for one."""
    picture = {"href": str(folder / "nowhere.tif"), "type": COG, "roles": ["visual"]}
    rgb = [{"name": name, "common_name": name} for name in ("red", "green", "blue")]
    return {
        "thumbnail": {"href": str(folder / "x.jpg"), "type": "image/jpeg", "roles": ["thumbnail"]},
        **({} if provider == "stac" else {"visual": {**picture, "eo:bands": rgb}}),
        "aot": {"href": str(folder / "nowhere.tif"), "type": COG, "roles": ["data"]},
    }


def _band(
    folder: Path,
    key: str,
    band: str,
    values: NDArray[Any],
    convention: Convention,
    corner: tuple[float, float],
    added: int | None,
) -> dict[str, Any]:
    px_m = int(key.rpartition("_")[2].removesuffix("m")) if "_" in key else NATIVE_PX_M[band]
    more = convention.added if added is None else added
    numbers = np.rint(_shrunk(values, px_m // 10) * 10_000) + more
    stored = np.where(np.isnan(numbers), 0, numbers.clip(0)).astype(np.uint16)
    path = _write(folder, key, stored, px_m, corner, convention.provider)
    named = {"name": MSI_BANDS[band], "common_name": band, "eo:common_name": band}
    return {
        "href": str(path),
        "type": JP2 if key.endswith("-jp2") else _media_type(convention.provider),
        "roles": ["data", "reflectance"],
        "bands" if convention.provider == "copernicus" else "eo:bands": [named],
        **convention.declared,
    }


def _media_type(provider: str) -> str:
    return JP2 if provider == "copernicus" else COG


def _write(
    folder: Path,
    key: str,
    values: NDArray[Any],
    px_m: int,
    corner: tuple[float, float],
    provider: str,
) -> Path:
    """One band as the archive's file: JPEG 2000 without a nodata value, or a GeoTIFF with one."""
    folder.mkdir(exist_ok=True)
    jp2 = provider == "copernicus"
    path = folder / f"{key}.{'jp2' if jp2 else 'tif'}"
    profile: dict[str, Any] = {"driver": "GTiff", "nodata": 0, "compress": "deflate"}
    if jp2:
        profile = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(
        path, "w", count=1, height=values.shape[0], width=values.shape[1], dtype=values.dtype,
        crs=CRS, transform=Affine(px_m, 0, corner[0], 0, -px_m, corner[1]), **profile,
    ) as target:  # fmt: skip
        target.write(values, 1)
    return path


def _shrunk(values: NDArray[Any], factor: int, *, nearest: bool = False) -> NDArray[Any]:
    if nearest:
        return values[::factor, ::factor]
    height, width = values.shape
    blocks = values.reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3)))
