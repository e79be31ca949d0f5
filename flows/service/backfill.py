"""The days of the past, window by window, newest first, through the same request as any run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from rich.console import Console
from rich.table import Table

from flows.plan.plan import Plan, plan_request
from flows.plan.request import RegionRequest
from flows.progress import Stopwatch
from flows.register_region import register_plan, register_region


@dataclass(frozen=True)
class WindowOutcome:
    """What became of one window of days."""

    request: RegionRequest
    finished: bool
    ending: str


def backfill(
    requests: Sequence[RegionRequest], window_days: int, console: Console
) -> list[WindowOutcome]:
    """Register every window of the requests' days; one that fails does not stop the others.

    What is published is left alone, so the same backfill again does what is missing.

    Raises `flows.plan.plan.PlanError` before any work when a request cannot be carried out at all:
    for that, each request's newest window is planned first.
    """
    plans = [plan_request(next(cut_into_windows(request, window_days))) for request in requests]
    outcomes = []
    for request, plan in zip(requests, plans, strict=True):
        for window in cut_into_windows(request, window_days):
            outcome = _run_window(window, plan if window == plan.request else None)
            console.print(
                f"{window.region}  {window.start} to {window.end}  {outcome.ending}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
            outcomes.append(outcome)
    return outcomes


def cut_into_windows(request: RegionRequest, days: int) -> Iterator[RegionRequest]:
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
        ending = each.ending if each.finished else "failed"
        count, first, last = counts.get(ending, (0, date.max, date.min))
        request = each.request
        counts[ending] = count + 1, min(first, request.start), max(last, request.end)
    table = Table("ended", "windows", "from", "to", box=None, header_style="dim", padding=(0, 2))
    for ending, (count, first, last) in counts.items():
        table.add_row(ending, str(count), str(first), str(last))
    console.print()
    console.print(table)


def _run_window(window: RegionRequest, plan: Plan | None) -> WindowOutcome:
    """Run one window to its end, by its plan if there is one; then the next has its turn."""
    try:
        result = register_plan(plan, Stopwatch()) if plan else register_region(window)
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return WindowOutcome(window, False, f"Failed: {message}")
    if result.ending == "Completed":
        return WindowOutcome(window, True, result.report.status)
    return WindowOutcome(window, False, f"{result.ending}: {result.summary}")
