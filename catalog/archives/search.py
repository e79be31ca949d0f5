"""A STAC query becomes scenes.

What an API may get wrong or cannot do is done here and in `api`: retries, paging, repeated and
reprocessed items, and the exact region and dates.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import shapely

from catalog.archives import embedded
from catalog.archives.api import fetch_items
from catalog.archives.items import Scene, scene_from_item
from catalog.archives.providers import PLAIN_STAC, Provider
from catalog.errors import ArgumentError, SearchError, shown, without_secrets
from catalog.grid import BBox, region_outline
from catalog.longitudes import TURN, facing

logger = logging.getLogger(__name__)

# What a footprint spans at most: 400 km of longitude, as in the extra wide mode of Sentinel-1.
WIDEST_SCENE_DEGREES = 3.6  # at the equator
MOST_REACH_DEGREES = 45.0  # near the poles
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

    Sorted by time, then id; every scene once, in its newest processing. Footprints are in the
    longitudes of the region, in one piece across the antimeridian. `bands` as for
    `scene_from_item`.

    Raises ArgumentError for a bad box or dates, SearchError as `fetch_items`.
    """
    region = region_outline(bbox)
    if end < start:
        raise ArgumentError(f"end {end} lies before start {start}", argument="end")
    first = datetime.combine(start, time.min, tzinfo=UTC)
    last = datetime.combine(end, time.max, tzinfo=UTC)

    items = fetch_items(api_url, collection, query_boxes(bbox), first, last)
    found = [scene_from_item(item, api_url, provider, bands) for item in items]
    middle = region.centroid.x
    scenes = [replace(scene, footprint=facing(scene.footprint, middle)) for scene in found]
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
