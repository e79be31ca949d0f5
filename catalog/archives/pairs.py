"""Which SAR scene goes with which optical scene, and why a scene has no partner.

Pure: scenes in, pairs out, nothing read and nothing fetched. Areas are compared as shares of one
footprint, so plain degrees serve.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.faults import (
    BEST_ORBIT,
    MAX_CLOUD_COVER,
    find_fault,
    find_other_bands,
    find_other_orbit,
    share_a_band,
)
from catalog.archives.items import Scene
from catalog.grid import BBox, region_outline

MIN_OVERLAP_SHARE = 0.05

Orbit = tuple[str | None, int | None, str | None]
"""Platform, relative orbit and orbit state: scenes of one orbit share their viewing geometry."""


@dataclass(frozen=True)
class Pair:
    """An optical scene and a SAR scene that sees part of the same ground."""

    optical: Scene
    sar: Scene
    overlap_share: float
    """Part of the optical footprint within the region that the SAR scene covers, 0 to 1."""
    gap: timedelta
    """Time between the two acquisitions, never negative."""

    @property
    def id(self) -> str:
        """Names the pair by its two scenes."""
        return f"{self.optical.id}__{self.sar.id}"

    @property
    def overlap(self) -> BaseGeometry:
        """The ground both scenes see, in longitude and latitude."""
        return self.optical.footprint.intersection(self.sar.footprint)


@dataclass(frozen=True)
class Unpaired:
    """A scene without a partner, and why, in plain words."""

    scene: Scene
    reason: str


@dataclass(frozen=True)
class Pairing:
    """Everything that became of the scenes of a request: each is in a pair or has its reason."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]


def pair_scenes(
    optical: Sequence[Scene],
    sar: Sequence[Scene],
    region_bbox: BBox,
    max_gap: timedelta,
    min_overlap_share: float = MIN_OVERLAP_SHARE,
    max_cloud_cover: float = MAX_CLOUD_COVER,
    orbit: str = BEST_ORBIT,
) -> Pairing:
    """Give every optical scene the SAR scenes that cover it best.

    SAR orbits are ranked over the whole request, by how much of the optical scenes they cover and
    then by time gap, so that a mosaic keeps one viewing geometry where it can. For each optical
    scene SAR scenes are taken in the order of that rank, then gap, then overlap, as long as each
    adds at least `min_overlap_share` of the optical footprint within the region.

    `max_gap` is inclusive. `max_cloud_cover` is in percent; an unknown cover passes. `orbit` is an
    ORBIT_POLICY: what it leaves is ranked as said; an unknown orbit passes "best" alone. The scenes
    of one sensor that come in pairs share a band.
    """
    region = region_outline(region_bbox)
    optical_faults = {scene.id: find_fault(scene, region, max_cloud_cover) for scene in optical}
    sar_faults = {
        scene.id: find_fault(scene, region, max_cloud_cover) or find_other_orbit(scene, orbit)
        for scene in sar
    }
    usable = [scene for scene in optical if not optical_faults[scene.id]]
    optical_faults |= find_other_bands(usable, region)

    def choose() -> tuple[list[_Candidates], tuple[Pair, ...]]:
        usable_sar = [scene for scene in sar if not sar_faults[scene.id]]
        tree = shapely.STRtree([scene.footprint for scene in usable_sar])
        candidates = [
            _Candidates(scene, region, usable_sar, tree, max_gap, min_overlap_share)
            for scene in optical
            if not optical_faults[scene.id]
        ]
        rank = _orbit_rank(candidates)
        return candidates, tuple(pair for each in candidates for pair in each.chosen(rank))

    candidates, pairs = choose()
    if not share_a_band([pair.sar for pair in pairs]):
        eligible = {scene.id: scene for each in candidates for scene in each.eligible}
        sar_faults |= find_other_bands(list(eligible.values()), region)
        candidates, pairs = choose()
    paired_ids = {pair.optical.id for pair in pairs} | {pair.sar.id for pair in pairs}
    reasons = {each.optical.id: each.shortfall(sar) for each in candidates}
    unpaired = [
        Unpaired(scene, optical_faults[scene.id] or reasons[scene.id])
        for scene in optical
        if scene.id not in paired_ids
    ] + [
        Unpaired(scene, sar_faults[scene.id] or _surplus(scene, candidates))
        for scene in sar
        if scene.id not in paired_ids
    ]
    return Pairing(pairs, tuple(unpaired))


def pairs_by_slot(pairs: Iterable[Pair]) -> dict[str, tuple[Pair, ...]]:
    """Pairs by slot, the optical solar day as YYYY-MM-DD, in order of time."""
    days: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        days[pair.optical.solar_day.isoformat()].append(pair)
    return {day: tuple(days[day]) for day in sorted(days)}


def sar_orbits(sar: Iterable[Scene]) -> list[dict[str, str | int | None]]:
    """The orbits that SAR scenes were taken from, those of most scenes first.

    Plain JSON values: `platform`, `relative_orbit` and `orbit_state`.
    """
    used = Counter(_orbit(scene) for scene in sar)
    ranked = sorted(used, key=lambda orbit: (-used[orbit], str(orbit)))
    return [_orbit_values(orbit) for orbit in ranked]


def orbit_of(scene: Scene) -> dict[str, str | int | None]:
    """The orbit that a scene was taken from, as `sar_orbits` has it."""
    return _orbit_values(_orbit(scene))


@dataclass(frozen=True)
class _Candidates:
    """One optical scene before the SAR scenes it might go with."""

    optical: Scene
    region: BaseGeometry
    sar: Sequence[Scene]
    sar_footprints: shapely.STRtree
    max_gap: timedelta
    min_share: float

    @cached_property
    def target(self) -> BaseGeometry:
        """The optical footprint within the region; its area is what shares are shares of."""
        return self.optical.footprint.intersection(self.region)

    @cached_property
    def overlapping(self) -> tuple[Scene, ...]:
        """The SAR scenes that cover a part of the target."""
        return tuple(scene for scene in self._near if scene.id in self.share)

    @cached_property
    def share(self) -> Mapping[str, float]:
        """By id, the share of the target that each overlapping SAR scene covers."""
        shares = {scene.id: self.target.intersection(scene.footprint).area for scene in self._near}
        return {scene_id: area / self.target.area for scene_id, area in shares.items() if area > 0}

    @cached_property
    def _near(self) -> list[Scene]:
        """The SAR scenes of which the bounding box meets that of the target."""
        return [self.sar[place] for place in sorted(self.sar_footprints.query(self.target))]

    @cached_property
    def eligible(self) -> tuple[Scene, ...]:
        """SAR scenes near enough in time that cover enough."""
        return tuple(
            scene
            for scene in self.overlapping
            if self.share[scene.id] >= self.min_share and self.gap(scene) <= self.max_gap
        )

    def gap(self, sar: Scene) -> timedelta:
        return abs(sar.datetime - self.optical.datetime)

    def chosen(self, rank: Mapping[Orbit, int]) -> list[Pair]:
        """Greedily, the best SAR scenes that still add ground."""
        # Frames of one pass differ by seconds: they share the gap of the nearest of them, and
        # overlap decides between them.
        pass_gap: dict[str, timedelta] = {}
        for scene in self.eligible:
            known = pass_gap.get(scene.pass_key, self.gap(scene))
            pass_gap[scene.pass_key] = min(known, self.gap(scene))
        best_first = sorted(
            self.eligible,
            key=lambda scene: (
                rank[_orbit(scene)],
                pass_gap[scene.pass_key],
                -self.share[scene.id],
                scene.id,
            ),
        )
        pairs = []
        uncovered = self.target
        for scene in best_first:
            added = uncovered.intersection(scene.footprint).area / self.target.area
            if added >= self.min_share:
                uncovered = uncovered.difference(scene.footprint)
                pairs.append(
                    Pair(self.optical, scene, min(1.0, self.share[scene.id]), self.gap(scene))
                )
        return pairs

    def shortfall(self, all_sar: Sequence[Scene]) -> str:
        """Why there is no eligible SAR scene."""
        if not all_sar:
            return "the search found no SAR scene"
        if not self.overlapping:
            return "no SAR scene overlaps it within the region"
        in_time = [scene for scene in self.overlapping if self.gap(scene) <= self.max_gap]
        if in_time:
            best = max(in_time, key=lambda scene: self.share[scene.id])
            return (
                f"the best overlapping SAR scene, {best.id}, covers {self.share[best.id]:.1%} of "
                f"it, less than the {self.min_share:.0%} needed"
            )
        nearest = min(self.overlapping, key=self.gap)
        return (
            f"the nearest overlapping SAR scene, {nearest.id}, is {_days(self.gap(nearest))} "
            f"away, more than the {_days(self.max_gap)} allowed"
        )


def _orbit_values(orbit: Orbit) -> dict[str, str | int | None]:
    return dict(zip(("platform", "relative_orbit", "orbit_state"), orbit, strict=True))


def _orbit(scene: Scene) -> Orbit:
    return scene.platform, scene.relative_orbit, scene.orbit_state


def _orbit_rank(candidates: Iterable[_Candidates]) -> dict[Orbit, int]:
    """SAR orbits, best first: by optical area covered in steps of 1 %, then by mean gap."""
    coverage: defaultdict[Orbit, float] = defaultdict(float)
    gaps: defaultdict[Orbit, list[timedelta]] = defaultdict(list)
    total = 0.0
    for each in candidates:
        total += each.target.area
        by_orbit: defaultdict[Orbit, list[BaseGeometry]] = defaultdict(list)
        for scene in each.eligible:
            by_orbit[_orbit(scene)].append(scene.footprint)
            gaps[_orbit(scene)].append(each.gap(scene))
        for orbit, footprints in by_orbit.items():
            covered = shapely.union_all(footprints).intersection(each.target)
            coverage[orbit] += covered.area

    def merit(orbit: Orbit) -> tuple[float, timedelta, str]:
        mean_gap = sum(gaps[orbit], timedelta()) / len(gaps[orbit])
        return -round(coverage[orbit] / total, 2), mean_gap, str(orbit)

    return {orbit: place for place, orbit in enumerate(sorted(coverage, key=merit))}


def _surplus(sar: Scene, candidates: Sequence[_Candidates]) -> str:
    """Why a sound SAR scene was taken for no optical scene."""
    overlapped = [each for each in candidates if sar.id in each.share]
    if not overlapped:
        return "it overlaps no usable optical scene within the region"
    nearest = min(overlapped, key=lambda each: each.gap(sar))
    if nearest.gap(sar) > nearest.max_gap:
        return (
            f"the nearest overlapping optical scene, {nearest.optical.id}, is "
            f"{_days(nearest.gap(sar))} away, more than the {_days(nearest.max_gap)} allowed"
        )
    if not any(sar in each.eligible for each in overlapped):
        best = max(each.share[sar.id] for each in overlapped)
        return (
            f"it covers at most {best:.1%} of an optical scene, less than the "
            f"{nearest.min_share:.0%} needed"
        )
    return "other SAR scenes, of a better orbit or nearer in time, already cover its ground"


def _days(gap: timedelta) -> str:
    return f"{gap / timedelta(days=1):.3g} days"
