"""Expected, done, refused, skipped, failed: what a run owed, and what became of it.

A pair that the engine refuses is an answer, and a scene that cannot be read is named and left out;
neither is the run's failure. A tile, a shard or a day that was given up is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from flows.outcome import SlotOutcome
from flows.plan.plan import Plan
from flows.report.schema import Accountability, Counts, Failure

COLUMNS = ("expected", "done", "refused", "skipped", "failed")
FAILURES_SHOWN = 12  # on a terminal; report.json has them all


def account_for(plan: Plan, outcomes: Sequence[SlotOutcome]) -> Accountability:
    """Count what a run owed, and list every failure with its reason.

    `outcomes` has one entry per day of the plan: of this run, or what an earlier one left.
    Days, pairs and shards are those of the plan, tiles those of this run. A SAR scene that is to be
    registered without an optical one counts as a pair.
    """
    made = [outcome for outcome in outcomes if outcome.failure is None]
    failed_days = [outcome for outcome in outcomes if outcome.failure is not None]
    published = [outcome for outcome in made if outcome.slot.groups]
    verdicts = [verdict for outcome in made for verdict in outcome.verdicts]
    accepted = sum(verdict.accepted for verdict in verdicts)
    expected = {slot.slot: len(slot.judged) for slot in plan.slots}
    failed_pairs = sum(expected[outcome.slot.slot] for outcome in failed_days)
    tiles = sum(outcome.tiles for outcome in outcomes)
    failed_tiles = sum(len(outcome.failed_tiles) for outcome in outcomes)
    shards = sum(outcome.shards for outcome in outcomes)
    done_shards = sum(outcome.shards_written + outcome.shards_kept for outcome in outcomes)
    return Accountability(
        days=_count(expected=len(plan.slots), done=len(published), failed=len(failed_days)),
        pairs=_count(
            expected=sum(expected.values()),
            done=accepted,
            refused=len(verdicts) - accepted,
            failed=failed_pairs,
        ),
        tiles=_count(expected=tiles, done=tiles - failed_tiles, failed=failed_tiles),
        shards=_count(expected=shards, done=done_shards, failed=shards - done_shards),
        failures=tuple(failure for outcome in outcomes for failure in _list_failures(outcome)),
    )


def name_shortfall(account: Accountability) -> Literal["Partial", "Failed"] | None:
    """None when all that was promised is there; else "Partial", or "Failed" when nothing is."""
    if not account.failures:
        return None
    return "Partial" if account.days.done else "Failed"


def describe_failures(account: Accountability) -> str:
    """What failed, in one sentence: how much, and the first reason."""
    parts = [
        f"{row['failed']} of {row['expected']} {row['what']}"
        for row in tabulate(account)
        if row["failed"]
    ]
    first = account.failures[0]
    return f"failed: {', '.join(parts)}; {first.what}: {first.reason}"


def tabulate(account: Accountability) -> list[dict[str, Any]]:
    """The counts as rows of JSON values, with their unit as the first column."""
    counts = {
        "days": account.days, "pairs": account.pairs, "tiles": account.tiles,
        "shards": account.shards,
    }  # fmt: skip
    return [{"what": unit, **count.model_dump()} for unit, count in counts.items()]


def print_accountability(console: Console, account: Accountability) -> None:
    """The counts as a table, and the failures with their reasons."""
    table = Table("", *COLUMNS, box=None, header_style="dim", padding=(0, 2))
    for row in tabulate(account):
        table.add_row(row["what"], *(str(row[column]) for column in COLUMNS))
    console.print()
    console.print(table)
    for failure in account.failures[:FAILURES_SHOWN]:
        # Reasons hold paths: they are neither broken over lines nor read as markup.
        console.print(
            f"  {failure.day}, {failure.what}: {failure.reason}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if len(account.failures) > FAILURES_SHOWN:
        console.print(f"  … and {len(account.failures) - FAILURES_SHOWN} more")


def _count(*, expected: int, done: int, failed: int, refused: int = 0) -> Counts:
    """What is neither done, refused nor failed was skipped: its scenes could not be read."""
    skipped = expected - done - refused - failed
    return Counts(expected=expected, done=done, refused=refused, skipped=skipped, failed=failed)


def _list_failures(outcome: SlotOutcome) -> list[Failure]:
    day = outcome.slot.slot
    found = [] if outcome.failure is None else [("the day", outcome.failure)]
    found += [*outcome.failed_shards.items(), *outcome.failed_tiles.items()]
    return [Failure(day=day, what=what, reason=reason) for what, reason in found]
