"""The story: find the scenes of a region, register SAR to optical, leave one mosaic per day.

    plan ─▶ for each day: estimate ─▶ compose ─▶ publish ─▶ report

Prefect sees groups of pairs and batches of shards (tens of tasks); tiles and shards themselves are
Dask futures. Every stage continues where a killed run stopped: finished estimates and shards are
kept, and a day that is published is done.

A run ends Completed when all it promised is published. A day that cannot be made fails alone: the
run goes on, and ends in a state of type FAILED, called Partial where other days are published. So
does a run whose days are published, but without the matches of some tiles. Either way the report
says what failed and why, and the same request tries just that again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from distributed import Future
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType

from catalog.errors import CatalogError, SceneReadError
from catalog.grid import Shard
from catalog.store.layout import overview_factors
from catalog.store.overviews import overview_shards, write_overview_shard
from catalog.store.publish import publish
from catalog.store.slot import Receipt, SlotStore
from flows.cluster.lease import region_lease
from flows.cluster.retries import with_retries
from flows.cluster.stream import GivenUp, JobsFailed, only, stream
from flows.cluster.workers import DispatchError, Workers, cluster
from flows.outcome import SlotOutcome
from flows.plan.plan import (
    Group,
    Plan,
    SlotPlan,
    plan_request,
    provenance,
    slot_store,
    without_scenes,
    without_tiles,
)
from flows.plan.request import RegionRequest
from flows.progress import Progress, Stopwatch
from flows.report import artifacts
from flows.report.accountability import IncompleteRun, in_one_sentence, verdict_on
from flows.report.preview import draw_preview
from flows.report.report import earlier_outcomes, report_is_missing, run_report
from flows.report.slot_report import save_reports
from flows.stages.compose import ShardJob, compose_shard, layers_of, slot_schema, slot_shards
from flows.stages.fit import GroupEstimate, estimates_from_bytes, estimates_to_bytes, settle_found
from flows.stages.group_matches import Collected, GroupMatches
from flows.stages.match import match_group
from tar_engine.errors import EngineError

SHARDS_PER_TASK = 64
MOST_TILES_FAILED = 0.5  # of a day's; a day that lost more is not worth publishing
HOUR = 3600.0

Job = TypeVar("Job")


@dataclass(frozen=True)
class Run:
    """What every stage of one run works with."""

    plan: Plan
    workers: Workers
    progress: Progress
    clock: Stopwatch


class TooManyTilesFailed(RuntimeError):
    """Most of a day's tiles were given up; the message has the first reason."""


@flow(name="register-region", flow_run_name="{request.region} {request.start} {request.end}")
def register_region(request: RegionRequest) -> dict[str, Any]:
    """Register the SAR scenes of a region to its optical scenes; one mosaic per optical day.

    Returns the content of the run's report.json. A rerun of a finished request writes nothing.

    Raises `flows.plan.plan.PlanError` when nothing can be done, and `IncompleteRun`, which has the
    report, when something was promised and not delivered; what was finished is kept.
    """
    with region_lease(request.store, request.region):
        return _registered(request)


def _registered(request: RegionRequest) -> dict[str, Any]:
    clock = Stopwatch()
    with clock("plan"):
        plan = make_plan(request)
    outcomes = make_slots(plan, clock) if plan.unfinished else []
    report = make_report(plan, outcomes, clock)
    if (name := verdict_on(report["accountability"])) is not None:
        told = in_one_sentence(report["accountability"])
        incomplete = IncompleteRun(told, report)
        return State(type=StateType.FAILED, name=name, message=told, data=incomplete)  # type: ignore[return-value]
    return report


def make_slots(plan: Plan, clock: Stopwatch) -> list[SlotOutcome]:
    """Every day that is not published yet. Days for which no workers are left fail together."""
    outcomes: list[SlotOutcome] = []
    try:
        with (
            clock("workers"),
            cluster(plan.request.scheduler) as workers,
            artifacts.live_progress(plan) as progress,
        ):
            run = Run(plan, workers, progress, clock)
            outcomes.extend(make_slot(run, slot) for slot in plan.unfinished)
    except DispatchError as error:
        left = plan.unfinished[len(outcomes) :]
        outcomes += [SlotOutcome(slot, ()).failed(error) for slot in left]
    return outcomes


def make_slot(run: Run, slot: SlotPlan) -> SlotOutcome:
    """One day: displacement fields, then every shard, then the item that publishes it.

    Compose reads pixels that no tile asked for. A scene that breaks only there is dropped, and
    the day begins again without it; so it ends at the latest when no scene is left.
    """
    outcome = SlotOutcome(slot, ())
    while True:
        try:
            with run.clock("estimate"):
                outcome = estimate_slot(run, outcome)
            if not outcome.slot.pairs:
                return outcome
            with run.clock("compose"):
                # A day that lost scenes may be one that another request has published.
                outcome = outcome if outcome.slot.published else compose_slot(run, outcome)
            if outcome.failure is None:
                with run.clock("publish"):
                    publish_slot(run.plan, outcome)
            return outcome
        except SceneReadError as error:
            scenes = [scene for group in outcome.slot.groups for scene in group.scenes]
            if not any(error.scene_id == scene.id for scene in scenes):
                return outcome.failed(error)
            fewer = without_scenes(run.plan, outcome.slot, [error.scene_id])
            unreadable = {**outcome.unreadable, error.scene_id: str(error)}
            outcome = replace(outcome, slot=fewer, unreadable=unreadable)
        except (CatalogError, EngineError, JobsFailed, TooManyTilesFailed) as error:
            return outcome.failed(error)


def estimate_slot(run: Run, outcome: SlotOutcome) -> SlotOutcome:
    """The fields and verdicts of a day: those a killed run left, or new ones.

    Scenes that turn out unreadable are dropped, and so are tiles that fail whoever tries them; the
    day is then another generation.
    """
    slot = outcome.slot
    if (saved := slot_store(run.plan, slot).load_estimate()) is not None:
        return replace(outcome, estimates=estimates_from_bytes(saved))
    found = {group.passes: match_pairs(run, group, Collected()) for group in slot.groups}
    unreadable = {id_: why for each in found.values() for id_, why in each.unreadable.items()}
    failed = {name: why for each in found.values() for name, why in each.failed.items()}
    tiles = sum(each.tiles for each in found.values())
    outcome = replace(
        outcome,
        unreadable={**outcome.unreadable, **unreadable},
        tiles=outcome.tiles + tiles,
        failed_tiles=failed,
        engine=sum((each.engine for each in found.values()), outcome.engine),
    )
    if len(failed) > MOST_TILES_FAILED * tiles:
        raise TooManyTilesFailed(f"{len(failed)} of {tiles} tiles failed: {min(failed.values())}")
    if unreadable:
        slot = without_scenes(run.plan, slot, unreadable)
    if failed:
        slot = without_tiles(run.plan, slot, failed)
    estimates = tuple(fit_field(run, group, found[group.passes]) for group in slot.groups)
    if slot.pairs and not slot.published:
        slot_store(run.plan, slot).save_estimate(estimates_to_bytes(estimates))
    return replace(outcome, slot=slot, estimates=estimates)


def compose_slot(run: Run, outcome: SlotOutcome) -> SlotOutcome:
    """Write every shard that some pair touches and that has no receipt yet.

    A shard that fails whoever tries it fails the day: a mosaic has no silent holes.
    """
    plan, slot = run.plan, outcome.slot
    store = create_store(plan, slot)
    shards = slot_shards(plan.lattice, slot.groups)
    kept = store.written_shards()
    missing = [shard for shard in shards if (shard.row, shard.col) not in kept]
    try:
        for start in range(0, len(missing), SHARDS_PER_TASK):
            compose_shards(run, slot, outcome.estimates, missing[start : start + SHARDS_PER_TASK])
        make_overviews(run, slot)
    except JobsFailed as error:
        done = store.written_shards()
        return outcome.with_shards(
            written=len(done - kept), kept=len(kept), missing=len(shards) - len(done)
        ).failed(error)
    return outcome.with_shards(written=len(missing), kept=len(kept))


def make_overviews(run: Run, slot: SlotPlan) -> None:
    """Level by level, each from the one below, what has no receipt yet. Raises `JobsFailed`."""
    store, lattice = slot_store(run.plan, slot), run.plan.lattice
    below = store.written_shards()
    for factor in overview_factors(lattice):
        shards = overview_shards(lattice, factor, below)
        below = {(shard.row, shard.col) for shard in shards}
        if below - store.written_shards(factor):
            compose_overview(run, slot, factor, shards)


@task(name="plan", cache_policy=NO_CACHE, **with_retries(HOUR))
def make_plan(request: RegionRequest) -> Plan:
    """Search and pair. Whatever can be wrong with a request is found here, before any work."""
    plan = plan_request(request)
    artifacts.show_plan(plan)
    return plan


@task(name="match", task_run_name="match {group.name}", cache_policy=NO_CACHE, **with_retries())
def match_pairs(run: Run, group: Group, found: Collected) -> GroupMatches:
    """Pass one, on the workers: the matches of all tiles of one group.

    How long that takes depends on the region; what stands still is noticed by `stream`.
    """
    with run.progress.bar(f"matching {group.name}", "tiles") as bar:
        return match_group(run.workers, run.plan, group, bar, found)


@task(name="fit", task_run_name="fit {group.name}", cache_policy=NO_CACHE, **with_retries())
def fit_field(run: Run, group: Group, found: GroupMatches) -> GroupEstimate:
    """One smooth field for a group, and a verdict for each of its pairs; on a worker."""

    def submit() -> Future[GroupEstimate]:
        there = run.workers.client.scatter(found, hash=False)
        return run.workers.run(settle_found, group, there, run.plan.lattice)

    return only(run.workers, submit, f"the field of {group.name}")


@task(
    name="create", task_run_name="create {slot.slot}", cache_policy=NO_CACHE, **with_retries(HOUR)
)
def create_store(plan: Plan, slot: SlotPlan) -> SlotStore:
    """The day's empty Zarr group, unless a killed run left it."""
    store = slot_store(plan, slot)
    store.create(plan.lattice, slot_schema(slot), provenance(plan, slot))
    return store


@task(name="compose", task_run_name="compose {slot.slot}", cache_policy=NO_CACHE, **with_retries())
def compose_shards(
    run: Run, slot: SlotPlan, estimates: Sequence[GroupEstimate], shards: Sequence[Shard]
) -> None:
    """Pass two, on the workers: one batch of shards, each composed, written and verified.

    Raises `JobsFailed` when shards were given up, after all of the batch were tried; a retry
    leaves alone what is written by then.
    """
    store, layers = slot_store(run.plan, slot), layers_of(slot.groups, estimates)
    done = store.written_shards()
    schema = slot_schema(slot)
    jobs = [
        ShardJob(store, run.plan.lattice, shard, layers, schema)
        for shard in shards
        if (shard.row, shard.col) not in done
    ]

    def submit(job: ShardJob) -> Future[None]:
        return run.workers.run(compose_shard, job)

    write_all(run, f"composing {slot.slot}", submit, {job_name(job.shard): job for job in jobs})


@task(
    name="overview", task_run_name="overview {slot.slot} {factor}", cache_policy=NO_CACHE,
    **with_retries(),
)  # fmt: skip
def compose_overview(run: Run, slot: SlotPlan, factor: int, shards: Sequence[Shard]) -> None:
    """One overview level, on the workers, once the level below is complete.

    Raises `JobsFailed`, as `compose_shards` does.
    """
    store = slot_store(run.plan, slot)
    done = store.written_shards(factor)
    jobs = {
        f"overview {factor}, {job_name(shard)}": shard
        for shard in shards
        if (shard.row, shard.col) not in done
    }

    def submit(shard: Shard) -> Future[Receipt]:
        return run.workers.run(write_overview_shard, store, factor, shard)

    write_all(run, f"overview {factor} of {slot.slot}", submit, jobs)


def job_name(shard: Shard) -> str:
    """What a report calls a shard."""
    return f"shard {shard.row}.{shard.col}"


def write_all(
    run: Run, told: str, submit: Callable[[Job], Future[Any]], jobs: Mapping[str, Job]
) -> None:
    """Every job on the workers. Raises what a scene's reading raises at once, and `JobsFailed` for
    jobs that were given up, by their names, after all were tried."""
    failed: dict[str, GivenUp] = {}
    with run.progress.bar(told, "shards") as bar:
        bar.expect(len(jobs))
        for (name, _), outcome in stream(run.workers, lambda named: submit(named[1]), jobs.items()):
            bar.advance()
            if isinstance(outcome, GivenUp):
                if isinstance(outcome.error, SceneReadError):
                    raise outcome.error
                failed[name] = outcome
    if failed:
        raise JobsFailed(failed)


@task(
    name="publish", task_run_name="publish {outcome.slot.slot}", cache_policy=NO_CACHE,
    **with_retries(HOUR),
)  # fmt: skip
def publish_slot(plan: Plan, outcome: SlotOutcome) -> None:
    """The item goes last: putting it is the commit that readers see."""
    slot = outcome.slot
    # Not part of the mosaic's own attributes: two requests may come to one generation.
    requested = {"requested_generation": slot.requested or slot.generation}
    if slot.failed_tiles:
        requested["failed_tiles"] = list(slot.failed_tiles)  # type: ignore[assignment]
    publish(slot_store(plan, slot), plan.lattice, slot.pairs, provenance(plan, slot) | requested)


@task(name="report", cache_policy=NO_CACHE, **with_retries(HOUR))
def make_report(plan: Plan, outcomes: Sequence[SlotOutcome], clock: Stopwatch) -> dict[str, Any]:
    """report.json, preview.png and a page per day beside the mosaic, and Prefect artifacts."""
    missing = report_is_missing(plan)
    with clock("report"):
        shown = earlier_outcomes(plan) if missing and not outcomes else outcomes
        picture = draw_preview(plan, [outcome for outcome in shown if outcome.failure is None])
    content = run_report(plan, outcomes, clock)
    if plan.unfinished or not plan.pairs or missing:
        save_reports(plan, content, picture, outcomes)
    artifacts.show_result(plan, content, picture)
    return content
