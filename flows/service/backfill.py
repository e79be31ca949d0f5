"""The days of the past, window by window, newest first, through the same request as any run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from rich.console import Console
from rich.table import Table

from flows.plan.plan import plan_request
from flows.plan.request import RegionRequest
from flows.register_region import register_region


@dataclass(frozen=True)
class WindowOutcome:
    """What became of one window of days."""

    request: RegionRequest
    finished: bool
    told: str


def backfill(
    requests: Sequence[RegionRequest], window_days: int, console: Console
) -> list[WindowOutcome]:
    """Register every window of the requests' days; one that fails does not stop the others.

    What is published is left alone, so the same backfill again does what is missing.

    Raises `flows.plan.plan.PlanError` before any work when a request cannot be carried out at all.
    """
    for request in requests:
        plan_request(next(windows(request, window_days)))
    outcomes = []
    for request in requests:
        for window in windows(request, window_days):
            outcome = _registered(window)
            console.print(
                f"{window.region}  {window.start} to {window.end}  {outcome.told}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
            outcomes.append(outcome)
    return outcomes


def windows(request: RegionRequest, days: int) -> Iterator[RegionRequest]:
    """The request cut into windows of at most `days` days, the newest first; at least one."""
    end = request.end
    while end >= request.start:
        start = max(request.start, end - timedelta(days=days - 1))
        yield request.model_copy(update={"start": start, "end": end})
        end = start - timedelta(days=1)


def print_outcomes(console: Console, outcomes: list[WindowOutcome]) -> None:
    """How many windows ended how, and those that failed."""
    counts: dict[str, tuple[int, date, date]] = {}
    for each in outcomes:
        ending = each.told if each.finished else "failed"
        count, first, last = counts.get(ending, (0, date.max, date.min))
        request = each.request
        counts[ending] = count + 1, min(first, request.start), max(last, request.end)
    table = Table("ended", "windows", "from", "to", box=None, header_style="dim", padding=(0, 2))
    for ending, (count, first, last) in counts.items():
        table.add_row(ending, str(count), str(first), str(last))
    console.print()
    console.print(table)


def _registered(request: RegionRequest) -> WindowOutcome:
    """Run one window to its end, whatever that is."""
    state = register_region(request, return_state=True)
    if not state.is_completed():
        return WindowOutcome(request, False, f"{state.name}: {state.message}")
    report = state.result()
    return WindowOutcome(request, True, str(report["status"]))
