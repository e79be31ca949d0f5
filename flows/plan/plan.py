"""What a request comes to: which scenes, which pairs, which slots, and what is already there.

Planning reads metadata and a few bytes of each scene; it writes nothing. It is what `--dry-run`
prints, what validates a request before any work starts, and the first stage of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from catalog.archives.items import Dropped, Scene
from catalog.archives.pairs import Pair, Unpaired, orbit_of, sar_orbits
from catalog.archives.providers import provider_named
from catalog.errors import CatalogError
from catalog.grid import Lattice, lattice_for, region_outline
from catalog.signing import require_package
from catalog.store.publish import published_generation, published_properties
from catalog.store.slot import SlotStore, check_writable
from flows.cluster.workers import DispatchError, check_scheduler
from flows.plan.days import find_scenes, make_days
from flows.plan.gaps import find_gaps
from flows.plan.generation import SlotPlan, configuration, plan_slot
from flows.plan.groups import find_hidden
from flows.plan.places import require_places
from flows.plan.request import RegionRequest
from flows.plan.scene_checks import Warned, check_scenes, without_orbit_file
from tar_engine.errors import EngineError
from tar_engine.network.weights import load_checkpoint


class PlanError(RuntimeError):
    """A request that cannot be carried out as it is; the cause is chained."""


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
    dropped: tuple[Dropped, ...] = ()
    """Items of the archive of which there is no scene."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for slot in self.slots for pair in slot.pairs)

    @property
    def left_out(self) -> tuple[Dropped, ...]:
        """Everything that was found and is in no slot, by id, with its reason."""
        unpaired = (Dropped(each.scene.id, each.reason) for each in self.unpaired)
        return (*self.dropped, *unpaired)

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
    written, the catalog, a collection or the scheduler cannot be found. Raises `PlaceError` when
    this machine has no folder for what is temporary, or for Prefect.
    """
    require_places()
    try:
        if provider_named(request.provider).signed:
            require_package()
        check_scheduler(request.scheduler)
        checkpoint = load_checkpoint(request.weights, request.weights_sha256)
        plan = plan_region(request, checkpoint.sha256)
        if plan.unfinished or not plan.slots:  # a finished request leaves the store untouched
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
    found = find_scenes(request)
    checked = check_scenes([*found.optical, *found.sar])
    optical, sar = checked.scenes[: len(found.optical)], checked.scenes[len(found.optical) :]
    hidden = find_hidden(_without(optical, checked.unusable), region_outline(request.bbox))
    days = make_days(
        _without(optical, [*checked.unusable, *hidden]), _without(sar, checked.unusable), request
    )
    slots = tuple(
        plan_slot(day.slot, day.pairs, request, lattice, weights_sha256, sar=day.sar)
        for day in days.days
    )
    return compare_with_store(
        Plan(
            request=request,
            lattice=lattice,
            weights_sha256=weights_sha256,
            optical=optical,
            sar=sar,
            slots=slots,
            unpaired=(
                *checked.unusable,
                *(left for left in hidden if left.scene.solar_day >= request.start),
                *days.unpaired,
            ),
            warnings=(
                *checked.warnings,
                *(without_orbit_file(sar) if request.orbit_files is not None else ()),
                *find_gaps(optical, sar, slots, request),
            ),
            dropped=found.dropped,
        )
    )


def compare_with_store(plan: Plan) -> Plan:
    """The plan with what is published by now, at the cost of one small object per day.

    Days are as an earlier run of this request left them, unreadable scenes dropped: else a day that
    lost a scene would be matched anew by every rerun, to the same end.

    Raises `StoreError`.
    """
    done = tuple(_compare_slot(plan, slot) for slot in plan.slots)
    kept = {scene.id for slot in done for scene in slot.scenes}
    lost = {
        scene.id: Unpaired(scene, f"it or its partners could not be read when {slot.slot} was made")
        for slot in plan.slots
        for scene in slot.scenes
        if scene.id not in kept
    }
    return replace(plan, slots=done, unpaired=(*plan.unpaired, *lost.values()))


def without_scenes(plan: Plan, slot: SlotPlan, unreadable: Iterable[str]) -> SlotPlan:
    """The slot without scenes that turned out unreadable (ids): another generation.

    Another request may have published it. Raises `StoreError`.
    """
    return _reduce(plan, slot, lost=unreadable)


def without_tiles(plan: Plan, slot: SlotPlan, failed: Iterable[str]) -> SlotPlan:
    """The slot without the matches of tiles that were given up (names): another generation.

    An earlier run may have published it. Raises `StoreError`.
    """
    return _reduce(plan, slot, failed_tiles=sorted(failed))


def with_memory(plan: Plan, slot: SlotPlan, versions: Mapping[str, str]) -> SlotPlan:
    """The slot under the name that these versions of memory, by name, give it.

    Not looked up in the store: it counts as unpublished.
    """
    forgetful = _name_anew(plan, slot, failed_tiles=slot.failed_tiles, memory={})
    requested = slot.requested or forgetful.generation
    named = _name_anew(plan, slot, failed_tiles=slot.failed_tiles, memory=versions)
    return replace(named, requested=None if requested == named.generation else requested)


def slot_store(plan: Plan, slot: SlotPlan) -> SlotStore:
    """Where this slot's generation is written."""
    return SlotStore(plan.request.store, plan.request.region, slot.slot, slot.generation)


def provenance(plan: Plan, slot: SlotPlan) -> dict[str, Any]:
    """Where a mosaic comes from: scenes, software, weights, settings. No clock, no machine."""
    seen = [pair.sar for pair in slot.pairs]
    seen += [scene for group in slot.groups if not group.optical for scene in group.sar]
    orbits = sar_orbits(seen)
    return {
        "slot_kind": slot.kind,
        "optical_scenes": [scene.id for scene in slot.optical],
        "sar_scenes": [scene.id for scene in slot.sar],
        "sar_orbit_policy": plan.request.orbit,
        "sar_orbits": orbits,
        "sar_scene_orbits": [orbits.index(orbit_of(scene)) for scene in slot.sar],
        "software": f"tar-pipeline {version('tar-pipeline')}",
        "weights_sha256": plan.weights_sha256,
        "configuration": configuration(plan.request),
        **({"memory": dict(slot.memory)} if slot.memory else {}),
    }


def _compare_slot(plan: Plan, slot: SlotPlan) -> SlotPlan:
    """The slot as it is published, by a run that was asked for all of it, or not published.

    What memory the published day was made with is its own: that memory grew since, or that there
    was none then, makes no day anew. With `remake` nothing counts as published.
    """
    item = published_properties(plan.request.store, plan.request.region, slot.slot)
    if item is None or plan.request.remake:
        return replace(slot, published=False)
    named = with_memory(plan, slot, item.get("tar:memory", {}))
    if item["tar:generation"] == named.generation:
        return replace(named, published=True)
    if item.get("tar:requested_generation") == (named.requested or named.generation):
        readable = {*item["tar:optical_scenes"], *item["tar:sar_scenes"]}
        fewer = without_scenes(plan, named, {scene.id for scene in slot.scenes} - readable)
        if fewer.published:
            return fewer
    return replace(slot, published=False)


def _reduce(
    plan: Plan, slot: SlotPlan, lost: Iterable[str] = (), failed_tiles: Sequence[str] = ()
) -> SlotPlan:
    """What is left of a slot, and whether just that is published."""
    less = _name_anew(plan, slot, lost, failed_tiles, slot.memory)
    shown = published_generation(plan.request.store, plan.request.region, slot.slot)
    return replace(
        less, published=shown == less.generation, requested=slot.requested or slot.generation
    )


def _name_anew(
    plan: Plan,
    slot: SlotPlan,
    lost: Iterable[str] = (),
    failed_tiles: Sequence[str] = (),
    memory: Mapping[str, str] | None = None,
) -> SlotPlan:
    """The slot as it is planned without scenes (ids) and tiles, and with versions of memory."""
    gone = set(lost)
    return plan_slot(
        slot.slot,
        [pair for pair in slot.pairs if not {pair.optical.id, pair.sar.id} & gone],
        plan.request,
        plan.lattice,
        plan.weights_sha256,
        failed_tiles,
        sar=[s for s in slot.sar if s.id not in gone] if slot.kind == "sar" else (),
        memory=memory,
    )


def _without(scenes: Sequence[Scene], dropped: Sequence[Unpaired]) -> tuple[Scene, ...]:
    ids = {unpaired.scene.id for unpaired in dropped}
    return tuple(scene for scene in scenes if scene.id not in ids)
