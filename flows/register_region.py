"""The story: find the scenes of a region, register SAR to optical, leave one mosaic per day.

    plan ─▶ for each day: estimate ─▶ compose ─▶ publish ─▶ report

Prefect sees groups of pairs and batches of shards (tens of tasks); tiles and shards themselves are
Dask futures. Every stage continues where a killed run stopped: finished estimates and shards are
kept, and a day that is published is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from distributed import Client, Future
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from catalog.errors import SceneReadError
from catalog.grid import Shard
from catalog.publish import publish
from flows import artifacts
from flows.compose import ShardJob, compose_shard, layers_of, slot_shards
from flows.dispatch import cluster, stream
from flows.estimate import GroupMatches, match_group
from flows.lease import one_run_per_region
from flows.plan import Group, Plan, SlotPlan, plan_request, provenance, slot_store, without_scenes
from flows.preview import draw_preview
from flows.progress import Progress, Stopwatch
from flows.report import (
    SlotOutcome,
    earlier_outcomes,
    report_is_missing,
    run_report,
    save_report,
)
from flows.request import RegionRequest
from flows.settle import GroupEstimate, estimates_from_bytes, estimates_to_bytes, settle

SHARDS_PER_TASK = 64


@dataclass(frozen=True)
class Run:
    """What every stage of one run works with."""

    plan: Plan
    client: Client
    progress: Progress
    clock: Stopwatch


@flow(name="register-region", flow_run_name="{request.region} {request.start} {request.end}")
@one_run_per_region
def register_region(request: RegionRequest) -> dict[str, Any]:
    """Register the SAR scenes of a region to its optical scenes; one mosaic per optical day.

    Returns the content of the run's report.json. A rerun of a finished request writes nothing.

    Raises `catalog.errors.CatalogError`, `tar_engine.errors.EngineError` or
    `flows.dispatch.DispatchError`; what was finished by then is kept for the next run.
    """
    clock = Stopwatch()
    with clock("plan"):
        plan = make_plan(request)
    outcomes: list[SlotOutcome] = []
    if plan.unfinished:
        with (
            clock("workers"),
            cluster(request.scheduler) as client,
            artifacts.live_progress(plan) as progress,
        ):
            run = Run(plan, client, progress, clock)
            outcomes = [make_slot(run, slot) for slot in plan.unfinished]
    return make_report(plan, outcomes, clock)


def make_slot(run: Run, slot: SlotPlan) -> SlotOutcome:
    """One day: displacement fields, then every shard, then the item that publishes it.

    Compose reads pixels that no tile asked for. A scene that breaks only there is dropped, and
    the day begins again without it; so it ends at the latest when no scene is left.
    """
    unreadable: dict[str, str] = {}
    tiles = 0
    while True:
        with run.clock("estimate"):
            outcome = estimate_slot(run, slot)
        unreadable |= outcome.unreadable
        tiles += outcome.tiles
        outcome = replace(outcome, unreadable=unreadable, tiles=tiles)
        slot = outcome.slot
        if not slot.pairs:
            return outcome
        try:
            with run.clock("compose"):
                # A day that lost scenes may be one that another request has published.
                outcome = outcome if slot.published else compose_slot(run, outcome)
        except SceneReadError as error:
            if not any(error.scene_id == s.id for group in slot.groups for s in group.scenes):
                raise
            unreadable[error.scene_id] = str(error)
            slot = without_scenes(run.plan, slot, [error.scene_id])
            continue
        with run.clock("publish"):
            publish_slot(run.plan, outcome)
        return outcome


def estimate_slot(run: Run, slot: SlotPlan) -> SlotOutcome:
    """The fields and verdicts of a day: those a killed run left, or new ones.

    Scenes that turn out unreadable are dropped, and the day is then another generation.
    """
    if (saved := slot_store(run.plan, slot).load_estimate()) is not None:
        return SlotOutcome(slot, estimates_from_bytes(saved))
    found = {group.passes: match_pairs(run, group) for group in slot.groups}
    unreadable = {id_: why for each in found.values() for id_, why in each.unreadable.items()}
    if unreadable:
        slot = without_scenes(run.plan, slot, unreadable)
    estimates = tuple(fit_field(run.plan, group, found[group.passes]) for group in slot.groups)
    if slot.pairs and not slot.published:
        slot_store(run.plan, slot).save_estimate(estimates_to_bytes(estimates))
    tiles = sum(each.tiles for each in found.values())
    return SlotOutcome(slot, estimates, unreadable=unreadable, tiles=tiles)


def compose_slot(run: Run, outcome: SlotOutcome) -> SlotOutcome:
    """Write every shard that some pair touches and that has no receipt yet."""
    plan, slot = run.plan, outcome.slot
    store = slot_store(plan, slot)
    store.create(plan.lattice, slot.optical_bands, slot.sar_bands, provenance(plan, slot))
    shards = slot_shards(plan.lattice, slot.groups)
    done = store.written_shards()
    missing = [shard for shard in shards if (shard.row, shard.col) not in done]
    for start in range(0, len(missing), SHARDS_PER_TASK):
        compose_shards(run, slot, outcome.estimates, missing[start : start + SHARDS_PER_TASK])
    return outcome.with_shards(written=len(missing), kept=len(shards) - len(missing))


@task(name="plan", cache_policy=NO_CACHE)
def make_plan(request: RegionRequest) -> Plan:
    """Search and pair. Whatever can be wrong with a request is found here, before any work."""
    plan = plan_request(request)
    artifacts.show_plan(plan)
    return plan


@task(name="match", task_run_name="match {group.name}", cache_policy=NO_CACHE)
def match_pairs(run: Run, group: Group) -> GroupMatches:
    """Pass one, on the workers: the matches of all tiles of one group."""
    with run.progress.bar(f"matching {group.name}", "tiles") as bar:
        return match_group(run.client, run.plan, group, bar)


@task(name="fit", task_run_name="fit {group.name}", cache_policy=NO_CACHE)
def fit_field(plan: Plan, group: Group, found: GroupMatches) -> GroupEstimate:
    """One smooth field for a group, and a verdict for each of its pairs."""
    return settle(group, found.matches, plan.lattice)


@task(name="compose", task_run_name="compose {slot.slot}", cache_policy=NO_CACHE)
def compose_shards(
    run: Run, slot: SlotPlan, estimates: Sequence[GroupEstimate], shards: Sequence[Shard]
) -> None:
    """Pass two, on the workers: one batch of shards, each composed, written and verified."""
    store, layers = slot_store(run.plan, slot), layers_of(slot.groups, estimates)
    jobs = [
        ShardJob(store, run.plan.lattice, shard, layers, slot.optical_bands, slot.sar_bands)
        for shard in shards
    ]
    with run.progress.bar(f"composing {slot.slot}", "shards") as bar:
        bar.expect(len(jobs))

        def submit(job: ShardJob) -> Future[None]:
            return run.client.submit(compose_shard, job, pure=False)

        for _ in stream(run.client, submit, jobs):
            bar.advance()


@task(name="publish", task_run_name="publish {outcome.slot.slot}", cache_policy=NO_CACHE)
def publish_slot(plan: Plan, outcome: SlotOutcome) -> None:
    """The item goes last: putting it is the commit that readers see."""
    slot = outcome.slot
    # Not part of the mosaic's own attributes: two requests may come to one generation.
    requested = {"requested_generation": slot.requested or slot.generation}
    publish(slot_store(plan, slot), plan.lattice, slot.pairs, provenance(plan, slot) | requested)


@task(name="report", cache_policy=NO_CACHE)
def make_report(plan: Plan, outcomes: Sequence[SlotOutcome], clock: Stopwatch) -> dict[str, Any]:
    """report.json and preview.png beside the mosaic, and the same as Prefect artifacts."""
    missing = report_is_missing(plan)
    with clock("report"):
        shown = earlier_outcomes(plan) if missing and not outcomes else outcomes
        picture = draw_preview(plan, shown)
    content = run_report(plan, outcomes, clock)
    if plan.unfinished or not plan.pairs or missing:
        save_report(plan, content, picture)
    artifacts.show_result(plan, content, picture)
    return content
