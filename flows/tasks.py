"""The steps of a run as Prefect sees them: groups of pairs and batches of shards, tens of tasks.

Tiles and shards themselves are Dask futures. A step that fails for a reason that may pass is tried
again (`flows.cluster.retries`); what it had finished by then is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from distributed import Future
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from catalog import objects
from catalog.archives.items import Scene
from catalog.cube.update import update_cube
from catalog.errors import SceneReadError, StoreError
from catalog.grid import Shard
from catalog.stac_api.reconcile import Announced, reconcile
from catalog.store.overviews import write_overview_shard
from catalog.store.publish import publish
from catalog.store.receipts import Receipt
from catalog.store.slot import SlotStore
from catalog.store.upkeep import forget_unsound_shards, mend_description
from flows.cluster.retries import with_retries
from flows.cluster.stream import GivenUp, JobsFailed, run_one, stream
from flows.cluster.workers import Workers
from flows.memory.radar import PassPosition, locate_pass, match_pass, radar_tiles
from flows.memory.recall import Remembered
from flows.memory.remember import Lesson, ReferenceJob, learn, write_reference_shard
from flows.memory.weigh import weigh_found
from flows.outcome import SlotOutcome
from flows.plan.generation import SlotPlan
from flows.plan.groups import Group
from flows.plan.plan import Plan, compare_with_store, plan_request, provenance, slot_store
from flows.plan.request import RegionRequest
from flows.prefect_server import answers
from flows.progress import Progress, Stopwatch
from flows.report import artifacts
from flows.report.save import save_run
from flows.report.schema import Report
from flows.stages.compose import ShardJob, compose_shard, layers_of, slot_schema, slot_shards
from flows.stages.estimate import GroupEstimate
from flows.stages.fit import fit_found
from flows.stages.group_matches import Collected, GroupMatches
from flows.stages.match import Tile, match_group

HOUR = 3600.0

Job = TypeVar("Job")


@dataclass(frozen=True)
class Run:
    """What every step of one run works with."""

    plan: Plan
    workers: Workers
    progress: Progress
    clock: Stopwatch


@task(name="plan", cache_policy=NO_CACHE, **with_retries(HOUR))
def plan_run(request: RegionRequest) -> Plan:
    """Search and pair. Whatever can be wrong with a request is found here, before any work."""
    plan = plan_request(request)
    artifacts.show_plan(plan)
    return plan


@task(name="plan", cache_policy=NO_CACHE, **with_retries(HOUR))
def renew_plan(plan: Plan) -> Plan:
    """A plan that was made before its run began: another run may have published since."""
    renewed = compare_with_store(plan)
    artifacts.show_plan(renewed)
    return renewed


@task(name="match", task_run_name="match {group.name}", cache_policy=NO_CACHE, **with_retries())
def match_pairs(run: Run, group: Group, tiles: Sequence[Tile], found: Collected) -> GroupMatches:
    """Pass one, on the workers: the matches of tiles of one group.

    How long that takes depends on the region; what stands still is noticed by `stream`.
    """
    with run.progress.bar(f"matching {group.name}", "tiles") as bar:
        return match_group(run.workers, run.plan, group, tiles, bar, found)


@task(
    name="radar", task_run_name="radar {sar[0].pass_key}", cache_policy=NO_CACHE, **with_retries()
)
def position_pass(
    run: Run, sar: Sequence[Scene], remembered: Remembered
) -> tuple[GroupMatches, PassPosition]:
    """Where a SAR pass lies on the ground, by the reference of its geometry; on the workers."""
    tiles = radar_tiles(run.plan.lattice, sar, remembered)
    with run.progress.bar(f"radar of {sar[0].datetime:%Y-%m-%d}", "tiles") as bar:
        found = match_pass(run.workers, run.plan, tiles, bar, Collected())
    return found, locate_pass(sar, found.matches(), remembered, run.plan.lattice)


@task(name="fit", task_run_name="fit {group.name}", cache_policy=NO_CACHE, **with_retries())
def fit_field(run: Run, group: Group, found: GroupMatches) -> GroupEstimate:
    """One smooth field for a group, and a verdict for each of its pairs; on a worker, which shares
    a large one with the others."""

    def submit() -> Future[GroupEstimate]:
        there = run.workers.client.scatter(found, hash=False)
        return run.workers.run(fit_found, group, there, run.plan.lattice)

    return run_one(run.workers, submit, f"the field of {group.name}")


@task(name="weigh", task_run_name="weigh {group.name}", cache_policy=NO_CACHE, **with_retries())
def weigh_field(
    run: Run,
    group: Group,
    found: GroupMatches | None,
    remembered: Remembered,
    position: PassPosition | None,
) -> GroupEstimate:
    """The same where the ground is remembered: what is found, weighed against it; on a worker."""

    def submit() -> Future[GroupEstimate]:
        there = run.workers.client.scatter((found, remembered), hash=False)
        return run.workers.run(weigh_found, group, there, position, run.plan.lattice)

    return run_one(run.workers, submit, f"the field of {group.name}")


@task(
    name="remember", task_run_name="remember {slot.slot}", cache_policy=NO_CACHE, **with_retries()
)
def learn_day(run: Run, slot: SlotPlan, lesson: Lesson) -> None:
    """Add a published day to one memory; committed when all of it is written.

    Raises `JobsFailed` when a part of its reference was given up.
    """
    version = lesson.previous
    if lesson.estimate is not None:
        version = lesson.version
        jobs = {f"reference, {name_shard(job.shard)}": job for job in learn(run.plan, slot, lesson)}

        def submit(job: ReferenceJob) -> Future[None]:
            return run.workers.run(write_reference_shard, job)

        run_jobs(run, f"remembering {slot.slot}", submit, jobs)
    assert version is not None
    lesson.store.commit(version, (*lesson.slots, lesson.slot))


@task(
    name="create", task_run_name="create {slot.slot}", cache_policy=NO_CACHE, **with_retries(HOUR)
)
def create_store(plan: Plan, slot: SlotPlan) -> SlotStore:
    """The day's empty Zarr group, unless a killed run left it.

    What is made again counts as written only where it still reads as it was written.
    """
    store = slot_store(plan, slot)
    described = plan.lattice, slot_schema(slot), provenance(plan, slot)
    if plan.request.remake and objects.names(store.url):
        mend_description(store, *described)
        forgotten = forget_unsound_shards(store, plan.lattice)
        get_run_logger().info("%s: %d shards are to be mended", slot.slot, forgotten)
    store.create(*described)
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
        return run.workers.run(compose_shard, job.cut())

    run_jobs(run, f"composing {slot.slot}", submit, {name_shard(job.shard): job for job in jobs})


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
        f"overview {factor}, {name_shard(shard)}": shard
        for shard in shards
        if (shard.row, shard.col) not in done
    }

    def submit(shard: Shard) -> Future[Receipt]:
        return run.workers.run(write_overview_shard, store, factor, shard)

    run_jobs(run, f"overview {factor} of {slot.slot}", submit, jobs)


@task(
    name="publish", task_run_name="publish {outcome.slot.slot}", cache_policy=NO_CACHE,
    **with_retries(HOUR),
)  # fmt: skip
def publish_slot(plan: Plan, outcome: SlotOutcome) -> None:
    """The item goes last: putting it is the commit that readers see. Then the cube follows.

    A day before others waits for the end of the run, when all that have to move do so once.
    """
    slot = outcome.slot
    # Not part of the mosaic's own attributes: two requests may come to one generation.
    requested: dict[str, Any] = {"requested_generation": slot.requested or slot.generation}
    if slot.failed_tiles:
        requested["failed_tiles"] = list(slot.failed_tiles)
    publish(
        slot_store(plan, slot),
        plan.lattice,
        slot.pairs,
        provenance(plan, slot) | requested,
        sar=slot.sar if slot.kind == "sar" else (),
        shards=slot_shards(plan.lattice, slot.groups),
    )
    try:
        update_cube(plan.request.store, plan.request.region, published=[slot.slot], moving=False)
    except StoreError as error:  # the day is published; the end of the run makes up for this
        get_run_logger().warning("the cube does not show %s yet: %s", slot.slot, error)


@task(name="cube", cache_policy=NO_CACHE, **with_retries(HOUR))
def show_published(plan: Plan) -> None:
    """The cube has every published day, also those of a run that was killed before it had them."""
    update_cube(plan.request.store, plan.request.region)


@task(name="announce", cache_policy=NO_CACHE, **with_retries(HOUR))
def announce(plan: Plan) -> Announced | None:
    """The STAC API of the request shows every published day, also those it has missed before.

    None where the request names no API. What one did not take is warned of, no error.
    """
    request = plan.request
    if request.stac_api is None:
        return None
    announced = reconcile(request.stac_api, request.store, request.region).announced
    for failure in announced.failures:
        get_run_logger().warning("the STAC API is behind: %s", failure)
    return announced


@task(name="report", cache_policy=NO_CACHE, **with_retries(HOUR))
def report_run(plan: Plan, outcomes: Sequence[SlotOutcome], clock: Stopwatch) -> Report:
    """report.json, preview.png and a page per day beside the mosaic, and Prefect artifacts."""
    report, picture = save_run(plan, outcomes, clock)
    if answers():  # a server that is gone would be tried for a minute, table by table
        artifacts.show_result(plan, report, picture)
    return report


def name_shard(shard: Shard) -> str:
    """What a report calls a shard."""
    return f"shard {shard.row}.{shard.col}"


def run_jobs(
    run: Run, description: str, submit: Callable[[Job], Future[Any]], jobs: Mapping[str, Job]
) -> None:
    """Every job on the workers.

    Raises what a scene's reading raises at once, and `JobsFailed` for jobs that were given up, by
    their names, after all were tried.
    """
    failed: dict[str, GivenUp] = {}
    with run.progress.bar(description, "shards") as bar:
        bar.expect(len(jobs))
        for (name, _), outcome in stream(run.workers, lambda named: submit(named[1]), jobs.items()):
            bar.advance()
            if isinstance(outcome, GivenUp):
                if isinstance(outcome.error, SceneReadError):
                    raise outcome.error
                failed[name] = outcome
    if failed:
        raise JobsFailed(failed)
