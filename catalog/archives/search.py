"""A STAC query becomes scenes.

What an API may get wrong or cannot do is done here: retries, paging, repeated and reprocessed
items, and the exact region and dates.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import shapely
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from requests import RequestException
from urllib3 import Retry

from catalog.archives import embedded
from catalog.archives.acquisitions import one_of_each
from catalog.archives.items import Dropped, Scene, read_items
from catalog.archives.providers import PLAIN_STAC, Provider
from catalog.errors import ArgumentError, SearchError, shown, without_secrets
from catalog.grid import BBox, validated_bbox
from catalog.retrying import ATTEMPTS, FIRST_WAIT_SECONDS

logger = logging.getLogger(__name__)

PAGE_SIZE = 100
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, to answer
RETRIES = ATTEMPTS - 1  # the first at once, or when the answer says to come again
MAX_REPEATED_PAGES = 3  # with nothing new on them, one after the other
RETRIED_STATUSES = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Found:
    """What an archive has of a place and a time."""

    scenes: tuple[Scene, ...]
    """By time, then id; each acquisition once, in its newest processing."""
    refused: tuple[Dropped, ...] = ()
    """Items that are no valid ones."""
    superseded: tuple[Dropped, ...] = ()
    """Items that a newer processing replaces."""

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        return self.refused + self.superseded


@contextmanager
def catalog_api(catalog: str) -> Iterator[str]:
    """The STAC API behind `catalog`: a URL as it is, an ItemCollection file served on loopback.

    Raises SearchError when the file is missing or is no ItemCollection. The embedded server is
    stopped on leaving, and by the kernel should this process die.
    """
    if urlsplit(catalog).scheme in ("http", "https"):
        try:
            yield catalog
        except SearchError as error:
            message = without_secrets(str(error), catalog)
            raise SearchError(message, url=shown(catalog)) from error
        return
    path = Path(catalog.removeprefix("file://"))
    with embedded.stac_api(path) as url:
        try:
            yield url
        except SearchError as error:
            # People gave a file; the address it is served at for a moment tells them nothing.
            raise SearchError(str(error).replace(url, str(path)), url=str(path)) from error


def refused_items(catalog: str, collections: Container[str]) -> tuple[Dropped, ...]:
    """The items of an ItemCollection file that `catalog_api` does not serve; none of a URL's."""
    if urlsplit(catalog).scheme in ("http", "https"):
        return ()
    return embedded.refused_items(Path(catalog.removeprefix("file://")), collections)


def search(
    api_url: str,
    collection: str,
    bbox: BBox,
    start: date,
    end: date,
    provider: Provider = PLAIN_STAC,
    bands: Sequence[str] | None = None,
) -> tuple[Scene, ...]:
    """The scenes of a collection that touch `bbox` from `start` to `end`, both days included.

    As `look_up`, whose other items it tells the log.
    """
    found = look_up(api_url, collection, bbox, start, end, provider, bands)
    for dropped in found.dropped:
        logger.warning("%s is left out: %s", dropped.id, dropped.reason)
    return found.scenes


def look_up(
    api_url: str,
    collection: str,
    bbox: BBox,
    start: date,
    end: date,
    provider: Provider = PLAIN_STAC,
    bands: Sequence[str] | None = None,
) -> Found:
    """What a collection has that touches `bbox` from `start` to `end`, both days included.

    `bands` as for `scene_from_item`. Raises ArgumentError for a bad box or dates, SearchError when
    the API cannot be reached, is no item search, does not know the collection or answers nonsense.
    """
    west, south, east, north = validated_bbox(bbox)
    if end < start:
        raise ArgumentError(f"end {end} lies before start {start}", argument="end")
    first = datetime.combine(start, time.min, tzinfo=UTC)
    last = datetime.combine(end, time.max, tzinfo=UTC)
    region = shapely.box(west, south, east, north)

    items = _fetch_items(api_url, collection, bbox, first, last)
    scenes, refused = read_items(items, api_url, provider, bands)
    wanted = [
        scene
        for scene in scenes
        if first <= scene.datetime <= last and scene.footprint.intersects(region)
    ]
    kept, superseded = one_of_each(wanted)
    return Found(kept, refused, superseded)


def _fetch_items(
    api_url: str, collection: str, bbox: BBox, first: datetime, last: datetime
) -> list[Any]:
    try:
        with warnings.catch_warnings():
            # Conformance is checked below, and there it is an error rather than a warning.
            warnings.simplefilter("ignore", PystacClientWarning)
            client = _open_client(api_url)
            if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                raise SearchError(
                    f"{api_url} is no STAC API with item search (it does not declare that "
                    "conformance class); give the address of an API's landing page",
                    url=api_url,
                )
            known = sorted(found.id for found in client.get_collections())
            if collection not in known:
                raise SearchError(
                    f"{api_url} has no collection {collection!r}; it has: "
                    f"{', '.join(known) or 'none'}",
                    url=api_url,
                )
            answer = client.search(
                collections=[collection], bbox=bbox, datetime=(first, last), limit=PAGE_SIZE
            )
            return _unique_items(answer.pages_as_dicts(), api_url)
    except (APIError, RequestException) as error:
        raise SearchError(
            f"the catalog {api_url} cannot be reached or failed to answer: {error}", url=api_url
        ) from error
    except SearchError:
        raise
    except Exception as error:
        # pystac raises whatever its parsing runs into when an address answers something else.
        raise SearchError(
            f"{api_url} does not answer like a STAC API ({type(error).__name__}: {error})",
            url=api_url,
        ) from error


def _unique_items(pages: Iterable[Mapping[str, Any]], api_url: str) -> list[Any]:
    """The items of all pages, each once; a page may come again, but not for ever."""
    found: dict[str, Any] = {}
    repeated = 0
    for page in pages:
        known = len(found)
        for item in page["features"]:
            # Whatever names it: an item without an id is told by whoever reads it.
            named = isinstance(item, Mapping) and isinstance(item.get("id"), str)
            found.setdefault(item["id"] if named else json.dumps(item), item)
        repeated = repeated + 1 if page["features"] and len(found) == known else 0
        if repeated == MAX_REPEATED_PAGES:
            raise SearchError(f"{api_url} answers with the same page again and again", url=api_url)
    return list(found.values())


def _open_client(api_url: str) -> Client:
    retry = Retry(
        total=RETRIES,
        backoff_factor=FIRST_WAIT_SECONDS,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=None,  # a search is a POST, and repeating it is harmless
    )
    return Client.open(api_url, stac_io=StacApiIO(max_retries=retry), timeout=TIMEOUT_SECONDS)
