"""Each day by itself: its scenes, and the pairs they make.

What a day's mosaic is made of must not depend on which other days are asked for, or a window that
moves on every night would make finished days anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from catalog.archives.items import Dropped, Scene
from catalog.archives.pairs import Pair, Pairing, Unpaired, pair_scenes, pairs_by_slot
from catalog.archives.providers import Provider, elevations_of, provider_named
from catalog.archives.sar_days import choose_sar, pair_latest
from catalog.archives.search import catalog_api, look_up, refused_items
from catalog.errors import SearchError
from catalog.grid import BBox, widened_bbox
from catalog.sentinel1.orbits import find_orbit_file
from flows.plan.request import RegionRequest

ANY_DAY = date(1970, 1, 1), date(2099, 12, 31)
DEM_MARGIN_DEGREES = 0.1  # around the region, which tiles and halos leave by some kilometres


@dataclass(frozen=True)
class Day:
    """What one day's mosaic is made of."""

    slot: str
    """The solar day, as YYYY-MM-DD."""
    pairs: tuple[Pair, ...]
    sar: tuple[Scene, ...] = ()
    """All SAR scenes of a SAR slot, with and without a pair; an optical slot has none."""

    @property
    def scene_ids(self) -> set[str]:
        """Of all that the mosaic may show."""
        paired = {id_ for pair in self.pairs for id_ in (pair.optical.id, pair.sar.id)}
        return paired | {scene.id for scene in self.sar}


@dataclass(frozen=True)
class Days:
    """The days that get a mosaic, in order; and the scenes that none of them has use for."""

    days: tuple[Day, ...]
    unpaired: tuple[Unpaired, ...]


@dataclass(frozen=True)
class Candidates:
    """What the archive has for the days that are asked for."""

    optical: tuple[Scene, ...]
    sar: tuple[Scene, ...]
    dropped: tuple[Dropped, ...]
    """Items of those days, or that tell no day, of which there is no scene."""


def find_scenes(request: RegionRequest) -> Candidates:
    """Optical scenes of the days asked for, and the SAR scenes that could be their partners.

    SAR scenes of those days are found too if no optical scene is near: they make SAR slots, or it
    can be told. For SAR slots there are also the optical scenes of `max_optical_age_days` before.
    """
    gap, day = timedelta(days=request.max_gap_days), timedelta(days=1)
    provider, bbox = provider_named(request.provider), request.bbox
    with catalog_api(request.catalog) as api_url:
        oldest = request.start
        if request.slots != "optical":
            oldest -= timedelta(days=request.max_optical_age_days)
        first, last = oldest - day, request.end + day
        trusted: dict[str, Any] = {
            "allow_local": request.allow_local, "own_buckets": request.own_buckets or (),
        }  # fmt: skip
        shown = look_up(
            api_url, request.optical, bbox, first, last, provider, request.bands, **trusted
        )
        optical = tuple(s for s in shown.scenes if oldest <= s.solar_day <= request.end)
        first, last = request.start - gap - 2 * day, request.end + gap + 2 * day
        seen = look_up(api_url, request.sar, bbox, first, last, provider, **trusted)
        candidates = seen.scenes
        if request.dem is not None:
            unserved = refused_items(request.catalog, (request.dem,))
            tiles = find_dem_tiles(api_url, request.dem, bbox, provider, unserved, **trusted)
            candidates = tuple(replace(scene, terrain=tiles) for scene in candidates)
        if (folder := request.orbit_files) is not None:
            files = tuple(folder.iterdir())
            candidates = tuple(
                replace(s, orbit_file=find_orbit_file(files, (s.platform, s.id), s.datetime))
                for s in candidates
            )
    sar = tuple(
        scene
        for scene in candidates
        if request.start <= scene.solar_day <= request.end
        or any(
            abs(scene.datetime - other.datetime) <= gap
            for other in optical
            if other.solar_day >= request.start
        )
    )
    unserved = refused_items(request.catalog, (request.optical, request.sar))
    dropped = tuple(
        each
        for each in (*unserved, *shown.dropped, *seen.dropped)
        if each.solar_day is None or request.start <= each.solar_day <= request.end
    )
    return Candidates(optical, sar, dropped)


def find_dem_tiles(
    api_url: str,
    collection: str,
    bbox: BBox,
    provider: Provider,
    unserved: Sequence[Dropped] = (),
    *,
    allow_local: bool = False,
    own_buckets: Sequence[str] = (),
) -> tuple[Scene, ...]:
    """The tiles of a DEM under a region and a little around it, whatever their dates.

    Raises `SearchError`, also when there is none, or `unserved` or what is found has odd items.
    """
    around = widened_bbox(bbox, DEM_MARGIN_DEGREES)
    found = look_up(
        api_url, collection, around, *ANY_DAY, elevations_of(provider),
        allow_local=allow_local, own_buckets=own_buckets,
    )  # fmt: skip
    tiles = found.scenes
    # Ground without a tile counts as sea: to go on without one would displace what is over it.
    faults = [(each.id, each.reason) for each in (*unserved, *found.refused)]
    faults += [(tile.id, tile.unusable) for tile in tiles if tile.unusable]
    if faults:
        raise SearchError(f"DEM tile {faults[0][0]}: {faults[0][1]}", url=api_url)
    if not tiles:
        raise SearchError(
            f"dem: collection {collection!r} has no tile under the region; leave the DEM out",
            url=api_url,
        )
    return tiles


def make_days(optical: Sequence[Scene], sar: Sequence[Scene], request: RegionRequest) -> Days:
    """The days that the request asks for, each by itself, of the scenes that `find_scenes` gave.

    An optical slot is a day of optical scenes with SAR partners. A SAR slot is a day of SAR scenes:
    every one, or with `slots` "both" every one that is no optical slot. Scenes left over are told
    where they are of the days asked for.
    """
    asked = [scene for scene in optical if scene.solar_day >= request.start]
    if request.slots == "sar":
        pairing = pair_latest(asked, (), request.bbox, max_cloud_cover=request.max_cloud_cover)
    else:
        pairing = pair_by_day(asked, sar, request)
    slots = pairs_by_slot(pairing.pairs)
    days = {slot: Day(slot, pairs) for slot, pairs in slots.items()}
    reasons = {left.scene.id: left for left in pairing.unpaired}
    if request.slots != "optical":
        for mates in _split_by_day(sar):
            day = mates[0].solar_day
            if request.start <= day <= request.end and day.isoformat() not in days:
                made, left = make_sar_day(day, mates, optical, request)
                reasons |= {each.scene.id: each for each in left}
                if made.sar:
                    days[made.slot] = made
    used = {id_ for each in days.values() for id_ in each.scene_ids}
    owed = {
        scene.id
        for scene in (*optical, *sar)
        if request.start <= scene.solar_day <= request.end and scene.id not in used
    }
    unpaired = tuple(left for id_, left in reasons.items() if id_ in owed)
    return Days(tuple(days[slot] for slot in sorted(days)), unpaired)


def make_sar_day(
    day: date, sar: Sequence[Scene], optical: Sequence[Scene], request: RegionRequest
) -> tuple[Day, tuple[Unpaired, ...]]:
    """The SAR slot of one day's SAR scenes, over the optical scenes that are not too old for it.

    Ages are counted in solar days. Without a usable SAR scene the slot has none.
    """
    chosen, left = choose_sar(sar, request.bbox, request.min_overlap, request.orbit)
    age = timedelta(days=request.max_optical_age_days)
    recent = [scene for scene in optical if day - age <= scene.solar_day <= day]
    pairing = pair_latest(
        recent, chosen, request.bbox, request.min_overlap, request.max_cloud_cover
    )
    return Day(day.isoformat(), pairing.pairs, chosen), left


def pair_by_day(optical: Sequence[Scene], sar: Sequence[Scene], request: RegionRequest) -> Pairing:
    """Each optical day paired by itself; left over is what no day has use for."""
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
        for scenes in _split_by_day(optical) or [[]]
    ]
    pairs = tuple(pair for pairing in pairings for pair in pairing.pairs)
    used = {id_ for pair in pairs for id_ in (pair.optical.id, pair.sar.id)}
    left = {u.scene.id: u for pairing in pairings for u in pairing.unpaired}
    return Pairing(pairs, tuple(u for id_, u in left.items() if id_ not in used))


def _split_by_day(scenes: Iterable[Scene]) -> list[list[Scene]]:
    """The scenes of each solar day, in order of time."""
    in_order = sorted(scenes, key=lambda scene: (scene.solar_day, scene.datetime, scene.id))
    return [list(mates) for _, mates in groupby(in_order, key=lambda scene: scene.solar_day)]
