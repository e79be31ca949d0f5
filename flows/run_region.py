"""The story of a run: what a plan promises, made day by day.

    for each day: estimate ─▶ compose ─▶ publish; then report, and tell the STAC API

Every stage continues where a killed run stopped: finished estimates and shards are kept, and a day
that is published is done. A day that cannot be made fails alone: the run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from catalog.errors import CatalogError, SceneReadError
from catalog.stac_api.reconcile import Announced
from catalog.store.layout import overview_factors
from catalog.store.overviews import overview_shards
from flows.cluster.heap import release_memory
from flows.cluster.stream import JobsFailed
from flows.cluster.workers import DispatchError, cluster
from flows.estimate_slot import TooManyTilesFailed, estimate_slot
from flows.memory.recall import current_versions
from flows.memory.remember import lessons
from flows.outcome import SlotOutcome
from flows.plan.generation import SlotPlan
from flows.plan.plan import Plan, slot_store, with_memory, without_scenes
from flows.progress import Stopwatch
from flows.report import artifacts
from flows.report.accountability import describe_failures, name_shortfall
from flows.report.schema import Report
from flows.stages.compose import slot_shards
from flows.tasks import (
    Run,
    announce,
    compose_overview,
    compose_shards,
    create_store,
    learn_day,
    publish_slot,
    report_run,
    show_published,
)
from tar_engine.errors import EngineError

SHARDS_PER_TASK = 64


class NotRemembered(RuntimeError):
    """A day is published, but could not be added to what its region remembers."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to: the plan it carried out, its days, and the content of report.json."""

    plan: Plan
    outcomes: tuple[SlotOutcome, ...]
    report: Report
    announced: Announced | None = None
    """How the request's STAC API was left; None where it names none."""

    @property
    def ending(self) -> str:
        """Completed when all that was promised is there; else Partial, or Failed when nothing is.

        As Prefect calls the state of such a run. Days that a STAC API does not show are published.
        """
        behind = "Partial" if self.announced and self.announced.failures else None
        return name_shortfall(self.report.accountability) or behind or "Completed"

    @property
    def summary(self) -> str:
        """One line: what failed, with the first reason; or how it went, and where the mosaic is."""
        told = f"{self.report.status}: {self.report.mosaic}"
        if self.report.accountability.failures:
            told = describe_failures(self.report.accountability)
        if self.announced and self.announced.failures:
            told += f"; {self.announced.told}"
        return told


def run_region(plan: Plan, clock: Stopwatch) -> RunResult:
    """Make every day of a plan that is not published yet, and report; inside a Prefect flow.

    What cannot be delivered is in the result. Raises `StoreError` when the store cannot be read,
    the report cannot be saved or the cube not be brought up to date.
    """
    release_memory()  # of planning, which looks into every scene at once
    outcomes = register_slots(plan, clock) if plan.unfinished or unlearned(plan) else []
    release_memory()
    report = report_run(plan, outcomes, clock)
    announced = announce(plan)
    show_published(plan)
    return RunResult(plan, tuple(outcomes), report, announced)


def register_slots(plan: Plan, clock: Stopwatch) -> list[SlotOutcome]:
    """Every day that is not published yet. Days for which no workers are left fail together."""
    outcomes: list[SlotOutcome] = []
    try:
        with (
            clock("workers"),
            cluster(plan.request.scheduler) as workers,
            artifacts.show_progress(plan) as progress,
        ):
            run = Run(plan, workers, progress, clock)
            # Those come first that a run published which was killed just then.
            late = [remember_slot(run, SlotOutcome(slot)) for slot in unlearned(plan)]
            outcomes.extend(outcome for outcome in late if outcome.failure is not None)
            outcomes.extend(register_slot(run, slot) for slot in plan.unfinished)
    except DispatchError as error:
        made = {outcome.slot.slot for outcome in outcomes}
        left = [slot for slot in plan.unfinished if slot.slot not in made]
        outcomes += [SlotOutcome(slot).failed(error) for slot in left]
    return outcomes


def register_slot(run: Run, slot: SlotPlan) -> SlotOutcome:
    """One day: displacement fields, then every shard, then the item that publishes it.

    Compose reads pixels that no tile asked for. A scene that breaks only there is dropped, and
    the day begins again without it; so it ends at the latest when no scene is left.
    """
    outcome = SlotOutcome(with_memory(run.plan, slot, current_versions(run.plan, slot)))
    while True:
        try:
            with run.clock("estimate"):
                outcome = estimate_slot(run, outcome)
            if not outcome.slot.groups:
                return outcome
            with run.clock("compose"):
                # A day that lost scenes may be one that another request has published.
                outcome = outcome if outcome.slot.published else compose_slot(run, outcome)
            if outcome.failure is None:
                with run.clock("publish"):
                    publish_slot(run.plan, outcome)
                with run.clock("remember"):
                    outcome = remember_slot(run, outcome)
            return outcome
        except SceneReadError as error:
            if not any(error.scene_id == scene.id for scene in outcome.slot.scenes):
                return outcome.failed(error)
            fewer = without_scenes(run.plan, outcome.slot, [error.scene_id])
            unreadable = {**outcome.unreadable, error.scene_id: str(error)}
            outcome = replace(outcome, slot=fewer, unreadable=unreadable)
        except (CatalogError, EngineError, JobsFailed, TooManyTilesFailed) as error:
            return outcome.failed(error)


def unlearned(plan: Plan) -> list[SlotPlan]:
    """The published days of a plan that its region does not remember yet. Raises `StoreError`."""
    return [slot for slot in plan.slots if slot.published and lessons(plan, slot)]


def remember_slot(run: Run, outcome: SlotOutcome) -> SlotOutcome:
    """Add a published day to what its region remembers of each of its viewing geometries.

    A failure leaves memory as it was; the day stays published, and the next run begins with it.
    """
    try:
        for lesson in lessons(run.plan, outcome.slot):
            learn_day(run, outcome.slot, lesson)
    except (CatalogError, JobsFailed) as error:
        return outcome.failed(NotRemembered(f"published, but not remembered: {error}"))
    return outcome


def compose_slot(run: Run, outcome: SlotOutcome) -> SlotOutcome:
    """Write every shard that something of the day touches and that has no receipt yet.

    A shard that fails whoever tries it fails the day: a mosaic has no silent holes.
    """
    plan, slot = run.plan, outcome.slot
    run.workers.release_memory()  # of matching and fitting, before shards take theirs
    store = create_store(plan, slot)
    shards = slot_shards(plan.lattice, slot.groups)
    kept = store.written_shards()
    missing = [shard for shard in shards if (shard.row, shard.col) not in kept]
    try:
        for start in range(0, len(missing), SHARDS_PER_TASK):
            compose_shards(run, slot, outcome.estimates, missing[start : start + SHARDS_PER_TASK])
        write_overviews(run, slot)
    except JobsFailed as error:
        done = store.written_shards()
        return outcome.with_shards(
            written=len(done - kept), kept=len(kept), missing=len(shards) - len(done)
        ).failed(error)
    return outcome.with_shards(written=len(missing), kept=len(kept))


def write_overviews(run: Run, slot: SlotPlan) -> None:
    """Level by level, each from the one below, what has no receipt yet. Raises `JobsFailed`.

    The lattice itself is complete, whatever a listing of its receipts tells by now.
    """
    store, lattice = slot_store(run.plan, slot), run.plan.lattice
    below = {(shard.row, shard.col) for shard in slot_shards(lattice, slot.groups)}
    for factor in overview_factors(lattice):
        shards = overview_shards(lattice, factor, below)
        below = {(shard.row, shard.col) for shard in shards}
        if below - store.written_shards(factor):
            compose_overview(run, slot, factor, shards)
