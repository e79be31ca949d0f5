"""The account of a run: every day, pair, tile and shard once, and every failure with its reason."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
from rich.console import Console

from catalog.errors import StoreError
from flows.cli.demo_region import DemoRegion
from flows.cluster.stream import GivenUp, JobsFailed
from flows.outcome import SlotOutcome
from flows.plan.plan import Plan
from flows.progress import Stopwatch
from flows.report.accountability import (
    COLUMNS,
    IncompleteRun,
    accountability,
    in_one_sentence,
    print_accountability,
    table_rows,
    verdict_on,
)
from flows.report.report import run_report
from flows.stages.fit import GroupEstimate, PairVerdict
from flows.stages.group_matches import EngineTime
from tests.support.regions import plan_of


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
    account = accountability(plan, [outcome])
    assert account["pairs"] == dict(zip(COLUMNS, (4, 2, 1, 1, 0), strict=True))
    assert account["tiles"] == dict(zip(COLUMNS, (4, 4, 0, 0, 0), strict=True))
    assert account["shards"] == dict(zip(COLUMNS, (4, 4, 0, 0, 0), strict=True))
    assert account["days"] == dict(zip(COLUMNS, (1, 1, 0, 0, 0), strict=True))
    assert account["failures"] == []
    assert verdict_on(account) is None


def test_a_day_without_its_tiles_is_partial(plan: Plan, outcome: SlotOutcome) -> None:
    short = SlotOutcome(
        outcome.slot, outcome.estimates, tiles=4, failed_tiles={"tile 1": "it kills workers"}
    )
    account = accountability(plan, [short])
    assert account["tiles"] == dict(zip(COLUMNS, (4, 3, 0, 0, 1), strict=True))
    assert verdict_on(account) == "Partial"
    assert in_one_sentence(account) == "failed: 1 of 4 tiles; tile 1: it kills workers"


def test_a_day_that_was_given_up_takes_its_pairs_along(plan: Plan, outcome: SlotOutcome) -> None:
    given_up = GivenUp(StoreError("the disk is full", "slots"))
    failed = outcome.failed(JobsFailed({"shard 0.1": given_up}))
    account = accountability(plan, [failed])
    assert account["days"] == dict(zip(COLUMNS, (1, 0, 0, 0, 1), strict=True))
    assert account["pairs"] == dict(zip(COLUMNS, (4, 0, 0, 0, 4), strict=True))
    assert verdict_on(account) == "Failed"
    assert [failure["what"] for failure in account["failures"]] == ["the day", "shard 0.1"]
    assert run_report(plan, [failed], Stopwatch())["slots"] == []


def test_columns_add_up(plan: Plan, outcome: SlotOutcome) -> None:
    for row in table_rows(accountability(plan, [outcome])):
        expected, *parts = (row[column] for column in COLUMNS)
        assert sum(parts) == expected


def test_people_see_the_table_and_the_reasons(plan: Plan, outcome: SlotOutcome) -> None:
    failures = {f"tile {number}": "it kills workers [red]" for number in range(20)}
    short = SlotOutcome(outcome.slot, outcome.estimates, tiles=90, failed_tiles=failures)
    console = Console(file=io.StringIO(), width=100)
    print_accountability(console, accountability(plan, [short]))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "refused" in told
    assert "tile 0: it kills workers [red]" in told
    assert "… and 8 more" in told


def test_the_report_has_the_account_and_the_engines_wait(plan: Plan, outcome: SlotOutcome) -> None:
    report = run_report(plan, [outcome], Stopwatch())
    assert report["engine_wait_share"] == 0.1
    assert report["accountability"] == accountability(plan, [outcome])
    nothing = SlotOutcome(outcome.slot, outcome.estimates)
    assert run_report(plan, [nothing], Stopwatch())["engine_wait_share"] is None


def test_the_error_carries_the_report_across_processes() -> None:
    copy = pickle.loads(pickle.dumps(IncompleteRun("failed: 1 day", {"status": "failed"})))
    assert (str(copy), copy.report) == ("failed: 1 day", {"status": "failed"})
