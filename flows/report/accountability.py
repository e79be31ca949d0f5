"""Expected, done, refused, skipped, failed: what a run owed, and what became of it.

A pair that the engine refuses is an answer, and a scene that cannot be read is named and left out;
neither is the run's failure. A tile, a shard or a day that was given up is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.outcome import SlotOutcome
from flows.plan.plan import Plan

COLUMNS = ("expected", "done", "refused", "skipped", "failed")
FAILURES_SHOWN = 12  # on a terminal; report.json has them all


class IncompleteRun(RuntimeError):
    """A run that did not deliver all it promised; `report` is the content of its report.json."""

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return str(self.args[0])


def accountability(plan: Plan, outcomes: Sequence[SlotOutcome]) -> dict[str, Any]:
    """The table and every failure with its reason, as JSON values.

    `outcomes` has one entry per day of the plan: of this run, or what an earlier one left.
    Days, pairs and shards are those of the plan, tiles those of this run.
    """
    made = [outcome for outcome in outcomes if outcome.failure is None]
    failed_days = [outcome for outcome in outcomes if outcome.failure is not None]
    published = [outcome for outcome in made if outcome.slot.pairs]
    verdicts = [verdict for outcome in made for verdict in outcome.verdicts]
    accepted = sum(verdict.accepted for verdict in verdicts)
    expected = {slot.slot: len(slot.pairs) for slot in plan.slots}
    failed_pairs = sum(expected[outcome.slot.slot] for outcome in failed_days)
    tiles = sum(outcome.tiles for outcome in outcomes)
    failed_tiles = sum(len(outcome.failed_tiles) for outcome in outcomes)
    shards = sum(outcome.shards for outcome in outcomes)
    done_shards = sum(outcome.shards_written + outcome.shards_kept for outcome in outcomes)
    return {
        "days": _row(expected=len(plan.slots), done=len(published), failed=len(failed_days)),
        "pairs": _row(
            expected=len(plan.pairs),
            done=accepted,
            refused=len(verdicts) - accepted,
            failed=failed_pairs,
        ),
        "tiles": _row(expected=tiles, done=tiles - failed_tiles, failed=failed_tiles),
        "shards": _row(expected=shards, done=done_shards, failed=shards - done_shards),
        "failures": [failure for outcome in outcomes for failure in _failures(outcome)],
    }


def verdict_on(account: Mapping[str, Any]) -> str | None:
    """None when all that was promised is there; else "Partial", or "Failed" when nothing is."""
    if not account["failures"]:
        return None
    return "Partial" if account["days"]["done"] else "Failed"


def in_one_sentence(account: Mapping[str, Any]) -> str:
    """What failed: how much, and the first reason."""
    parts = [
        f"{account[unit]['failed']} of {account[unit]['expected']} {unit}"
        for unit in ("days", "pairs", "shards", "tiles")
        if account[unit]["failed"]
    ]
    first = account["failures"][0]
    return f"failed: {', '.join(parts)}; {first['what']}: {first['reason']}"


def table_rows(account: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table with its unit as the first column."""
    return [{"what": unit, **account[unit]} for unit in ("days", "pairs", "tiles", "shards")]


def print_accountability(console: Console, account: Mapping[str, Any]) -> None:
    """The table, and the failures with their reasons."""
    table = Table("", *COLUMNS, box=None, header_style="dim", padding=(0, 2))
    for row in table_rows(account):
        table.add_row(row["what"], *(str(row[column]) for column in COLUMNS))
    console.print()
    console.print(table)
    failures = account["failures"]
    for failure in failures[:FAILURES_SHOWN]:
        # Reasons hold paths: they are neither broken over lines nor read as markup.
        console.print(
            f"  {failure['day']}, {failure['what']}: {failure['reason']}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if len(failures) > FAILURES_SHOWN:
        console.print(f"  … and {len(failures) - FAILURES_SHOWN} more")


def _row(*, expected: int, done: int, failed: int, refused: int = 0) -> dict[str, int]:
    """What is neither done, refused nor failed was skipped: its scenes could not be read."""
    skipped = expected - done - refused - failed
    return {
        "expected": expected, "done": done, "refused": refused, "skipped": skipped,
        "failed": failed,
    }  # fmt: skip


def _failures(outcome: SlotOutcome) -> list[dict[str, str]]:
    day = outcome.slot.slot
    found = [] if outcome.failure is None else [("the day", outcome.failure)]
    found += [*outcome.failed_shards.items(), *outcome.failed_tiles.items()]
    return [{"day": day, "what": what, "reason": reason} for what, reason in found]
