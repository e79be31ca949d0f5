"""Publishing a finished slot: its STAC item, and with it the region's STAC collection.

Putting the item is the commit: readers follow items, and an item is put last, when everything it
points to is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pystac

from catalog import objects
from catalog.archives.items import Scene
from catalog.archives.pairs import Pair
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice, Shard
from catalog.store.days import item_url, published_slots
from catalog.store.slot import SlotStore
from catalog.store.stac import encoded, region_collection, slot_item

READS_AT_ONCE = 16  # items: publishing a day reads those of all others


def generation_name(payload: Mapping[str, Any]) -> str:
    """A short name for what determines a slot's content: equal payloads, equal names.

    `payload` holds JSON values. 16 hexadecimal digits.
    """
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def published_generation(store_url: str, region: str, slot: str) -> str | None:
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
    return None if content is None else _parse_item(content, url).properties


def publish(
    slot: SlotStore,
    lattice: Lattice,
    pairs: Sequence[Pair],
    provenance: Mapping[str, Any],
    sar: Sequence[Scene] = (),
    shards: Sequence[Shard] = (),
) -> str:
    """Publish a complete slot: the list of its shards, the region's collection, last the item.

    `provenance` (scene ids, software, weights hash, configuration: JSON values) becomes item
    properties with the prefix `tar:`. `sar` are all the SAR scenes of a SAR slot, which may have no
    pair; an optical slot has none. `shards` are known to be written, whatever a listing of their
    receipts tells by now. Returns the item's URL.

    Putting the item commits it. Should the process die just before, the collection already links
    an item that the next run puts. Slots of a region are published one at a time; the items are
    the truth, and the collection is derived from them each time.

    Raises ArgumentError without any scene, StoreError when the store cannot be written or the
    slot's group cannot be read.
    """
    if not pairs and not sar:
        raise ArgumentError(f"slot {slot.slot} has no pairs to publish", argument="pairs")
    item = slot_item(slot, lattice, slot.open(), pairs, provenance, sar)
    others = [other for other in read_items(slot.region_url) if other.id != item.id]
    collection = region_collection(slot.region, [*others, item])
    slot.seal((shard.row, shard.col) for shard in shards)
    objects.put(objects.join(slot.region_url, "collection.json"), encoded(collection))
    objects.put(slot.item_url, encoded(item))
    return slot.item_url


def withdraw(store_url: str, region: str, slots: Sequence[str]) -> None:
    """Take slots away from readers: their items, then what the collection says of them.

    Repeating it is harmless, and with no slots it only derives the collection anew, where a process
    that died between the two left links to items that are gone. Without items there is no
    collection. As with publishing, one at a time in a region.

    Raises StoreError.
    """
    region_url = objects.join(store_url, region)
    published = published_slots(region_url)
    for slot in slots:
        if slot in published:
            objects.remove(item_url(region_url, slot))
    url = objects.join(region_url, "collection.json")
    told, left = objects.get(url), published_slots(region_url)
    if told is None or _linked_items(told) == {f"./items/{slot}.json" for slot in left}:
        return
    if left:
        collection = region_collection(region, read_items(region_url))
        objects.put(url, encoded(collection))
    else:
        objects.remove(url)


def read_items(region_url: str) -> list[pystac.Item]:
    """The items of a region's published slots, the earliest first.

    Raises StoreError when the store cannot be read or an item is damaged.
    """
    urls = [item_url(region_url, slot) for slot in published_slots(region_url)]
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        contents = threads.map(objects.get, urls)
        return [_parse_item(read or b"", url) for url, read in zip(urls, contents, strict=True)]


def _linked_items(collection: bytes) -> set[str]:
    """Where a collection says that its items are; nowhere, if it is damaged."""
    try:
        links = json.loads(collection)["links"]
        return {str(link["href"]) for link in links if link["rel"] == "item"}
    except (ValueError, KeyError, TypeError):
        return set()


def _parse_item(content: bytes, url: str) -> pystac.Item:
    try:
        item = pystac.Item.from_dict(json.loads(content), migrate=False, preserve_dict=False)
        item.properties["tar:generation"]
    except (ValueError, KeyError, TypeError, AttributeError, pystac.STACTypeError) as error:
        raise StoreError(
            f"{url} is not an item of this program; move it away and run again", url=url
        ) from error
    return item
