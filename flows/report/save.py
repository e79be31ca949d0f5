"""What a run leaves beside its mosaic: a page per day, a picture, figures, and last report.json."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from catalog import objects
from catalog.errors import CatalogError
from flows.outcome import SlotOutcome
from flows.plan.plan import Plan
from flows.progress import Stopwatch
from flows.report.drift import Step, find_recent_steps
from flows.report.figures import metrics
from flows.report.preview import draw_preview
from flows.report.report import compile_report, load_earlier_outcomes
from flows.report.schema import Report, encode_report
from flows.report.slot_report import save_pages

logger = logging.getLogger(__name__)


def save_run(
    plan: Plan, outcomes: Sequence[SlotOutcome], clock: Stopwatch
) -> tuple[Report, bytes | None]:
    """Tell people and programs of a run, beside the mosaic; returns the report and the picture.

    Where nothing was to do and all of it is there, nothing is written. report.json goes last: a
    rerun looks for it to see whether all the rest is there.

    Raises `StoreError`.
    """
    missing = report_is_missing(plan)
    with clock("report"):
        shown = load_earlier_outcomes(plan) if missing and not outcomes else outcomes
        made = [outcome for outcome in shown if outcome.failure is None]
        picture = draw_preview(plan, made)
        steps = look_for_steps(plan) if made else []
    report = compile_report(plan, outcomes, clock, steps)
    if plan.unfinished or not plan.slots or missing:
        save_pages(plan, outcomes)
        save_report(plan.mosaic_url, report, picture)
    return report, picture


def look_for_steps(plan: Plan) -> list[Step]:
    """Steps in the region's newest days. Days of other runs that cannot be read cost only these."""
    try:
        return find_recent_steps(plan.mosaic_url)
    except (CatalogError, ValueError) as error:  # or an item that no day names
        logger.warning("no steps were looked for: %s", error)
        return []


def report_is_missing(plan: Plan) -> bool:
    """Whether a run died between its last commit and its report."""
    return not plan.unfinished and objects.get(f"{plan.mosaic_url}/report.json") is None


def save_report(mosaic_url: str, report: Report, picture: bytes | None) -> None:
    """Put report.json, its figures, and preview.png if there is one, beside the mosaic.

    Raises `StoreError`.
    """
    if picture is not None:
        objects.put(f"{mosaic_url}/preview.png", picture)
    figures = metrics.figures_with(mosaic_url, report.region, report)
    objects.put(f"{mosaic_url}/{metrics.FILE}", metrics.encode_metrics([figures]))
    objects.put(f"{mosaic_url}/report.json", encode_report(report))
