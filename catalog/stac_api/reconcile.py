"""One function makes a STAC API show what a store has, whatever happened to either before.

It compares and sends what differs, so a day that is new, a day made again, a day that was retired
and an API that was down, restored from an old copy or emptied all are the same to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from catalog import objects
from catalog.errors import ApiError, StoreError
from catalog.stac_api.connection import REFUSED, Connection, connected, validated_api_url
from catalog.stac_api.entries import CHECKSUM, STORE, address_of, collection_entry, item_entry
from catalog.store.days import item_url
from catalog.store.publish import read_items

AWAY = (*REFUSED, 429, 502, 503, 504)  # what is answered to any entry
MOST_FAILURES = 20  # then it is not about some entries


@dataclass(frozen=True)
class Announced:
    """How an API stood to its store when it was last brought up to date."""

    url: str
    failures: tuple[str, ...] = ()
    """What it did not take, a line each; where there are none, it shows exactly what is there."""

    @property
    def told(self) -> str:
        """One line for people."""
        if not self.failures:
            return f"the STAC API {self.url} shows what is published"
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        return f"the STAC API {self.url} is behind: {self.failures[0]}{more}"


@dataclass(frozen=True)
class ApiChange:
    """What one call did: ids of items."""

    announced: Announced
    upserted: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


def reconcile(api_url: str, store_url: str, region: str) -> ApiChange:
    """Make the collection of a region in a STAC API show exactly the days that are published.

    Entries that are missing or other than the store's are sent, those of this store that it has no
    more are deleted; entries of others stay. The collection of a region without days goes too.
    An API that is down, or refuses, is no error: that is in the result and kept beside the region,
    and the next call makes up for it.

    Raises ArgumentError for an address that is none, StoreError when the store cannot be read or
    written.
    """
    api_url = validated_api_url(api_url)
    region_url = objects.join(store_url, region)
    published = read_items(region_url)
    items = {item.id: item_entry(item, region_url) for item in published}
    upserted: list[str] = []
    deleted: list[str] = []
    failures: list[str] = []
    try:
        with connected(api_url) as api:
            there = _own_collection(api, region, region_url)
            shown = {} if there is None else _own_items(api, region, region_url)
            if published:
                collection = collection_entry(published, region, region_url)
                if there is None or there.get(CHECKSUM) != collection[CHECKSUM]:
                    api.write(collection, "collections", known=there is not None)
            for id_, item in items.items():
                if shown.get(id_, {}).get(CHECKSUM) != item["properties"][CHECKSUM]:
                    with _told_in(failures):
                        api.write(item, "collections", region, "items", known=id_ in shown)
                        upserted.append(id_)
            for id_ in shown.keys() - items.keys():
                slot = str(shown[id_].get("tar:slot"))
                if objects.get(item_url(region_url, slot)) is None:  # not published meanwhile
                    with _told_in(failures):
                        api.delete("collections", region, "items", id_)
                        deleted.append(id_)
            if there is not None and not published and not api.items(region):
                api.delete("collections", region)
    except ApiError as error:
        failures.append(str(error))
    announced = Announced(api_url, tuple(failures))
    _keep(announced, region_url)
    return ApiChange(announced, tuple(upserted), tuple(sorted(deleted)))


def last_announced(region_url: str) -> Announced | None:
    """How the API of a region was left the last time; None for a region that has none.

    Raises StoreError.
    """
    url = _record_url(region_url)
    if (content := objects.get(url)) is None:
        return None
    try:
        told = json.loads(content)
        return Announced(str(told["url"]), tuple(map(str, told["failures"])))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{url} is damaged: delete it, and announce again", url=url) from error


def _own_collection(api: Connection, region: str, region_url: str) -> dict[str, object] | None:
    """The region's collection as the API has it. Raises ApiError when it is somebody else's."""
    there = api.collection(region)
    if there is not None and there.get(STORE) != address_of(region_url):
        raise ApiError(
            f"the collection {region} of this API is not of {address_of(region_url)} but of "
            f"{there.get(STORE, 'another program')}, and stays as it is; name the region "
            "otherwise, or delete that collection",
            url=region_url,
        )
    return there


def _own_items(api: Connection, region: str, region_url: str) -> dict[str, dict[str, object]]:
    """The properties of the API's items that show this store, by id."""
    own = address_of(region_url)
    return {id_: each for id_, each in api.items(region).items() if each.get(STORE) == own}


@contextmanager
def _told_in(failures: list[str]) -> Iterator[None]:
    """An entry that is refused does not keep others out; an API that is away is asked no more."""
    try:
        yield
    except ApiError as error:
        if error.status is None or error.status in AWAY or len(failures) + 1 >= MOST_FAILURES:
            raise
        failures.append(str(error))


def _keep(announced: Announced, region_url: str) -> None:
    url, content = _record_url(region_url), json.dumps(asdict(announced), indent=2).encode()
    if objects.get(url) != content:
        objects.put(url, content)


def _record_url(region_url: str) -> str:
    return objects.join(region_url, "stac-api.json")
