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
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice
from catalog.mosaic import SlotStore, validated_region
from catalog.open import ITEM_ASSET
from catalog.pairs import Pair

STAC_VERSION = "1.1.0"
PROJECTION_EXTENSION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
ZARR_MEDIA_TYPE = "application/vnd.zarr; version=3"
JSON_MEDIA_TYPE = "application/json"
GEOJSON_MEDIA_TYPE = "application/geo+json"
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

    Raises ArgumentError without pairs, StoreError when the store cannot be written.
    """
    if not pairs:
        raise ArgumentError(f"slot {slot.slot} has no pairs to publish", argument="pairs")
    item = slot_item(slot, lattice, pairs, provenance)
    others = [other for other in _items(slot.region_url) if other["id"] != item["id"]]
    collection = region_collection(slot.region, [*others, item])
    slot.seal()
    objects.put(objects.join(slot.region_url, "collection.json"), _encoded(collection))
    objects.put(slot.item_url, _encoded(item))
    return slot.item_url


def slot_item(
    slot: SlotStore, lattice: Lattice, pairs: Sequence[Pair], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """The STAC item of a slot; its asset's href is relative to where the item is put."""
    footprint = _footprint(lattice, pairs)
    times = [scene.datetime for pair in pairs for scene in (pair.optical, pair.sar)]
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROJECTION_EXTENSION],
        "id": f"{slot.region}-{slot.slot}",
        "collection": slot.region,
        "geometry": _plain(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "datetime": _rfc3339(min(pair.optical.datetime for pair in pairs)),
            "start_datetime": _rfc3339(min(times)),
            "end_datetime": _rfc3339(max(times)),
            "title": f"{slot.region}, {slot.slot}: SAR registered to optical",
            **_projection(lattice),
            "tar:slot": slot.slot,
            "tar:generation": slot.generation,
            **{f"tar:{key}": value for key, value in provenance.items()},
        },
        "assets": {
            ITEM_ASSET: {
                "href": slot.item_href,
                "type": ZARR_MEDIA_TYPE,
                "title": "Optical bands, registered SAR, displacement and quality",
                "roles": ["data"],
            }
        },
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
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
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
        "links": [
            {"rel": "root", "href": "./collection.json", "type": JSON_MEDIA_TYPE},
            *(
                {
                    "rel": "item",
                    "href": f"./items/{item['properties']['tar:slot']}.json",
                    "type": GEOJSON_MEDIA_TYPE,
                }
                for item in ordered
            ),
        ],
    }


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
