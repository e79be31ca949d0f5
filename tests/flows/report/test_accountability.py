"""The account of a run: every day, pair, tile and shard once, and every failure with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import StoreError
from flows.cli.demo_region import DemoRegion
from flows.cluster.stream import GivenUp, JobsFailed
from flows.outcome import SlotOutcome
from flows.plan.plan import Plan
from flows.progress import Stopwatch
from flows.report.accountability import (
    COLUMNS,
    account_for,
    describe_failures,
    name_shortfall,
    print_accountability,
    tabulate,
)
from flows.report.report import compile_report
from flows.report.schema import Counts
from flows.stages.estimate import GroupEstimate, PairVerdict
from flows.stages.group_matches import EngineTime
from tests.support.regions import plan_of
from tests.support.terminal import printed


def counted(counts: Counts) -> tuple[int, ...]:
    """In the order of the table's columns."""
    return tuple(counts.model_dump()[column] for column in COLUMNS)


@pytest.fixture
def plan(small_region: DemoRegion, tmp_path: Path) -> Plan:
    return plan_of(small_region, tmp_path / "store")


@pytest.fixture
def outcome(plan: Plan) -> SlotOutcome:
    """Of four pairs two are accepted, one is refused, and one lost its scene."""
    (slot,) = plan.slots
    verdicts = tuple(
        PairVerdict(pair.optical.id, pair.sar.id, number > 0, "why", 0.4, 3.0, 900)
        for number, pair in enumerate(slot.pairs[:3])
    )
    return SlotOutcome(
        slot, (GroupEstimate(None, verdicts),), tiles=4, engine=EngineTime(9.0, 1.0)
    ).with_shards(written=3, kept=1)


def test_a_refusal_and_an_unreadable_scene_are_no_failure(plan: Plan, outcome: SlotOutcome) -> None:
    account = account_for(plan, [outcome])
    assert counted(account.pairs) == (4, 2, 1, 1, 0)
    assert counted(account.tiles) == (4, 4, 0, 0, 0)
    assert counted(account.shards) == (4, 4, 0, 0, 0)
    assert counted(account.days) == (1, 1, 0, 0, 0)
    assert account.failures == ()
    assert name_shortfall(account) is None


def test_a_day_without_its_tiles_is_partial(plan: Plan, outcome: SlotOutcome) -> None:
    short = SlotOutcome(
        outcome.slot, outcome.estimates, tiles=4, failed_tiles={"tile 1": "it kills workers"}
    )
    account = account_for(plan, [short])
    assert counted(account.tiles) == (4, 3, 0, 0, 1)
    assert name_shortfall(account) == "Partial"
    assert describe_failures(account) == "failed: 1 of 4 tiles; tile 1: it kills workers"


def test_a_day_that_was_given_up_takes_its_pairs_along(plan: Plan, outcome: SlotOutcome) -> None:
    given_up = GivenUp(StoreError("the disk is full", "slots"))
    failed = outcome.failed(JobsFailed({"shard 0.1": given_up}))
    account = account_for(plan, [failed])
    assert counted(account.days) == (1, 0, 0, 0, 1)
    assert counted(account.pairs) == (4, 0, 0, 0, 4)
    assert name_shortfall(account) == "Failed"
    assert [failure.what for failure in account.failures] == ["the day", "shard 0.1"]
    assert compile_report(plan, [failed], Stopwatch()).slots == ()


def test_what_became_of_things_adds_up_to_what_was_expected(
    plan: Plan, outcome: SlotOutcome
) -> None:
    for row in tabulate(account_for(plan, [outcome])):
        expected, *parts = (row[column] for column in COLUMNS)
        assert sum(parts) == expected


def test_people_see_the_table_and_the_reasons(plan: Plan, outcome: SlotOutcome) -> None:
    failures = {f"tile {number}": "it kills workers [red]" for number in range(20)}
    short = SlotOutcome(outcome.slot, outcome.estimates, tiles=90, failed_tiles=failures)
    account = account_for(plan, [short])
    text = printed(lambda console: print_accountability(console, account), width=100)
    assert "refused" in text
    assert "tile 0: it kills workers [red]" in text
    assert "… and 8 more" in text


def test_the_report_has_the_account_and_the_engines_wait(plan: Plan, outcome: SlotOutcome) -> None:
    report = compile_report(plan, [outcome], Stopwatch())
    assert report.engine_wait_share == 0.1
    assert report.accountability == account_for(plan, [outcome])
    nothing = SlotOutcome(outcome.slot, outcome.estimates)
    assert compile_report(plan, [nothing], Stopwatch()).engine_wait_share is None
