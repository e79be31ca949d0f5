"""What became of a run, for programs (`report.json`) and for people (tables on a terminal)."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from catalog import objects
from catalog.archives.pairs import Unpaired
from catalog.errors import shown
from flows.outcome import SlotOutcome
from flows.plan.plan import Plan, SlotPlan, slot_store
from flows.progress import Stopwatch
from flows.report.accountability import accountability, verdict_on
from flows.stages.fit import estimates_from_bytes
from flows.stages.group_matches import EngineTime

Report = dict[str, Any]
Row = Sequence[str | Text]
ROWS_SHOWN = 40  # of a table on a terminal; report.json has them all
SCENES_SHOWN = 6  # that share one reason; as above


def run_report(plan: Plan, outcomes: Sequence[SlotOutcome], clock: Stopwatch) -> Report:
    """The content of report.json: JSON values only; null where nothing was measured."""
    done_now = {outcome.slot.slot: outcome for outcome in outcomes}
    everything = [done_now.get(slot.slot) or _earlier_outcome(plan, slot) for slot in plan.slots]
    request = plan.request.model_dump(mode="json") | {"catalog": shown(plan.request.catalog)}
    written = sum(outcome.shards_written for outcome in everything)
    kept = sum(outcome.shards_kept for outcome in everything)
    account = accountability(plan, everything)
    engine = sum((outcome.engine for outcome in everything), EngineTime())
    return {
        "status": _status(plan, outcomes, account),
        "accountability": account,
        "store": plan.request.store,
        "region": plan.request.region,
        "mosaic": plan.mosaic_url,
        "scenes": {"optical": len(plan.optical), "sar": len(plan.sar)},
        "pairs": [
            {"slot": outcome.slot.slot, **json_values(vars(verdict))}
            for outcome in everything
            for verdict in outcome.verdicts
        ],
        "unpaired": [*_unpaired(plan), *_unreadable(plan, everything)],
        "warnings": [{"scene": each.scene.id, "warning": each.text} for each in plan.warnings],
        "slots": [
            _slot(plan, outcome)
            for outcome in everything
            if outcome.slot.pairs and outcome.failure is None
        ],
        "tiles": sum(outcome.tiles for outcome in everything),  # tried in this run
        "engine_wait_share": _rounded(engine.wait_share),  # null when nothing was matched
        "shards": written + kept,
        "shards_written": written,
        "shards_kept": kept,
        "seconds": clock.seconds(),
        "request": request,
        "software": f"tar-pipeline {version('tar-pipeline')}",
        "weights_sha256": plan.weights_sha256,
    }


def earlier_outcomes(plan: Plan, days: Container[str] | None = None) -> list[SlotOutcome]:
    """What earlier runs left of the days that are published, or of some of them."""
    return [
        _earlier_outcome(plan, slot)
        for slot in plan.slots
        if slot.published and (days is None or slot.slot in days)
    ]


def report_is_missing(plan: Plan) -> bool:
    """Whether a run died between its last commit and its report."""
    return not plan.unfinished and objects.get(f"{plan.mosaic_url}/report.json") is None


def report_json(report: Report) -> bytes:
    """The bytes of report.json."""
    return (json.dumps(report, indent=2, allow_nan=False) + "\n").encode()


def save_report(plan: Plan, report: Report, picture: bytes | None) -> None:
    """Put report.json, and preview.png if there is one, beside the mosaic."""
    if picture is not None:
        objects.put(f"{plan.mosaic_url}/preview.png", picture)
    objects.put(f"{plan.mosaic_url}/report.json", report_json(report))


def print_plan(console: Console, plan: Plan, *, pairs: bool) -> None:
    """What will be done, before it is done: in one line, and pair by pair if asked."""
    height, width = plan.lattice.shape
    console.print(
        f"[bold]{plan.request.region}[/]: {len(plan.optical)} optical and {len(plan.sar)} SAR "
        f"scenes, {len(plan.pairs)} pairs, {len(plan.slots)} "
        f"{'day' if len(plan.slots) == 1 else 'days'} of {width} × {height} px "
        f"({plan.lattice.crs_code}, {plan.lattice.resolution:g})",
        soft_wrap=True,
    )
    rows: list[Row] = [
        (
            slot.slot,
            pair.optical.id,
            pair.sar.id,
            f"{pair.overlap_share:.0%}",
            f"{pair.gap.total_seconds() / 86400:.1f} d",
        )
        for slot in plan.slots
        for pair in slot.pairs
    ]
    if pairs:
        _print_table(console, ("day", "optical", "SAR", "overlap", "gap"), rows)
    _print_unpaired(console, _unpaired(plan))
    for warned in plan.warnings:
        console.print(
            f"  warning: {warned.scene.id}: {warned.text}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def print_result(console: Console, report: Report, already_told: Sequence[Unpaired] = ()) -> None:
    """Every pair with its verdict, refusals first; and scenes that are not `already_told` of."""
    rows: list[Row] = [
        (
            Text("✓", "green") if pair["accepted"] else Text("✗", "red"),
            pair["optical"],
            pair["sar"],
            _pixels(pair["median_displacement_px"]),
            _pixels(pair["expected_error_px"]),
            "" if pair["accepted"] else pair["reason"],
        )
        for pair in sorted(report["pairs"], key=lambda pair: pair["accepted"])
    ]
    _print_table(console, ("", "optical", "SAR", "displacement", "expected error", ""), rows)
    told = {unpaired.scene.id for unpaired in already_told}
    _print_unpaired(console, [left for left in report["unpaired"] if left["scene"] not in told])


def _status(plan: Plan, outcomes: Sequence[SlotOutcome], account: Mapping[str, Any]) -> str:
    if (verdict := verdict_on(account)) is not None:
        return verdict.lower()
    if not plan.pairs:
        return "no overlapping pair"
    if not plan.unfinished:
        return "nothing to do"
    return "registered" if any(outcome.slot.pairs for outcome in outcomes) else "no readable pair"


def _earlier_outcome(plan: Plan, slot: SlotPlan) -> SlotOutcome:
    """What the run that published this day left behind."""
    saved = slot_store(plan, slot).load_estimate()
    return SlotOutcome(slot, estimates_from_bytes(saved) if saved is not None else ())


def _slot(plan: Plan, outcome: SlotOutcome) -> dict[str, Any]:
    return {
        "slot": outcome.slot.slot,
        "generation": outcome.slot.generation,
        "url": slot_store(plan, outcome.slot).url,
        "accepted": outcome.accepted,
        "refused": len(outcome.verdicts) - outcome.accepted,
        "shards_written": outcome.shards_written,
        "shards_kept": outcome.shards_kept,
    }


def _unpaired(plan: Plan) -> list[dict[str, str]]:
    return [{"scene": u.scene.id, "reason": u.reason} for u in plan.unpaired]


def _unreadable(plan: Plan, outcomes: Sequence[SlotOutcome]) -> list[dict[str, str]]:
    """Scenes that broke while they were read, and scenes that lost their partners with them."""
    broken = {id_: why for outcome in outcomes for id_, why in outcome.unreadable.items()}
    planned = {id_ for pair in plan.pairs for id_ in (pair.optical.id, pair.sar.id)}
    judged = {id_ for o in outcomes for v in o.verdicts for id_ in (v.optical, v.sar)}
    bereft = sorted(planned - judged - set(broken)) if broken else []
    return [{"scene": id_, "reason": why} for id_, why in broken.items()] + [
        {"scene": id_, "reason": "every scene it was paired with cannot be read"} for id_ in bereft
    ]


def json_values(value: Any) -> Any:
    """A value as JSON can say it: what is not a finite number becomes null, at any depth."""
    if isinstance(value, Mapping):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(console: Console, header: Sequence[str], rows: Sequence[Row]) -> None:
    """The first rows as a table, and how many follow."""
    if not rows:
        return
    table = Table(*header, box=None, header_style="dim", padding=(0, 2))
    for row in rows[:ROWS_SHOWN]:
        table.add_row(*row)
    console.print(table)
    if len(rows) > ROWS_SHOWN:
        console.print(f"  … and {len(rows) - ROWS_SHOWN} more")


def _print_unpaired(console: Console, unpaired: Sequence[Mapping[str, str]]) -> None:
    """Scenes by the reason they share."""
    scenes_of: dict[str, list[str]] = {}
    for left in unpaired:
        scenes_of.setdefault(left["reason"], []).append(left["scene"])
    if scenes_of:
        console.print("\n[bold]Left out[/]")
    for reason, scenes in scenes_of.items():
        more = f" and {len(scenes) - SCENES_SHOWN} more" if len(scenes) > SCENES_SHOWN else ""
        # Reasons hold paths: they are neither broken over lines nor read as markup.
        console.print(
            f"  {', '.join(scenes[:SCENES_SHOWN])}{more}: {reason}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _pixels(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} px"
