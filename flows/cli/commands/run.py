"""`tar-pipeline run`: a region of a STAC catalog, planned, registered, told."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.commands.derived import announce_region, exit_code, show_missed_days
from flows.cli.terminal import (
    DONE,
    FAILED,
    PARTIAL,
    add_json,
    complain,
    output,
    prepare_prefect,
    write_json,
)

if TYPE_CHECKING:
    from flows.plan.plan import Plan
    from flows.progress import Stopwatch
    from flows.report.schema import Report
    from flows.report.workload import Workload

EPILOG = """\
examples:
  tar-pipeline run --provider earth-search --bbox 11.2 46.4 11.5 46.6 --start 2024-06-01 \\
      --end 2024-06-10 --store mosaics --region bolzano --dry-run
      which scenes pair, which do not and why, and what it would take;
      leave out --dry-run to register them

  tar-pipeline run --catalog items.json --optical sentinel-2-visual --sar sentinel-1-rtc \\
      --bbox 11.2 46.4 11.5 46.6 --start 2024-06-01 --end 2024-06-10 --store s3://mosaics
      scenes of your own, described by an ItemCollection

--json FILE holds what report.json does; with --dry-run, the plan.

The same command again continues a run that was stopped, and does nothing once all is done.
Readers never see half a mosaic: a day appears when it is complete. Exit code 4 when something of
what the plan promised is missing; the same command tries just that again.

Open the result:
  import catalog
  mosaic = catalog.open_mosaic("STORE/REGION")     # xarray.Dataset: time, y, x
"""


def describe_run(parser: argparse.ArgumentParser) -> None:
    """The `run` command's options: a request's fields, and whether to carry it out."""
    from flows.cli.options import add_request_options

    parser.description = (
        "Find the scenes of a region, register SAR to optical, leave one mosaic\n"
        "per day of an optical or a SAR pass (--slots)."
    )
    parser.epilog = EPILOG
    add_request_options(parser)
    parser.add_argument("--dry-run", action="store_true",
                        help="print the plan and what it would take, write nothing")  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Register a region of a STAC catalog."""
    prepare_prefect()
    from flows.cli.options import request_values
    from flows.plan.plan import plan_request
    from flows.plan.request import RegionRequest
    from flows.progress import Stopwatch
    from flows.report.report import print_plan
    from flows.report.save import report_is_missing, save_run
    from flows.report.schema import encode_report
    from flows.report.workload import estimate_workload

    console, clock = output(args), Stopwatch()
    request = RegionRequest.of(**request_values(args))
    with Console(stderr=True).status("searching and pairing scenes"), clock("plan"):
        plan = plan_request(request)
    print_plan(console, plan, pairs=args.dry_run)
    if args.dry_run:
        work = estimate_workload(plan)
        _print_workload(console, work)
        write_json(args, {**plan_values(plan), "workload": asdict(work)})
        console.print("\nDry run: nothing was written.")
        return DONE
    if plan.unfinished:
        code, report = _register(console, plan, clock)
        write_json(args, json.loads(encode_report(report)))
        return code
    missing = report_is_missing(plan)
    if args.json or missing or not plan.slots:
        report, _ = save_run(plan, (), clock)
        write_json(args, json.loads(encode_report(report)))
    _tell_why_nothing_is_done(console, plan, missing)
    if plan.slots:
        show_missed_days(console, request.store, request.region)
    if request.stac_api is None:
        return DONE
    return exit_code([announce_region(console, request.store, request.region, request.stac_api)])


def plan_values(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values: what would be paired, what is left out and why, what is there."""
    return {
        "region": plan.request.region,
        "mosaic": plan.mosaic_url,
        "scenes": {"optical": len(plan.optical), "sar": len(plan.sar)},
        "slots": [
            {
                "slot": slot.slot,
                "generation": slot.generation,
                "kind": slot.kind,
                "published": slot.published,
                "pairs": [
                    {
                        "optical": pair.optical.id,
                        "sar": pair.sar.id,
                        "overlap_share": pair.overlap_share,
                        "gap_days": pair.gap.total_seconds() / 86400,
                    }
                    for pair in slot.pairs
                ],
                "sar": [scene.id for scene in slot.sar],
            }
            for slot in plan.slots
        ],
        "unpaired": [{"scene": each.id, "reason": each.reason} for each in plan.left_out],
        "warnings": [{"scene": each.scene_id, "warning": each.text} for each in plan.warnings],
    }


def _register(console: Console, plan: Plan, clock: Stopwatch) -> tuple[int, Report]:
    """Carry the plan out, and tell what became of it: the exit code and the report."""
    from flows.register_region import register_plan
    from flows.report.accountability import print_accountability
    from flows.report.report import print_result

    console.print()
    result = register_plan(plan, clock)
    if result.announced is not None:
        console.print(result.announced.told, highlight=False, markup=False, soft_wrap=True)
    code = {"Completed": DONE, "Partial": PARTIAL}.get(result.ending, FAILED)
    if code == FAILED:
        complain(result.summary, code)
    print_result(console, result.report, already_told=plan.left_out)
    print_accountability(console, result.report.accountability)
    if code != FAILED:
        _tell_where_it_is(console, result.report, code)
    return code, result.report


def _print_workload(console: Console, work: Workload) -> None:
    """What the run would come to, and what each number rests on."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    for what, told in work.rows():
        table.add_row(what, told)
    console.print("\n[bold]What it would take[/]")
    console.print(table, highlight=False)


def _tell_where_it_is(console: Console, report: Report, code: int) -> None:
    done = "Done" if code == DONE else "[yellow]Partly done[/]; the same command tries the rest;"
    console.print(
        f"\n{done} in {report.seconds['total']:.0f} s.\n"
        f"  mosaic    {report.mosaic}\n"
        f"  picture   {report.mosaic}/preview.png\n"
        f"  report    {report.mosaic}/report.json\n"
        f"  by day    {report.mosaic}/reports/DAY.html\n"
        f'  open it   catalog.open_mosaic("{report.mosaic}")',
        highlight=False,
        soft_wrap=True,
    )


def _tell_why_nothing_is_done(console: Console, plan: Plan, missing: bool) -> None:
    """Nothing pairs, or all of it is published; `missing` was the report of that."""
    place = escape(plan.mosaic_url)
    if not plan.slots:
        nothing = "No day has a usable SAR scene"
        if plan.request.slots == "optical":
            nothing = "No optical scene has a SAR partner"
        console.print(
            f"\n{nothing} here, so there is nothing to register; the reasons are above and in "
            f"{place}/report.json",
            soft_wrap=True,
        )
        return
    console.print(f"\n[green]Nothing to do:[/] all of it is published in {place}", soft_wrap=True)
    if missing:  # the run that published it died before its report
        console.print("report.json was missing beside it, and has been written now")
