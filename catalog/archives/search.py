"""A STAC query becomes scenes.

What an API may get wrong or cannot do is done here: retries, paging, repeated and reprocessed
items, and the exact region and dates.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
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
from catalog.archives.items import Scene, scene_from_item
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
# Two items of one pass whose footprints agree to this share are one scene, processed twice.
SAME_FOOTPRINT_SHARE = 0.95
SAME_SENSING_TIME = timedelta(seconds=10)


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

    Sorted by time, then id; every scene once, in its newest processing. `bands` as for
    `scene_from_item`.

    Raises ArgumentError for a bad box or dates, SearchError when the API cannot be reached, is no
    item search, does not know the collection or answers nonsense.
    """
    west, south, east, north = validated_bbox(bbox)
    if end < start:
        raise ArgumentError(f"end {end} lies before start {start}", argument="end")
    first = datetime.combine(start, time.min, tzinfo=UTC)
    last = datetime.combine(end, time.max, tzinfo=UTC)
    region = shapely.box(west, south, east, north)

    items = _fetch_items(api_url, collection, bbox, first, last)
    scenes = [scene_from_item(item, api_url, provider, bands) for item in items]
    wanted = [
        scene
        for scene in scenes
        if first <= scene.datetime <= last and scene.footprint.intersects(region)
    ]
    return newest_processing(wanted)


def newest_processing(scenes: Iterable[Scene]) -> tuple[Scene, ...]:
    """Scenes by time then id, without repeated ids and superseded processings of one scene."""
    kept: list[Scene] = []
    for mates in _runs_in_time({scene.id: scene for scene in scenes}.values()):
        newest_first = sorted(mates, key=_processing_version, reverse=True)
        footprints = shapely.STRtree([scene.footprint for scene in newest_first])
        newer: dict[int, Scene] = {}
        for place, scene in enumerate(newest_first):
            near = footprints.query(scene.footprint)
            rivals = [newer[other] for other in sorted(near) if other in newer]
            winner = next((other for other in rivals if _same_acquisition(scene, other)), None)
            if winner is None:
                newer[place] = scene
            else:
                logger.info("scene %s is superseded by %s", scene.id, winner.id)
        kept += newer.values()
    return tuple(sorted(kept, key=lambda scene: (scene.datetime, scene.id)))


def _fetch_items(
    api_url: str, collection: str, bbox: BBox, first: datetime, last: datetime
) -> list[dict[str, Any]]:
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


def _unique_items(pages: Iterable[Mapping[str, Any]], api_url: str) -> list[dict[str, Any]]:
    """The items of all pages, each once; a page may come again, but not for ever."""
    found: dict[str, dict[str, Any]] = {}
    repeated = 0
    for page in pages:
        known = len(found)
        for item in page["features"]:
            found.setdefault(item["id"], item)
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


def _runs_in_time(scenes: Iterable[Scene]) -> Iterator[list[Scene]]:
    """The scenes in order of time, cut where the next is too late to be the same acquisition."""
    run: list[Scene] = []
    for scene in sorted(scenes, key=lambda scene: scene.datetime):
        if run and scene.datetime - run[-1].datetime > SAME_SENSING_TIME:
            yield run
            run = []
        run.append(scene)
    if run:
        yield run


def _same_acquisition(scene: Scene, other: Scene) -> bool:
    if scene.platform != other.platform or scene.collection != other.collection:
        return False
    if abs(scene.datetime - other.datetime) > SAME_SENSING_TIME:
        return False
    union = scene.footprint.union(other.footprint).area
    shared = scene.footprint.intersection(other.footprint).area
    return bool(union > 0 and shared / union >= SAME_FOOTPRINT_SHARE)


def _processing_version(scene: Scene) -> tuple[str, str]:
    # Sentinel-2 product names carry the baseline as N0500; ids of archives without it end in a
    # running number, so they order by themselves.
    baseline = re.search(r"_N(\d{4})_", scene.source_product or scene.id)
    return (baseline.group(1) if baseline else "", scene.id)
