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
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from catalog import objects
from catalog.errors import ArgumentError
from catalog.grid import Window
from catalog.store.layout import Variable
from catalog.store.mosaic import SlotStore
from catalog.store.publish import published_properties

BLOCK_PX = 512
CACHE_MB = 256  # of GDAL, which would take a twentieth of the machine
DERIVED = ("dx", "dy", "expected_error")
COLOURS = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}


def published_slot(store_url: str, region: str, slot: str) -> SlotStore:
    """The generation that readers of a day see. Raises ArgumentError where there is none."""
    properties = published_properties(store_url, region, slot)
    if properties is None:
        names = objects.names(objects.join(store_url, region, "items"))
        days = [name.removesuffix(".json") for name in names if name.endswith(".json")]
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
    variables = _chosen({each.name: each for each in store.variables()}, bands)
    properties = published_properties(store.store_url, store.region, store.slot) or {}
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder,
            rasterio.Env(GDAL_CACHEMAX=CACHE_MB),
        ):
            plain, finished = Path(folder, "plain.tif"), Path(folder, "finished.tif")
            _write_plain(store, variables, properties, plain)
            rasterio.shutil.copy(
                plain, finished, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES",
                BLOCKSIZE=BLOCK_PX, BIGTIFF="IF_SAFER",
                OVERVIEW_RESAMPLING=_resampling(variables).name,
            )  # fmt: skip
            finished.replace(out)
    except (OSError, RasterioError) as error:
        raise ArgumentError(f"out: {out} cannot be written: {error}", argument="out") from error
    return tuple(each.name for each in variables)


def _chosen(there: Mapping[str, Variable], bands: Sequence[str] | None) -> list[Variable]:
    if bands is None:
        return sorted((each for each in there.values() if not _is_flag(each)), key=_rank)
    unknown = [name for name in bands if name not in there]
    if unknown or not bands:
        raise ArgumentError(
            f"bands: {', '.join(unknown) or 'none'} asked for; there are {', '.join(there)}",
            argument="bands",
        )
    return [there[name] for name in bands]


def _rank(variable: Variable) -> tuple[int, str]:
    """Colours first, so that a viewer shows them; other bands; what they rest on last."""
    if variable.name in COLOURS:
        return list(COLOURS).index(variable.name), ""
    return len(COLOURS) + (variable.name in DERIVED), variable.name


def _write_plain(
    store: SlotStore, variables: Sequence[Variable], properties: Mapping[str, Any], path: Path
) -> None:
    """A tiled GeoTIFF, from which GDAL makes the cloud-optimised one."""
    pixels, attrs = store.pixels("r"), store.open_group("r").attrs.asdict()
    first = pixels[variables[0].name]
    side = int((first.shards or first.chunks)[0])
    height, width = first.shape
    whole_numbers = all(_is_flag(each) for each in variables)
    kinds = {each.dtype for each in variables}
    profile = {
        "driver": "GTiff", "count": len(variables), "height": height, "width": width,
        "dtype": np.result_type(*kinds) if whole_numbers else "float32",
        "nodata": 0 if whole_numbers else float("nan"),
        "crs": attrs["proj:wkt2"], "transform": attrs["spatial:transform"],
        "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "bigtiff": "IF_SAFER",
        "compress": "deflate", "zlevel": 1, "sparse_ok": True,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.update_tags(**_tags(store, properties))
        for index, variable in enumerate(variables, start=1):
            _describe(target, index, variable)
        target.colorinterp = [COLOURS.get(each.name, ColorInterp.undefined) for each in variables]
        for row, col in sorted(store.written_shards()):
            window = Window(row * side, col * side, side, side).clip((height, width))
            assert window is not None
            where = RasterWindow(window.x0, window.y0, window.width, window.height)
            for index, variable in enumerate(variables, start=1):
                with objects.store_errors(f"read {variable.name} of", store.url):
                    values = np.asarray(pixels[variable.name][window.slices])
                target.write(values.astype(target.dtypes[0]), index, window=where)


def _describe(target: Any, index: int, variable: Variable) -> None:
    attributes = variable.attributes
    target.set_band_description(index, variable.name)
    target.set_band_unit(index, attributes.get("units", ""))
    told = {"long_name": attributes["long_name"]}
    if "flag_values" in attributes:
        meanings = attributes["flag_meanings"].split()
        pairs = zip(attributes["flag_values"], meanings, strict=True)
        told["flags"] = ", ".join(f"{value} {meaning}" for value, meaning in pairs)
    target.update_tags(index, **told)


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


def _resampling(variables: Sequence[Variable]) -> Resampling:
    flags = [_is_flag(each) for each in variables]
    if all(flags):
        return Resampling.mode
    return Resampling.nearest if any(flags) else Resampling.average


def _is_flag(variable: Variable) -> bool:
    return not variable.dtype.startswith("float")
