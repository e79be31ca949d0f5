"""Each day by itself: its scenes, and the pairs they make.

What a day's mosaic is made of must not depend on which other days are asked for, or a window that
moves on every night would make finished days anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import groupby

from catalog.archives.items import Scene
from catalog.archives.pairs import Pairing, pair_scenes
from catalog.archives.providers import Provider, elevations_of, provider_named
from catalog.archives.search import catalog_api, search
from catalog.errors import SearchError
from catalog.grid import BBox
from flows.plan.request import RegionRequest

ANY_DAY = date(1970, 1, 1), date(2099, 12, 31)
DEM_MARGIN_DEGREES = 0.1  # around the region, which tiles and halos leave by some kilometres


def find_scenes(request: RegionRequest) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """Optical scenes of the days asked for, and the SAR scenes that could be their partners.

    SAR scenes of those days are found too if no optical scene is near, so that it can be told.
    """
    gap, day = timedelta(days=request.max_gap_days), timedelta(days=1)
    provider, bbox = provider_named(request.provider), request.bbox
    with catalog_api(request.catalog) as api_url:
        first, last = request.start - day, request.end + day
        found = search(api_url, request.optical, bbox, first, last, provider, request.bands)
        optical = tuple(s for s in found if request.start <= s.solar_day <= request.end)
        first, last = request.start - gap - 2 * day, request.end + gap + 2 * day
        candidates = search(api_url, request.sar, bbox, first, last, provider)
        if request.dem is not None:
            tiles = find_dem_tiles(api_url, request.dem, bbox, provider)
            candidates = tuple(replace(scene, terrain=tiles) for scene in candidates)
    sar = tuple(
        scene
        for scene in candidates
        if request.start <= scene.solar_day <= request.end
        or any(abs(scene.datetime - other.datetime) <= gap for other in optical)
    )
    return optical, sar


def find_dem_tiles(
    api_url: str, collection: str, bbox: BBox, provider: Provider
) -> tuple[Scene, ...]:
    """The tiles of a DEM under a region and a little around it, whatever their dates.

    Raises `SearchError`, also when there is none.
    """
    west, south, east, north = bbox
    around = (
        max(west - DEM_MARGIN_DEGREES, -180.0), max(south - DEM_MARGIN_DEGREES, -90.0),
        min(east + DEM_MARGIN_DEGREES, 180.0), min(north + DEM_MARGIN_DEGREES, 90.0),
    )  # fmt: skip
    tiles = search(api_url, collection, around, *ANY_DAY, elevations_of(provider))
    unusable = next((tile for tile in tiles if tile.unusable), None)
    if unusable is not None:
        raise SearchError(f"DEM tile {unusable.id}: {unusable.unusable}", url=api_url)
    if not tiles:
        raise SearchError(
            f"dem: collection {collection!r} has no tile under the region; leave the DEM out",
            url=api_url,
        )
    return tiles


def pair_by_day(optical: Sequence[Scene], sar: Sequence[Scene], request: RegionRequest) -> Pairing:
    """Each day paired by itself. A SAR scene is left over when no day has use for it.

    Those left over from outside the days asked for are nobody's concern.
    """
    days = [
        list(scenes)
        for _, scenes in groupby(
            sorted(optical, key=lambda scene: (scene.solar_day, scene.datetime, scene.id)),
            key=lambda scene: scene.solar_day,
        )
    ] or [[]]
    pairings = [
        pair_scenes(
            scenes,
            sar,
            request.bbox,
            max_gap=timedelta(days=request.max_gap_days),
            min_overlap_share=request.min_overlap,
            max_cloud_cover=request.max_cloud_cover,
            orbit=request.orbit,
        )
        for scenes in days
    ]
    pairs = tuple(pair for pairing in pairings for pair in pairing.pairs)
    used = {pair.sar.id for pair in pairs}
    asked_for = {s.id for s in sar if request.start <= s.solar_day <= request.end} - used
    asked_for |= {scene.id for scene in optical}
    left = {u.scene.id: u for pairing in pairings for u in pairing.unpaired}
    return Pairing(pairs, tuple(u for id_, u in left.items() if id_ in asked_for))
