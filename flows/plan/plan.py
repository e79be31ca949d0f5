"""What a request comes to: which scenes, which pairs, which slots, and what is already there.

Planning reads metadata and a few bytes of each scene; it writes nothing. It is what `--dry-run`
prints, what validates a request before any work starts, and the first stage of the flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from itertools import groupby
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Scene
from catalog.archives.pairs import Pair, Unpaired, sar_orbits, slots
from catalog.archives.providers import PLAIN_STAC, provider_named
from catalog.archives.signing import require_package
from catalog.errors import CatalogError
from catalog.grid import Lattice, lattice_for
from catalog.store.publish import generation_name, published, published_properties
from catalog.store.slot import SlotStore, check_writable
from flows.cluster.workers import DispatchError, check_scheduler
from flows.plan.days import paired_by_day, scenes_of
from flows.plan.request import RegionRequest
from flows.plan.scene_checks import Warned, check_scenes
from tar_engine.errors import EngineError
from tar_engine.network.weights import load_checkpoint

CONTENT_VERSION = 2  # raise it when the same pairs and settings would give other pixels
COVERED_SHARE = 0.99  # a scene hidden to this degree by its pass-mates adds nothing but edges


class PlanError(RuntimeError):
    """A request that cannot be carried out as it is; the cause is chained."""


@dataclass(frozen=True)
class Group:
    """One optical pass seen by one SAR pass: pairs that share one displacement field.

    Scenes are in the order in which they fill the mosaic: those that cover most of the region
    first. Both passes use this one order, so that compose shows what estimate matched.
    """

    pairs: tuple[Pair, ...]
    optical: tuple[Scene, ...]
    sar: tuple[Scene, ...]

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """Those of both sensors."""
        return self.optical + self.sar

    @property
    def passes(self) -> tuple[str, str]:
        """What makes two pairs members of one group."""
        return passes_of(self.pairs[0])

    @property
    def name(self) -> str:
        """For people: the platforms and days of both passes."""
        return " × ".join(
            f"{scene.platform or scene.collection} {scene.datetime:%Y-%m-%d}"
            for scene in (self.optical[0], self.sar[0])
        )


@dataclass(frozen=True)
class SlotPlan:
    """One day's mosaic: its groups, and the name that its content determines.

    `requested` is the generation that all of the day's pairs and tiles would have made, where this
    one is without scenes that turned out unreadable, or without the matches of `failed_tiles`.
    """

    slot: str
    groups: tuple[Group, ...]
    generation: str
    published: bool
    requested: str | None = None
    failed_tiles: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for group in self.groups for pair in group.pairs)

    @property
    def optical_bands(self) -> tuple[str, ...]:
        """The bands that every optical scene of the day has."""
        return common_bands([scene for group in self.groups for scene in group.optical])

    @property
    def sar_bands(self) -> tuple[str, ...]:
        """The polarisations that every SAR scene of the day has."""
        return common_bands([scene for group in self.groups for scene in group.sar])

    @property
    def sar_scenes(self) -> dict[str, datetime]:
        """When each SAR scene was taken, by id; the earliest first."""
        scenes = {scene.id: scene.datetime for group in self.groups for scene in group.sar}
        return dict(sorted(scenes.items(), key=lambda each: (each[1], each[0])))


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the first pixel is matched."""

    request: RegionRequest
    lattice: Lattice
    weights_sha256: str
    optical: tuple[Scene, ...]
    sar: tuple[Scene, ...]
    slots: tuple[SlotPlan, ...]
    unpaired: tuple[Unpaired, ...]
    warnings: tuple[Warned, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for slot in self.slots for pair in slot.pairs)

    @property
    def mosaic_url(self) -> str:
        """What `catalog.open_mosaic` opens."""
        return f"{self.request.store}/{self.request.region}"

    @property
    def unfinished(self) -> tuple[SlotPlan, ...]:
        """The slots that have no item of their generation yet."""
        return tuple(slot for slot in self.slots if not slot.published)


def plan_request(request: RegionRequest) -> Plan:
    """Check everything that a request depends on, and plan it.

    Raises `PlanError`, one sentence: the checkpoint cannot be trusted, the store cannot be
    written, the catalog, a collection or the scheduler cannot be found.
    """
    try:
        if provider_named(request.provider).signed:
            require_package()
        check_scheduler(request.scheduler)
        checkpoint = load_checkpoint(request.weights, request.weights_sha256)
        plan = plan_region(request, checkpoint.sha256)
        if plan.unfinished or not plan.pairs:  # a finished request leaves the store untouched
            check_writable(plan.mosaic_url)
        return plan
    except (CatalogError, EngineError, DispatchError) as error:
        raise PlanError(str(error)) from error


def plan_region(request: RegionRequest, weights_sha256: str) -> Plan:
    """Search, drop scenes that cannot be used, pair, and compare with what the store already holds.

    What a day's mosaic is made of does not depend on which other days are asked for, or a window
    that moves on every night would make days anew: days are solar days, whole, and each is paired
    by itself with SAR scenes that may lie outside the window.
    """
    lattice = lattice_for(request.bbox, crs=request.crs, resolution=request.resolution)
    found_optical, found_sar = scenes_of(request)
    region = shapely.box(*request.bbox)
    checked = check_scenes([*found_optical, *found_sar])
    optical, sar = checked.scenes[: len(found_optical)], checked.scenes[len(found_optical) :]
    hidden = hidden_by_pass_mates(_without(optical, checked.unusable), region)
    pairing = paired_by_day(
        _without(optical, [*checked.unusable, *hidden]), _without(sar, checked.unusable), request
    )
    plan = Plan(
        request=request,
        lattice=lattice,
        weights_sha256=weights_sha256,
        optical=optical,
        sar=sar,
        slots=tuple(
            plan_slot(slot, pairs, request, lattice, weights_sha256)
            for slot, pairs in slots(pairing.pairs).items()
        ),
        unpaired=(*checked.unusable, *hidden, *pairing.unpaired),
        warnings=checked.warnings,
    )
    return _as_published(plan)


def plan_slot(
    slot: str,
    pairs: Sequence[Pair],
    request: RegionRequest,
    lattice: Lattice,
    weights_sha256: str,
    failed_tiles: Sequence[str] = (),
) -> SlotPlan:
    """Group a day's pairs, name their generation, and look whether it is published."""
    groups = _groups(pairs, shapely.box(*request.bbox))
    content = {
        "content_version": CONTENT_VERSION,
        "pairs": [[[p.optical.id, p.sar.id] for p in group.pairs] for group in groups],
        "weights": weights_sha256,
        "configuration": configuration(request),
        "lattice": lattice.fingerprint(),
    }
    if reading := _reading(groups, request):
        content["reading"] = reading
    if failed_tiles:
        content["failed_tiles"] = sorted(failed_tiles)
    generation = generation_name(content)
    done = published(request.store, request.region, slot) == generation
    return SlotPlan(slot, groups, generation, done, failed_tiles=tuple(sorted(failed_tiles)))


def slot_store(plan: Plan, slot: SlotPlan) -> SlotStore:
    """Where this slot's generation is written."""
    return SlotStore(plan.request.store, plan.request.region, slot.slot, slot.generation)


def configuration(request: RegionRequest) -> dict[str, Any]:
    """The settings that change a mosaic's content; part of its name and of its attributes."""
    settings: dict[str, Any] = {"max_offset_px": request.max_offset_px}
    if request.provider != PLAIN_STAC.name:
        settings["provider"] = request.provider
    if request.bands is not None:
        settings["bands"] = list(request.bands)
    if request.dem is not None:
        settings["dem"] = request.dem
    return settings


def _reading(groups: Sequence[Group], request: RegionRequest) -> dict[str, Any]:
    """How the optical scenes of an archive, and those with a mask, are read.

    Archives correct the offsets that their items declare; what was made with others is made anew.
    """
    archive = request.provider != PLAIN_STAC.name
    scenes = {scene.id: scene for group in groups for scene in group.optical}
    return {
        id_: [
            *([asset.key, asset.scale, asset.offset] for asset in scene.assets),
            *([scene.mask.asset.key] if scene.mask else []),
        ]
        for id_, scene in sorted(scenes.items())
        if archive or scene.mask
    }


def provenance(plan: Plan, slot: SlotPlan) -> dict[str, Any]:
    """Where a mosaic comes from: scenes, software, weights, settings. No clock, no machine."""
    return {
        "optical_scenes": [scene.id for group in slot.groups for scene in group.optical],
        "sar_scenes": [scene.id for group in slot.groups for scene in group.sar],
        "sar_orbit_policy": plan.request.orbit,
        "sar_orbits": sar_orbits(slot.pairs),
        "software": f"tar-pipeline {version('tar-pipeline')}",
        "weights_sha256": plan.weights_sha256,
        "configuration": configuration(plan.request),
    }


def without_scenes(plan: Plan, slot: SlotPlan, unreadable: Iterable[str]) -> SlotPlan:
    """The slot without scenes that turned out unreadable (ids): another generation."""
    lost = set(unreadable)
    kept = [pair for pair in slot.pairs if not {pair.optical.id, pair.sar.id} & lost]
    fewer = plan_slot(slot.slot, kept, plan.request, plan.lattice, plan.weights_sha256)
    return replace(fewer, requested=slot.requested or slot.generation)


def without_tiles(plan: Plan, slot: SlotPlan, failed: Iterable[str]) -> SlotPlan:
    """The slot without the matches of tiles that were given up (names): another generation."""
    fewer = plan_slot(
        slot.slot, slot.pairs, plan.request, plan.lattice, plan.weights_sha256, sorted(failed)
    )
    return replace(fewer, requested=slot.requested or slot.generation)


def _as_published(plan: Plan) -> Plan:
    """The plan with days as an earlier run of this request left them, unreadable scenes dropped.

    Without this, a day that lost a scene would be matched anew by every rerun, to the same end.
    """
    done = tuple(_answered(plan, slot) for slot in plan.slots)
    kept = {scene.id for slot in done for pair in slot.pairs for scene in (pair.optical, pair.sar)}
    lost = {
        scene.id: Unpaired(scene, f"it or its partners could not be read when {slot.slot} was made")
        for slot in plan.slots
        for pair in slot.pairs
        for scene in (pair.optical, pair.sar)
        if scene.id not in kept
    }
    return replace(plan, slots=done, unpaired=(*plan.unpaired, *lost.values()))


def _answered(plan: Plan, slot: SlotPlan) -> SlotPlan:
    """The slot without the scenes that a run which was asked for all of them had to drop."""
    if slot.published:
        return slot
    item = published_properties(plan.request.store, plan.request.region, slot.slot)
    if item is None or item.get("tar:requested_generation") != slot.generation:
        return slot
    readable = {*item["tar:optical_scenes"], *item["tar:sar_scenes"]}
    fewer = without_scenes(
        plan, slot, {scene.id for group in slot.groups for scene in group.scenes} - readable
    )
    return fewer if fewer.published else slot


def passes_of(pair: Pair) -> tuple[str, str]:
    """The optical and the SAR pass of a pair."""
    return pair.optical.pass_key, pair.sar.pass_key


def _groups(pairs: Sequence[Pair], region: BaseGeometry) -> tuple[Group, ...]:
    """Pairs by (optical pass, SAR pass); the groups that cover most of the region first."""

    def rank(group: Group) -> tuple[float, tuple[str, str]]:
        seen = shapely.union_all([pair.overlap & region for pair in group.pairs])
        return -round(seen.area / region.area, 4), group.passes

    groups = []
    for _, members in groupby(sorted(pairs, key=passes_of), key=passes_of):
        mates = tuple(sorted(members, key=lambda pair: (pair.optical.id, pair.sar.id)))
        optical = _widest_first({pair.optical.id: pair.optical for pair in mates}.values(), region)
        sar = _widest_first({pair.sar.id: pair.sar for pair in mates}.values(), region)
        groups.append(Group(mates, optical, sar))
    return tuple(sorted(groups, key=rank))


def _widest_first(scenes: Iterable[Scene], region: BaseGeometry) -> tuple[Scene, ...]:
    """By the area they cover of the region, then by id. Rounded: equal areas differ in the ulp."""

    def rank(scene: Scene) -> tuple[float, str]:
        return -round((scene.footprint & region).area / region.area, 4), scene.id

    return tuple(sorted(scenes, key=rank))


def hidden_by_pass_mates(optical: Sequence[Scene], region: BaseGeometry) -> tuple[Unpaired, ...]:
    """Optical scenes whose part of the region their pass-mates show already (granules overlap)."""

    def pass_of(scene: Scene) -> str:
        return scene.pass_key

    hidden = []
    for _, mates in groupby(sorted(optical, key=pass_of), key=pass_of):
        shown: BaseGeometry = shapely.Polygon()
        for scene in _widest_first(mates, region):
            part = scene.footprint & region
            if part.area > 0 and (part & shown).area >= COVERED_SHARE * part.area:
                hidden.append(Unpaired(scene, "other scenes of its pass show all of its ground"))
            else:
                shown = shown | part
    return tuple(hidden)


def _without(scenes: Sequence[Scene], dropped: Sequence[Unpaired]) -> tuple[Scene, ...]:
    ids = {unpaired.scene.id for unpaired in dropped}
    return tuple(scene for scene in scenes if scene.id not in ids)


def common_bands(scenes: Sequence[Scene]) -> tuple[str, ...]:
    """Bands of all scenes, in the order of the first; they are what a mosaic can hold."""
    if not scenes:
        return ()
    shared = set.intersection(*(set(scene.bands) for scene in scenes))
    return tuple(band for band in scenes[0].bands if band in shared)
