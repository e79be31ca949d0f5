"""A region's collection and items as a STAC API gets them: absolute addresses, and two marks.

One mark says which store an entry shows, the other is a checksum of all that was sent. By them it
is known later what in an API is of this store, and what of that is not as it should be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pystac

from catalog import objects
from catalog.store.days import item_url
from catalog.store.stac import region_collection

Entry = dict[str, Any]
"""JSON of an item or a collection."""

STORE = "tar:store"
CHECKSUM = "tar:entry_sha256"


def item_entry(item: pystac.Item, region_url: str) -> Entry:
    """A published item for an API; its assets lead to the store, its `canonical` link to itself."""
    url = item_url(address_of(region_url), str(item.properties["tar:slot"]))
    entry = item.to_dict(include_self_link=False, transform_hrefs=False)
    for asset in entry["assets"].values():
        asset["href"] = objects.resolve(url, asset["href"])
    entry["links"] = [{"rel": "canonical", "href": url, "type": pystac.MediaType.GEOJSON}]
    entry["properties"][STORE] = address_of(region_url)
    entry["properties"][CHECKSUM] = _checksum(entry)
    return entry


def collection_entry(items: Sequence[pystac.Item], region: str, region_url: str) -> Entry:
    """The collection of at least one item, for an API, which links to the items by itself."""
    collection = region_collection(region, items)
    entry = collection.to_dict(include_self_link=False, transform_hrefs=False)
    # pgstac before 0.10 keeps of an item only what this does not say, and fills the item up by what
    # it says later.
    entry.pop("item_assets")
    canonical = objects.join(address_of(region_url), "collection.json")
    entry["links"] = [
        *(link for link in entry["links"] if link["rel"] == "license"),
        {"rel": "canonical", "href": canonical, "type": pystac.MediaType.JSON},
    ]
    entry[STORE] = address_of(region_url)
    entry[CHECKSUM] = _checksum(entry)
    return entry


def address_of(region_url: str) -> str:
    """Where a region lies, as a URL also where that is a folder."""
    return region_url if "://" in region_url else Path(region_url).resolve().as_uri()


def _checksum(entry: Entry) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
