"""What became of a run, for programs (`report.json`) and for people (tables on a terminal)."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from catalog.archives.items import Dropped
from catalog.errors import shown
from flows.outcome import SlotOutcome
from flows.plan.generation import SlotPlan
from flows.plan.plan import Plan, slot_store
from flows.progress import Stopwatch
from flows.report.accountability import account_for, name_shortfall
from flows.report.drift import Step
from flows.report.rates import measure
from flows.report.schema import (
    Accountability,
    DriftStep,
    LeftOut,
    PairReport,
    Report,
    ScenesFound,
    SceneWarning,
    SlotReport,
    Status,
)
from flows.stages.estimate import PairVerdict, load_estimates
from flows.stages.group_matches import EngineTime

Row = Sequence[str | Text]
ROWS_SHOWN = 40  # of a table or list on a terminal; report.json has them all
NO_OPTICAL_SCENE = "–"  # in place of an id, where a SAR scene stands alone
SCENES_SHOWN = 6  # that share one reason; as above


def compile_report(
    plan: Plan,
    outcomes: Sequence[SlotOutcome],
    clock: Stopwatch,
    steps: Sequence[Step] = (),
) -> Report:
    """What became of every scene, pair and day of a plan; None where nothing was measured.

    `outcomes` are those of this run; what earlier runs left of the other days is looked up in the
    store. `steps` are those found in the region's newest days. Raises `StoreError`.
    """
    done_now = {outcome.slot.slot: outcome for outcome in outcomes}
    everything = [done_now.get(slot.slot) or _load_outcome(plan, slot) for slot in plan.slots]
    written = sum(outcome.shards_written for outcome in everything)
    kept = sum(outcome.shards_kept for outcome in everything)
    account = account_for(plan, everything)
    engine = sum((outcome.engine for outcome in everything), EngineTime())
    return Report(
        status=_name_status(plan, outcomes, account),
        accountability=account,
        store=plan.request.store,
        region=plan.request.region,
        mosaic=plan.mosaic_url,
        scenes=ScenesFound(optical=len(plan.optical), sar=len(plan.sar)),
        pairs=tuple(
            _report_pair(outcome.slot, verdict)
            for outcome in everything
            for verdict in outcome.verdicts
        ),
        unpaired=(*_list_unpaired(plan), *_list_unreadable(plan, everything)),
        warnings=tuple(
            SceneWarning(scene=each.scene_id, warning=each.text) for each in plan.warnings
        ),
        slots=tuple(
            _report_slot(plan, outcome)
            for outcome in everything
            if outcome.slot.groups and outcome.failure is None
        ),
        drift_steps=tuple(_report_step(step) for step in steps),
        tiles=sum(outcome.tiles for outcome in everything),
        engine_wait_share=None if engine.wait_share is None else round(engine.wait_share, 4),
        shards=written + kept,
        shards_written=written,
        shards_kept=kept,
        seconds=clock.seconds(),
        cpu_seconds=clock.cpu_seconds() if plan.request.scheduler is None else None,
        measured=measure(plan, outcomes, clock),
        request=plan.request.model_dump(mode="json") | {"catalog": shown(plan.request.catalog)},
        software=f"tar-pipeline {version('tar-pipeline')}",
        weights_sha256=plan.weights_sha256,
    )


def load_earlier_outcomes(plan: Plan, days: Container[str] | None = None) -> list[SlotOutcome]:
    """What earlier runs left of the days that are published, or of some of them."""
    return [
        _load_outcome(plan, slot)
        for slot in plan.slots
        if slot.published and (days is None or slot.slot in days)
    ]


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
    rows += [
        (slot.slot, NO_OPTICAL_SCENE, sar, "", "")
        for slot in plan.slots
        for optical, sar in slot.judged
        if not optical
    ]
    if pairs:
        _print_table(console, ("day", "optical", "SAR", "overlap", "gap"), sorted(rows, key=_day))
    _print_unpaired(console, _list_unpaired(plan))
    for warned in plan.warnings:
        console.print(
            f"  warning: {': '.join(filter(None, (warned.scene_id, warned.text)))}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def print_result(console: Console, report: Report, already_told: Sequence[Dropped] = ()) -> None:
    """Every pair with its verdict, refusals first; and scenes that are not `already_told` of."""
    rows: list[Row] = [
        (
            Text("✓", "green") if pair.accepted else Text("✗", "red"),
            pair.optical or NO_OPTICAL_SCENE,
            pair.sar,
            _show_pixels(pair.median_displacement_px),
            _show_pixels(pair.expected_error_px),
            "" if pair.accepted else pair.reason,
        )
        for pair in sorted(report.pairs, key=lambda pair: pair.accepted)
    ]
    _print_table(console, ("", "optical", "SAR", "displacement", "expected error", ""), rows)
    known = {dropped.id for dropped in already_told}
    _print_unpaired(console, [left for left in report.unpaired if left.scene not in known])


def json_values(value: Any) -> Any:
    """A value as JSON can say it: what is not a finite number becomes null, at any depth."""
    if isinstance(value, Mapping):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _day(row: Row) -> str:
    return str(row[0])


def _name_status(plan: Plan, outcomes: Sequence[SlotOutcome], account: Accountability) -> Status:
    match name_shortfall(account):
        case "Partial":
            return "partial"
        case "Failed":
            return "failed"
    if not plan.slots:
        return "no overlapping pair"
    if not plan.unfinished:
        return "nothing to do"
    return "registered" if any(outcome.slot.groups for outcome in outcomes) else "no readable pair"


def _load_outcome(plan: Plan, slot: SlotPlan) -> SlotOutcome:
    """What the run that published this day left behind."""
    return SlotOutcome(slot, load_estimates(slot_store(plan, slot)) or ())


def _report_pair(slot: SlotPlan, verdict: PairVerdict) -> PairReport:
    return PairReport(slot=slot.slot, **json_values(vars(verdict)))


def _report_slot(plan: Plan, outcome: SlotOutcome) -> SlotReport:
    return SlotReport(
        slot=outcome.slot.slot,
        generation=outcome.slot.generation,
        url=slot_store(plan, outcome.slot).url,
        accepted=outcome.accepted,
        refused=len(outcome.verdicts) - outcome.accepted,
        shards_written=outcome.shards_written,
        shards_kept=outcome.shards_kept,
    )


def _report_step(step: Step) -> DriftStep:
    return DriftStep(
        satellite=step.platform,
        relative_orbit=step.geometry.relative_orbit,
        orbit_state=step.geometry.orbit_state,
        before=str(step.before),
        day=str(step.after),
        size_px=round(math.hypot(step.dx_px, step.dy_px), 3),
        dx_px=round(step.dx_px, 3),
        dy_px=round(step.dy_px, 3),
    )


def _list_unpaired(plan: Plan) -> list[LeftOut]:
    return [LeftOut(scene=each.id, reason=each.reason) for each in plan.left_out]


def _list_unreadable(plan: Plan, outcomes: Sequence[SlotOutcome]) -> list[LeftOut]:
    """Scenes that broke while they were read, and scenes that lost their partners with them."""
    broken = {id_: why for outcome in outcomes for id_, why in outcome.unreadable.items()}
    planned = {scene.id for slot in plan.slots for scene in slot.scenes}
    judged = {id_ for o in outcomes for v in o.verdicts for id_ in (v.optical, v.sar)}
    bereft = sorted(planned - judged - set(broken)) if broken else []
    alone = "every scene it was paired with cannot be read"
    return [LeftOut(scene=id_, reason=why) for id_, why in broken.items()] + [
        LeftOut(scene=id_, reason=alone) for id_ in bereft
    ]


def _print_table(console: Console, header: Sequence[str], rows: Sequence[Row]) -> None:
    """The first rows as a table, and how many follow."""
    if not rows:
        return
    table = Table(*header, box=None, header_style="dim", padding=(0, 2))
    for row in rows[:ROWS_SHOWN]:
        # Ids are whatever an archive says, and not to be read as markup.
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console.print(table)
    if len(rows) > ROWS_SHOWN:
        console.print(f"  … and {len(rows) - ROWS_SHOWN} more")


def _print_unpaired(console: Console, unpaired: Sequence[LeftOut]) -> None:
    """Scenes by the reason they share."""
    scenes_of: dict[str, list[str]] = {}
    for left in unpaired:
        scenes_of.setdefault(left.reason, []).append(left.scene)
    if scenes_of:
        console.print("\n[bold]Left out[/]")
    for reason, scenes in list(scenes_of.items())[:ROWS_SHOWN]:
        more = f" and {len(scenes) - SCENES_SHOWN} more" if len(scenes) > SCENES_SHOWN else ""
        # Reasons hold paths: they are neither broken over lines nor read as markup.
        console.print(
            f"  {', '.join(scenes[:SCENES_SHOWN])}{more}: {reason}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if len(scenes_of) > ROWS_SHOWN:
        console.print(f"  … and {len(scenes_of) - ROWS_SHOWN} more reasons, in report.json")


def _show_pixels(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} px"
