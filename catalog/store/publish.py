"""A finished slot becomes a STAC item, the region a STAC collection.

Putting the item is the commit: readers follow items, and an item is put last, when everything it
points to is complete. All bytes are determined by the content, with no clock in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from catalog import objects
from catalog.archives.pairs import Pair
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice
from catalog.store.layout import Variable
from catalog.store.mosaic import SlotStore, validated_region
from catalog.store.open import ITEM_ASSET

STAC_VERSION = "1.1.0"
PROJECTION_EXTENSION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
DATACUBE_EXTENSION = "https://stac-extensions.github.io/datacube/v2.2.0/schema.json"
RASTER_EXTENSION = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
EXTENSIONS = [DATACUBE_EXTENSION, PROJECTION_EXTENSION, RASTER_EXTENSION]
ZARR_MEDIA_TYPE = "application/vnd.zarr; version=3"
JSON_MEDIA_TYPE = "application/json"
GEOJSON_MEDIA_TYPE = "application/geo+json"
LICENSE_URL = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
SUMMARISED = ("proj:code", "gsd", "tar:software", "tar:weights_sha256")
# Seven decimals of a degree are a centimetre, and hide the noise of projecting.
COORDINATE_GRID = 1e-7


def generation_name(payload: Mapping[str, Any]) -> str:
    """A short name for what determines a slot's content: equal payloads, equal names.

    `payload` holds JSON values. 16 hexadecimal digits.
    """
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def published(store_url: str, region: str, slot: str) -> str | None:
    """The generation that readers of a slot see, or None when it is not published.

    Raises StoreError when the store cannot be read or the item is damaged.
    """
    properties = published_properties(store_url, region, slot)
    return None if properties is None else str(properties["tar:generation"])


def published_properties(store_url: str, region: str, slot: str) -> dict[str, Any] | None:
    """The properties of a slot's item, or None when it is not published.

    Raises StoreError when the store cannot be read or the item is damaged.
    """
    url = SlotStore(store_url, region, slot, generation="").item_url
    content = objects.get(url)
    return None if content is None else dict(_parsed(content, url)["properties"])


def publish(
    slot: SlotStore, lattice: Lattice, pairs: Sequence[Pair], provenance: Mapping[str, Any]
) -> str:
    """Publish a complete slot: the list of its shards, the region's collection, then the item.

    The item commits it.

    `provenance` (scene ids, software, weights hash, configuration: JSON values) becomes item
    properties with the prefix `tar:`. Returns the item's URL.

    Should the process die between the two, the collection already links an item that the next
    run puts. Slots of a region are published one at a time; the items are the truth, and the
    collection is derived from them each time.

    Raises ArgumentError without pairs, StoreError when the store cannot be written or the slot's
    group cannot be read.
    """
    if not pairs:
        raise ArgumentError(f"slot {slot.slot} has no pairs to publish", argument="pairs")
    item = slot_item(slot, lattice, slot.variables(), pairs, provenance)
    others = [other for other in _items(slot.region_url) if other["id"] != item["id"]]
    collection = region_collection(slot.region, [*others, item])
    slot.seal()
    objects.put(objects.join(slot.region_url, "collection.json"), _encoded(collection))
    objects.put(slot.item_url, _encoded(item))
    return slot.item_url


def slot_item(
    slot: SlotStore,
    lattice: Lattice,
    variables: Sequence[Variable],
    pairs: Sequence[Pair],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The STAC item of a slot; its asset's href is relative to where the item is put."""
    footprint = _footprint(lattice, pairs)
    times = [scene.datetime for pair in pairs for scene in (pair.optical, pair.sar)]
    gsd = _metres(lattice)
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": EXTENSIONS,
        "id": f"{slot.region}-{slot.slot}",
        "collection": slot.region,
        "geometry": _plain(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "datetime": _rfc3339(min(pair.optical.datetime for pair in pairs)),
            "start_datetime": _rfc3339(min(times)),
            "end_datetime": _rfc3339(max(times)),
            "title": f"{slot.region}, {slot.slot}: SAR registered to optical",
            **({} if gsd is None else {"gsd": gsd}),
            **_projection(lattice),
            "cube:dimensions": _spatial_dimensions(lattice),
            "cube:variables": {each.name: _cube_variable(each, ("y", "x")) for each in variables},
            "tar:slot": slot.slot,
            "tar:generation": slot.generation,
            **{f"tar:{key}": value for key, value in provenance.items()},
        },
        "assets": {ITEM_ASSET: {"href": slot.item_href, **_asset(variables, gsd)}},
        "links": [
            {"rel": rel, "href": "../collection.json", "type": JSON_MEDIA_TYPE}
            for rel in ("root", "parent", "collection")
        ],
    }


def region_collection(region: str, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The STAC collection of a region, derived from its items."""
    ordered = sorted(items, key=lambda item: str(item["properties"]["tar:slot"]))
    boxes = [item["bbox"] for item in ordered]
    west, south = (min(box[axis] for box in boxes) for axis in (0, 1))
    east, north = (max(box[axis] for box in boxes) for axis in (2, 3))
    starts = [item["properties"]["start_datetime"] for item in ordered]
    ends = [item["properties"]["end_datetime"] for item in ordered]
    asset = {
        key: value for key, value in ordered[-1]["assets"][ITEM_ASSET].items() if key != "href"
    }
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": EXTENSIONS,
        "id": validated_region(region),
        "title": f"Registered Sentinel-1 and Sentinel-2 mosaics of {region}",
        "description": (
            "Daily mosaics in which SAR scenes are registered to the optical scenes of the day. "
            "One item per day; its asset is a Zarr group."
        ),
        # The source imagery is free and open under the Copernicus terms, which have no SPDX id.
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[west, south, east, north]]},
            "temporal": {"interval": [[min(starts), max(ends)]]},
        },
        **_cube(ordered),
        "summaries": _summaries(ordered),
        "item_assets": {ITEM_ASSET: asset},
        "links": [
            {"rel": "root", "href": "./collection.json", "type": JSON_MEDIA_TYPE},
            {"rel": "license", "href": LICENSE_URL, "type": "application/pdf",
             "title": "Legal notice on the use of Copernicus Sentinel data"},
            *(
                {
                    "rel": "item",
                    "href": f"./items/{item['properties']['tar:slot']}.json",
                    "type": GEOJSON_MEDIA_TYPE,
                    "title": item["properties"]["title"],
                }
                for item in ordered
            ),
        ],
    }  # fmt: skip


def _asset(variables: Sequence[Variable], gsd: float | None) -> dict[str, Any]:
    """The Zarr group, described variable by variable; without the href."""
    return {
        "type": ZARR_MEDIA_TYPE,
        "title": "Optical bands, registered SAR, displacement and quality",
        "roles": ["data"],
        "raster:sampling": "area",
        **({} if gsd is None else {"raster:spatial_resolution": gsd}),
        "bands": [
            {
                "name": each.name,
                "description": each.attributes["long_name"],
                "data_type": each.dtype,
                # No `nodata`: flags have a meaning for every value, and "nan", which STAC would
                # say of floats, makes rustac refuse the whole item.
                **({"unit": each.attributes["units"]} if "units" in each.attributes else {}),
            }
            for each in variables
        ],
    }


def _cube_variable(variable: Variable, dimensions: Sequence[str]) -> dict[str, Any]:
    attributes = variable.attributes
    return {
        "dimensions": list(dimensions),
        "type": "data",
        "description": attributes["long_name"],
        **({"unit": attributes["units"]} if "units" in attributes else {}),
    }


def _spatial_dimensions(lattice: Lattice) -> dict[str, Any]:
    """The axes of a lattice; extents reach from the first pixel's centre to the last one's."""
    x, y = lattice.centres(lattice.window)
    authority, _, code = (lattice.crs_code or "").partition(":")
    system = int(code) if authority == "EPSG" else lattice.crs.to_wkt()
    return {
        name: {
            "type": "spatial",
            "axis": name,
            "extent": [float(min(centres)), float(max(centres))],
            "step": float(step),
            "reference_system": system,
        }
        for name, centres, step in (("x", x, lattice.transform[0]), ("y", y, lattice.transform[4]))
    }


def _cube(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All days as one cube (time, y, x), which is how `open_mosaic` gives them.

    Slots on several grids make no cube: those of the latest are described.
    """
    latest = items[-1]["properties"]["cube:dimensions"]
    alike = [
        item["properties"]
        for item in items
        if all(
            item["properties"].get("cube:dimensions", {}).get(axis, {}).get(key)
            == latest[axis][key]
            for axis in latest
            for key in ("step", "reference_system")
        )
    ]
    dimensions = {
        axis: {
            **latest[axis],
            "extent": [
                min(each["cube:dimensions"][axis]["extent"][0] for each in alike),
                max(each["cube:dimensions"][axis]["extent"][1] for each in alike),
            ],
        }
        for axis in latest
    }
    days = [f"{each['tar:slot']}T00:00:00Z" for each in alike]
    time = {"type": "temporal", "extent": [days[0], days[-1]], "values": days}
    variables = {
        name: {**variable, "dimensions": ["time", *variable["dimensions"]]}
        for each in alike
        for name, variable in each["cube:variables"].items()
    }
    return {"cube:dimensions": {"time": time, **dimensions}, "cube:variables": variables}


def _summaries(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the items say, each value once."""
    found = {
        key: sorted({item["properties"][key] for item in items if item["properties"].get(key)})
        for key in SUMMARISED
    }
    return {key: values for key, values in found.items() if values}


def _metres(lattice: Lattice) -> float | None:
    """Side of a pixel in metres, where the CRS counts them."""
    counts_metres = lattice.crs.axis_info[0].unit_name == "metre"
    return lattice.resolution if counts_metres else None


def _items(region_url: str) -> list[dict[str, Any]]:
    folder = objects.join(region_url, "items")
    urls = [objects.join(folder, name) for name in objects.names(folder) if name.endswith(".json")]
    return [_parsed(objects.get(url) or b"", url) for url in urls]


def _parsed(content: bytes, url: str) -> dict[str, Any]:
    try:
        item: dict[str, Any] = json.loads(content)
        item["properties"]["tar:generation"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{url} is not an item of this program; move it away and run again", url=url
        ) from error
    return item


def _footprint(lattice: Lattice, pairs: Sequence[Pair]) -> BaseGeometry:
    """What the slot can show: the optical scenes within the region."""
    scenes = shapely.union_all([pair.optical.footprint for pair in pairs])
    return shapely.set_precision(scenes.intersection(lattice.lonlat_extent()), COORDINATE_GRID)


def _projection(lattice: Lattice) -> dict[str, Any]:
    return {
        "proj:code": lattice.crs_code,
        **({} if lattice.crs_code else {"proj:wkt2": lattice.crs.to_wkt()}),
        "proj:shape": list(lattice.shape),
        "proj:transform": list(lattice.transform),
        "proj:bbox": list(lattice.geobox.boundingbox.bbox),
    }


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _plain(geometry: BaseGeometry) -> dict[str, Any]:
    mapping: dict[str, Any] = json.loads(shapely.to_geojson(geometry))
    return mapping


def _encoded(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    return f"{text}\n".encode()
