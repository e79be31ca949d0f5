"""A SAR pass on a day of its own: which of its scenes are shown, and over which optical scenes.

Pure, as `pairs` is: scenes in, pairs out, nothing read and nothing fetched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.faults import (
    BEST_ORBIT,
    MAX_CLOUD_COVER,
    find_fault,
    find_other_bands,
    find_other_orbit,
)
from catalog.archives.items import Scene
from catalog.archives.pairs import MIN_OVERLAP_SHARE, Pair, Pairing, Unpaired
from catalog.grid import BBox, region_outline

MOST_PASSES = 8  # optical ones of a day: what those leave hidden, older ones rarely show


def choose_sar(
    sar: Sequence[Scene],
    region_bbox: BBox,
    min_added_share: float = MIN_OVERLAP_SHARE,
    orbit: str = BEST_ORBIT,
) -> tuple[tuple[Scene, ...], tuple[Unpaired, ...]]:
    """The SAR scenes of one day that its mosaic shows, and why the others are left out.

    Scenes are taken in the order of how much their pass sees of the region, in steps of 1 %, then
    of the pass's time, then of their own part of it, as long as each adds at least
    `min_added_share` of that part to what is taken. `orbit` is an ORBIT_POLICY. They share a band.
    """
    region = region_outline(region_bbox)
    faults = {
        scene.id: find_fault(scene, region, MAX_CLOUD_COVER) or find_other_orbit(scene, orbit)
        for scene in sar
    }
    faults |= find_other_bands([scene for scene in sar if not faults[scene.id]], region)
    part = {scene.id: scene.footprint & region for scene in sar if not faults[scene.id]}
    passes: defaultdict[str, list[Scene]] = defaultdict(list)
    for scene in sar:
        if scene.id in part:
            passes[scene.pass_key].append(scene)

    def merit(scene: Scene) -> tuple[object, ...]:
        mates = passes[scene.pass_key]
        seen = shapely.union_all([part[mate.id] for mate in mates]).area / region.area
        first = min(mate.datetime for mate in mates)
        share = part[scene.id].area / region.area
        return -round(seen, 2), first, scene.pass_key, -round(share, 4), scene.id

    chosen: list[Scene] = []
    shown: BaseGeometry = shapely.Polygon()
    for scene in sorted((scene for scene in sar if scene.id in part), key=merit):
        added = (part[scene.id] - shown).area
        if added >= min_added_share * part[scene.id].area:
            shown = shown | part[scene.id]
            chosen.append(scene)
        else:
            faults[scene.id] = "other SAR scenes of its day already cover its ground"
    return tuple(chosen), tuple(
        Unpaired(scene, faults[scene.id]) for scene in sar if faults[scene.id]
    )


def pair_latest(
    optical: Sequence[Scene],
    sar: Sequence[Scene],
    region_bbox: BBox,
    min_overlap_share: float = MIN_OVERLAP_SHARE,
    max_cloud_cover: float = MAX_CLOUD_COVER,
) -> Pairing:
    """Pair the SAR scenes of one day with each optical scene that shows their ground.

    An optical scene goes with every SAR scene that covers at least `min_overlap_share` of its part
    of the region; which of them shows a pixel is decided where pixels are read. Of the optical
    passes only the newest MOST_PASSES with a pair are kept, however much of the ground is hidden in
    them. `max_cloud_cover` is in percent; an unknown cover passes. Left over are optical scenes.
    """
    region = region_outline(region_bbox)
    reasons = {scene.id: find_fault(scene, region, max_cloud_cover) for scene in optical}
    found = {
        scene.id: _pairs_of(scene, sar, region, min_overlap_share)
        for scene in optical
        if not reasons[scene.id]
    }
    reasons |= find_other_bands([scene for scene in optical if found.get(scene.id)], region)
    found = {id_: pairs for id_, pairs in found.items() if not reasons[id_]}
    newest: dict[str, float] = {}
    for scene in optical:
        if found.get(scene.id):
            seconds = scene.datetime.timestamp()
            newest[scene.pass_key] = max(seconds, newest.get(scene.pass_key, seconds))
    kept = sorted(newest, key=lambda key: (-newest[key], key))[:MOST_PASSES]
    pairs: list[Pair] = []
    unpaired: list[Unpaired] = []
    for scene in optical:
        if scene.pass_key in kept and found.get(scene.id):
            pairs += found[scene.id]
        elif found.get(scene.id):
            unpaired.append(Unpaired(scene, f"{MOST_PASSES} newer passes show the ground"))
        else:
            none = "no SAR scene of a day that it could be shown on covers enough of it"
            unpaired.append(Unpaired(scene, reasons[scene.id] or none))
    return Pairing(tuple(pairs), tuple(unpaired))


def _pairs_of(
    optical: Scene, sar: Sequence[Scene], region: BaseGeometry, min_overlap_share: float
) -> list[Pair]:
    """The pairs of one optical scene."""
    target = optical.footprint & region
    shares = {each.id: (target & each.footprint).area / target.area for each in sar}
    return [
        Pair(optical, each, min(1.0, shares[each.id]), abs(each.datetime - optical.datetime))
        for each in sar
        if shares[each.id] >= min_overlap_share
    ]
