"""A STAC query becomes scenes.

What an API may get wrong or cannot do is done here and in `api`: retries, paging, repeated and
reprocessed items, and the exact region and dates.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from urllib.parse import urlsplit

from catalog.archives import embedded
from catalog.archives.acquisitions import one_of_each
from catalog.archives.api import fetch_items
from catalog.archives.items import Dropped, Scene, read_items
from catalog.archives.providers import PLAIN_STAC, Provider
from catalog.archives.reach import within_reach
from catalog.errors import ArgumentError, SearchError, shown, without_secrets
from catalog.grid import BBox, region_outline
from catalog.longitudes import TURN, facing
from catalog.outside.addresses import leads_inside

logger = logging.getLogger(__name__)

# What a footprint spans at most: 400 km of longitude, as in the extra wide mode of Sentinel-1.
WIDEST_SCENE_DEGREES = 3.6  # at the equator
MOST_REACH_DEGREES = 45.0  # near the poles


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
    *,
    allow_local: bool = False,
    own_buckets: Sequence[str] = (),
) -> Found:
    """What a collection has that touches `bbox` from `start` to `end`, both days included.

    Footprints are in the longitudes of the region, in one piece across the antimeridian. `bands` as
    for `scene_from_item`. Local files are read of what `catalog_api` serves from a file, addresses
    inside this machine's network of an API that lies there, and with `allow_local` both of any API.
    The keys of the AWS environment are used for what a file names, and else for `own_buckets`
    (`reach`).

    Raises ArgumentError for a bad box or dates, SearchError as `fetch_items`.
    """
    region = region_outline(bbox)
    if end < start:
        raise ArgumentError(f"end {end} lies before start {start}", argument="end")
    first = datetime.combine(start, time.min, tzinfo=UTC)
    last = datetime.combine(end, time.max, tzinfo=UTC)

    local_files = allow_local or embedded.serves(api_url)
    inside = local_files or leads_inside(api_url)
    items = fetch_items(api_url, collection, query_boxes(bbox), first, last, inside=inside)
    found, refused = read_items(items, api_url, provider, bands)
    middle = region.centroid.x
    scenes = [
        replace(
            within_reach(scene, local_files=local_files, inside=inside, own_buckets=own_buckets),
            footprint=facing(scene.footprint, middle),
        )
        for scene in found
    ]
    wanted = [
        scene
        for scene in scenes
        if first <= scene.datetime <= last and scene.footprint.intersects(region)
    ]
    kept, superseded = one_of_each(wanted)
    return Found(kept, refused, superseded)


def query_boxes(bbox: BBox) -> tuple[BBox, ...]:
    """What to ask an API for, to find all that touches a box.

    Across the antimeridian a box is asked for in two. Near it an API may have footprints in the
    wrong place, written as they are around the world or beyond 180 degrees; these are found by what
    they have on the other side of it, so a footprint's width is asked for on both sides.
    """
    west, south, east, north = region_outline(bbox).bounds
    highest = math.radians(max(abs(south), abs(north)))
    reach = min(WIDEST_SCENE_DEGREES / max(math.cos(highest), 1e-9), MOST_REACH_DEGREES)
    if east - west > TURN / 2 or (west > reach - 180 and east < 180 - reach):
        return (bbox,)
    if west + east < 0:
        west, east = west + TURN, east + TURN
    return (
        (min(west, 180 - reach), south, 180.0, north),
        (-180.0, south, max(east, 180 + reach) - TURN, north),
    )
