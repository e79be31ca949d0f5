"""A published day as one cloud-optimised GeoTIFF, for programs that read no Zarr.

Written shard by shard, and put in its place when it is complete.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from catalog import objects
from catalog.errors import ArgumentError
from catalog.grid import Window
from catalog.store.days import published_slots
from catalog.store.publish import published_properties
from catalog.store.schema import is_flag
from catalog.store.slot import SlotStore

BLOCK_PX = 512
CACHE_MB = 256  # of GDAL, which would take a twentieth of the machine
DERIVED = ("dx", "dy", "expected_error")
COLOURS = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}


def published_slot(store_url: str, region: str, slot: str) -> SlotStore:
    """The generation that readers of a day see. Raises ArgumentError where there is none."""
    properties = published_properties(store_url, region, slot)
    if properties is None:
        days = published_slots(objects.join(store_url, region))
        raise ArgumentError(
            f"slot: {slot} of {region} is not published in {store_url}; "
            f"there are: {', '.join(days) or 'none'}",
            argument="slot",
        )
    return SlotStore(store_url, region, slot, properties["tar:generation"])


def export_cog(store: SlotStore, out: Path, bands: Sequence[str] | None = None) -> tuple[str, ...]:
    """Write a slot as a cloud-optimised GeoTIFF; returns the names of its bands, in their order.

    `bands` are names of variables; None takes all that is measured (floats). Where flags are
    asked for with them they become floats too, and overviews take the nearest pixel instead of the
    mean; flags alone stay whole numbers, with overviews by majority. Memory is bounded by a shard.

    Raises ArgumentError for a band that is not there or an `out` that cannot be written,
    StoreError when the slot cannot be read.
    """
    slot = store.open()
    names = _choose_bands(slot, bands)
    properties = published_properties(store.store_url, store.region, store.slot) or {}
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder,
            rasterio.Env(GDAL_CACHEMAX=CACHE_MB),
        ):
            plain, finished = Path(folder, "plain.tif"), Path(folder, "finished.tif")
            _write_plain(store, slot[names], properties, plain)
            rasterio.shutil.copy(
                plain, finished, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES",
                BLOCKSIZE=BLOCK_PX, BIGTIFF="IF_SAFER",
                OVERVIEW_RESAMPLING=_resampling(slot[names]).name,
            )  # fmt: skip
            finished.replace(out)
    except (OSError, RasterioError) as error:
        raise ArgumentError(f"out: {out} cannot be written: {error}", argument="out") from error
    return tuple(names)


def _choose_bands(slot: xr.Dataset, bands: Sequence[str] | None) -> list[str]:
    there = sorted(map(str, slot.data_vars))
    if bands is None:
        return sorted((name for name in there if not is_flag(slot[name])), key=_rank)
    unknown = [name for name in bands if name not in there]
    if unknown or not bands:
        raise ArgumentError(
            f"bands: {', '.join(unknown) or 'none'} asked for; there are {', '.join(there)}",
            argument="bands",
        )
    return list(bands)


def _rank(name: str) -> tuple[int, str]:
    """Colours first, so that a viewer shows them; other bands; what they rest on last."""
    if name in COLOURS:
        return list(COLOURS).index(name), ""
    return len(COLOURS) + (name in DERIVED), name


def _write_plain(
    store: SlotStore, slot: xr.Dataset, properties: Mapping[str, Any], path: Path
) -> None:
    """A tiled GeoTIFF of all of `slot`, from which GDAL makes the cloud-optimised one."""
    variables = {str(name): variable for name, variable in slot.items()}
    side = max(slot.chunksizes["y"])  # of a shard
    height, width = slot.sizes["y"], slot.sizes["x"]
    whole_numbers = all(is_flag(each) for each in variables.values())
    profile = {
        "driver": "GTiff", "count": len(variables), "height": height, "width": width,
        "dtype": np.result_type(*variables.values()) if whole_numbers else "float32",
        "nodata": 0 if whole_numbers else float("nan"),
        "crs": slot.attrs["proj:wkt2"], "transform": slot.attrs["spatial:transform"],
        "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "bigtiff": "IF_SAFER",
        "compress": "deflate", "zlevel": 1, "sparse_ok": True,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.update_tags(**_tags(store, properties))
        for index, variable in enumerate(variables.values(), start=1):
            _describe(target, index, variable)
        target.colorinterp = [COLOURS.get(name, ColorInterp.undefined) for name in variables]
        for row, col in sorted(store.written_shards()):
            window = Window(row * side, col * side, side, side).clip((height, width))
            assert window is not None
            where = RasterWindow(window.x0, window.y0, window.width, window.height)
            for index, (name, variable) in enumerate(variables.items(), start=1):
                with objects.store_errors(f"read {name} of", store.url):
                    values = variable[window.slices].values
                target.write(values.astype(target.dtypes[0]), index, window=where)


def _describe(target: Any, index: int, variable: xr.DataArray) -> None:
    attributes = variable.attrs
    target.set_band_description(index, variable.name)
    target.set_band_unit(index, attributes.get("units", ""))
    tags = {"long_name": attributes["long_name"]}
    if "flag_values" in attributes:
        meanings = attributes["flag_meanings"].split()
        pairs = zip(attributes["flag_values"], meanings, strict=True)
        tags["flags"] = ", ".join(f"{value} {meaning}" for value, meaning in pairs)
    target.update_tags(index, **tags)


def _tags(store: SlotStore, properties: Mapping[str, Any]) -> dict[str, str]:
    """Where the file comes from, as the item of the slot says it."""
    tags = {
        key.removeprefix("tar:").upper(): value if isinstance(value, str) else json.dumps(value)
        for key, value in properties.items()
        if key.startswith("tar:")
    }
    return {
        **{f"TAR_{key}": value for key, value in sorted(tags.items())},
        "AREA_OR_POINT": "Area",
        "TIFFTAG_IMAGEDESCRIPTION": str(properties.get("title", store.slot)),
        "TIFFTAG_SOFTWARE": str(properties.get("tar:software", "tar-pipeline")),
    }


def _resampling(slot: xr.Dataset) -> Resampling:
    flags = [is_flag(each) for each in slot.values()]
    if all(flags):
        return Resampling.mode
    return Resampling.nearest if any(flags) else Resampling.average
