"""The STAC item of a slot and the STAC collection of a region. Nothing is read or written here.

Everything is determined by the content, with no clock in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pystac
import shapely
import xarray as xr
from pystac.extensions.datacube import (
    DatacubeExtension,
    Dimension,
    HorizontalSpatialDimension,
    TemporalDimension,
    Variable,
)
from pystac.extensions.projection import ProjectionExtension
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Scene
from catalog.archives.pairs import Pair
from catalog.grid import Lattice, region_outline
from catalog.longitudes import as_geojson_has_it, facing
from catalog.store.days import ITEM_ASSET
from catalog.store.schema import Packing
from catalog.store.slot import SlotStore, validated_region

# Written by hand: pystac's class is of version 1, from before STAC itself described bands.
RASTER_EXTENSION = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
ZARR_MEDIA_TYPE = "application/vnd.zarr; version=3"
LICENSE_URL = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
SUMMARISED = ("proj:code", "gsd", "tar:software", "tar:weights_sha256")
# Seven decimals of a degree are a centimetre, and hide the noise of projecting.
COORDINATE_GRID = 1e-7


def slot_item(
    slot: SlotStore,
    lattice: Lattice,
    pixels: xr.Dataset,
    pairs: Sequence[Pair],
    provenance: Mapping[str, Any],
    sar: Sequence[Scene] = (),
) -> pystac.Item:
    """The STAC item of a slot; its asset's href is relative to where the item is put.

    `pixels` are the slot's variables, of which only names, types and attributes are told.
    `provenance` (JSON values) becomes properties with the prefix `tar:`. `sar` are all the SAR
    scenes of a SAR slot: its time is theirs, and it shows their ground too.
    """
    optical = [pair.optical for pair in pairs]
    footprint, box = as_geojson_has_it(_footprint(lattice, [*optical, *sar]))
    times = [scene.datetime for scene in (*optical, *(pair.sar for pair in pairs), *sar)]
    gsd = _resolution_m(lattice)
    item = pystac.Item(
        id=f"{slot.region}-{slot.slot}",
        geometry=json.loads(shapely.to_geojson(footprint)),
        bbox=list(box),
        datetime=min(scene.datetime for scene in sar or optical),
        start_datetime=min(times),
        end_datetime=max(times),
        properties={
            "title": _title(slot, pairs, sar),
            **({} if gsd is None else {"gsd": gsd}),
            "tar:slot": slot.slot,
            "tar:generation": slot.generation,
            **{f"tar:{key}": value for key, value in provenance.items()},
        },
        collection=slot.region,
    )
    DatacubeExtension.ext(item, add_if_missing=True).apply(
        _spatial_dimensions(lattice),
        {name: _cube_variable(each) for name, each in _by_name(pixels)},
    )
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=lattice.crs_code,
        wkt2=None if lattice.crs_code else lattice.crs.to_wkt(),
        bbox=list(lattice.geobox.boundingbox.bbox),
        shape=list(lattice.shape),
        transform=list(lattice.transform),
    )
    item.stac_extensions.append(RASTER_EXTENSION)
    item.add_asset(ITEM_ASSET, _asset(slot, pixels, gsd))
    for rel in ("root", "parent", "collection"):
        item.add_link(pystac.Link(rel, "../collection.json", pystac.MediaType.JSON))
    return item


def region_collection(region: str, items: Iterable[pystac.Item]) -> pystac.Collection:
    """The STAC collection of a region, derived from its items."""
    ordered = sorted(items, key=lambda item: str(item.properties["tar:slot"]))
    collection = pystac.Collection(
        id=validated_region(region),
        title=f"Registered Sentinel-1 and Sentinel-2 mosaics of {region}",
        description=(
            "Daily mosaics in which SAR scenes are registered to optical scenes. "
            "One item per day; its asset is a Zarr group."
        ),
        # The source imagery is free and open under the Copernicus terms, which have no SPDX id.
        license="other",
        extent=_extent(ordered),
        # Every value, where pystac would leave out long lists.
        summaries=pystac.Summaries(_summaries(ordered), maxcount=sys.maxsize),
    )
    DatacubeExtension.ext(collection, add_if_missing=True).apply(*_cube(ordered))
    ProjectionExtension.summaries(collection, add_if_missing=True)
    collection.stac_extensions.append(RASTER_EXTENSION)
    asset = ordered[-1].assets[ITEM_ASSET].to_dict()
    asset.pop("href")
    collection.item_assets[ITEM_ASSET] = pystac.ItemAssetDefinition(asset)
    collection.clear_links()  # of the one to itself, which knows no address
    collection.add_links(_collection_links(ordered))
    return collection


def encoded(stac: pystac.Item | pystac.Collection) -> bytes:
    """An item or a collection as it is stored: equal objects, equal bytes."""
    content = stac.to_dict(include_self_link=False, transform_hrefs=False)
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    return f"{text}\n".encode()


def _by_name(pixels: xr.Dataset) -> list[tuple[str, xr.DataArray]]:
    return sorted((str(name), variable) for name, variable in pixels.items())


def _asset(slot: SlotStore, pixels: xr.Dataset, gsd: float | None) -> pystac.Asset:
    """The Zarr group, described variable by variable."""
    bands = [
        {
            "name": name,
            "description": variable.attrs["long_name"],
            "data_type": str(variable.encoding["dtype"]),
            # `nodata` of what is packed only: flags have a meaning for every value, and "nan",
            # which STAC would say of floats, makes rustac refuse the whole item.
            **_packing(variable),
            **({"unit": variable.attrs["units"]} if "units" in variable.attrs else {}),
        }
        for name, variable in _by_name(pixels)
    ]
    return pystac.Asset(
        href=slot.item_href,
        title="Optical bands, registered SAR, displacement and quality",
        media_type=ZARR_MEDIA_TYPE,
        roles=["data"],
        extra_fields={
            "raster:sampling": "area",
            **({} if gsd is None else {"raster:spatial_resolution": gsd}),
            "bands": bands,
        },
    )


def _packing(variable: xr.DataArray) -> dict[str, Any]:
    """How whole numbers stand for floats, as STAC says it."""
    if (packing := Packing.of(variable.encoding["dtype"], variable.encoding)) is None:
        return {}
    scaled = {"raster:scale": packing.scale, "raster:offset": packing.offset}
    return {"nodata": packing.fill, **scaled}


def _cube_variable(variable: xr.DataArray) -> Variable:
    attributes = variable.attrs
    return Variable(
        {
            "dimensions": list(variable.dims),
            "type": "data",
            "description": attributes["long_name"],
            **({"unit": attributes["units"]} if "units" in attributes else {}),
        }
    )


def _spatial_dimensions(lattice: Lattice) -> dict[str, Dimension]:
    """The axes of a lattice; extents reach from the first pixel's centre to the last one's."""
    x, y = lattice.centres(lattice.window)
    authority, _, code = (lattice.crs_code or "").partition(":")
    system = int(code) if authority == "EPSG" else lattice.crs.to_wkt()
    return {
        name: HorizontalSpatialDimension(
            {
                "type": "spatial",
                "axis": name,
                "extent": [float(min(centres)), float(max(centres))],
                "step": float(step),
                "reference_system": system,
            }
        )
        for name, centres, step in (("x", x, lattice.transform[0]), ("y", y, lattice.transform[4]))
    }


def _cube(items: Sequence[pystac.Item]) -> tuple[dict[str, Dimension], dict[str, Variable]]:
    """All days as one cube (time, y, x), which is how `open_mosaic` gives them.

    Slots on several grids make no cube: those of the latest are described.
    """
    latest = items[-1].properties["cube:dimensions"]
    alike = [
        item.properties
        for item in items
        if all(
            item.properties.get("cube:dimensions", {}).get(axis, {}).get(key) == latest[axis][key]
            for axis in latest
            for key in ("step", "reference_system")
        )
    ]
    space = {
        axis: HorizontalSpatialDimension(
            {
                **latest[axis],
                "extent": [
                    min(each["cube:dimensions"][axis]["extent"][0] for each in alike),
                    max(each["cube:dimensions"][axis]["extent"][1] for each in alike),
                ],
            }
        )
        for axis in latest
    }
    days = [f"{each['tar:slot']}T00:00:00Z" for each in alike]
    time = TemporalDimension({"type": "temporal", "extent": [days[0], days[-1]], "values": days})
    variables = {
        name: Variable({**variable, "dimensions": ["time", *variable["dimensions"]]})
        for each in alike
        for name, variable in each["cube:variables"].items()
    }
    return {"time": time, **space}, variables


def _extent(items: Sequence[pystac.Item]) -> pystac.Extent:
    """From the first to the last, in space and in time."""
    boxes = [_outline_of(item) for item in items]
    middle = boxes[0].centroid.x
    _, extent = as_geojson_has_it(shapely.union_all([facing(box, middle) for box in boxes]))
    times = [item.common_metadata for item in items]
    starts = [each.start_datetime for each in times if each.start_datetime]
    ends = [each.end_datetime for each in times if each.end_datetime]
    return pystac.Extent(
        pystac.SpatialExtent([list(extent)]),
        pystac.TemporalExtent([[min(starts), max(ends)]]),
    )


def _outline_of(item: pystac.Item) -> BaseGeometry:
    """The box of an item, in one piece."""
    west, south, east, north = item.bbox or []
    return region_outline((west, south, east, north))


def _summaries(items: Sequence[pystac.Item]) -> dict[str, Any]:
    """What the items say, each value once."""
    found = {
        key: sorted({item.properties[key] for item in items if item.properties.get(key)})
        for key in SUMMARISED
    }
    return {key: values for key, values in found.items() if values}


def _collection_links(items: Sequence[pystac.Item]) -> list[pystac.Link]:
    return [
        pystac.Link("root", "./collection.json", pystac.MediaType.JSON),
        pystac.Link(
            "license", LICENSE_URL, pystac.MediaType.PDF,
            title="Legal notice on the use of Copernicus Sentinel data",
        ),
        *(
            pystac.Link(
                "item", f"./items/{item.properties['tar:slot']}.json", pystac.MediaType.GEOJSON,
                title=item.properties["title"],
            )
            for item in items
        ),
    ]  # fmt: skip


def _resolution_m(lattice: Lattice) -> float | None:
    """Side of a pixel in metres, where the CRS counts them."""
    counts_metres = lattice.crs.axis_info[0].unit_name == "metre"
    return lattice.resolution if counts_metres else None


def _title(slot: SlotStore, pairs: Sequence[Pair], sar: Sequence[Scene]) -> str:
    if not sar:
        told = "SAR registered to optical"
    elif pairs:
        told = "SAR registered to the latest optical and by memory"
    else:
        told = "SAR registered by memory, no optical"
    return f"{slot.region}, {slot.slot}: {told}"


def _footprint(lattice: Lattice, scenes: Sequence[Scene]) -> BaseGeometry:
    """What the slot can show: the scenes that it is made for, within the region."""
    extent = lattice.lonlat_extent()
    seen = shapely.union_all([facing(scene.footprint, extent.centroid.x) for scene in scenes])
    return shapely.set_precision(seen.intersection(extent), COORDINATE_GRID)
