"""The `tar-pipeline` command: arguments in, one clear line per mistake out.

Heavy packages (torch, Prefect, Dask) are imported by the command that needs them, so that `--help`
and a mistyped option answer at once.

Exit codes: 0 done, 1 failed or found faulty, 2 the request is wrong, 3 the pair was refused,
4 partly done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from flows.cli.engine_commands import add_evaluate, add_train
from flows.cli.export_command import add_export
from flows.cli.service_commands import add_backfill, add_nightly, add_serve
from flows.cli.terminal import (
    DONE,
    FAILED,
    PARTIAL,
    REFUSED,
    WRONG_REQUEST,
    output,
    prepare_prefect,
)
from flows.cli.upkeep_commands import add_upkeep

if TYPE_CHECKING:
    from catalog.archives.providers import Provider
    from flows.plan.plan import Plan
    from flows.progress import Stopwatch


EPILOG = """\
examples:
  tar-pipeline demo
      make a small region whose true misregistration is known, and register it

  tar-pipeline run --catalog https://stac.example.org/v1 \\
      --optical sentinel-2-l2a --sar sentinel-1-grd --bbox 11.2 46.4 11.5 46.6 \\
      --start 2024-06-01 --end 2024-06-10 --store s3://mosaics --region bolzano --dry-run
      show what would be paired; leave out --dry-run to do it

  tar-pipeline pair optical.tif sar.tif --out registered.tif
      register two rasters, no catalog
"""
RUN_EPILOG = """\
The same command again continues a run that was stopped, and does nothing once all is done.
Readers never see half a mosaic: a day appears when it is complete.

Open the result:
  import catalog
  mosaic = catalog.open_mosaic("STORE/REGION")     # xarray.Dataset: time, y, x
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(arguments)
    try:
        return int(args.command(args))
    except KeyboardInterrupt:
        return _complain("interrupted; the same command continues where it stopped", 130)
    except Exception as error:
        if args.debug:
            raise
        return _complain(*_explained(error))


def demo(args: argparse.Namespace) -> int:
    """Register a self-made region and compare with its truth."""
    prepare_prefect()
    from flows.cli.demo import run_demo

    run_demo(args.out, output())
    return DONE


def run(args: argparse.Namespace) -> int:
    """Register a region of a STAC catalog."""
    prepare_prefect()
    from flows.plan.plan import plan_request
    from flows.plan.request import RegionRequest
    from flows.progress import Stopwatch
    from flows.report.report import print_plan

    console, clock = output(), Stopwatch()
    request = RegionRequest.of(**_request_values(args))
    with Console(stderr=True).status("searching and pairing scenes"), clock("plan"):
        plan = plan_request(request)
    print_plan(console, plan, pairs=args.dry_run)
    if args.dry_run:
        console.print("\nDry run: nothing was written.")
    elif not plan.pairs:
        _report_no_pairs(console, plan)
    elif not plan.unfinished:
        _nothing_to_do(console, plan)
    else:
        return _register(console, plan, clock)
    return DONE


def providers(_: argparse.Namespace) -> int:
    """Which archives are known, and what each needs."""
    from catalog.archives.providers import PROVIDERS

    console = output()
    for each in PROVIDERS.values():
        console.print(f"[bold]{each.name}[/]  {each.title}", highlight=False, soft_wrap=True)
        for line in (f"needs {each.needs}", each.api_url, *_collections(each)):
            if line:
                console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nThe first collection of a kind is its default.", highlight=False)
    return DONE


def _collections(provider: Provider) -> Iterator[str]:
    """A line for every kind of collection."""
    for role in ("optical", "sar", "dem"):
        names = []
        for each in provider.collections:
            notes = ["ground control points"] if each.geometry == "gcps" else []
            notes += ["requester pays"] if each.requester_pays else []
            if each.role == role:
                names.append(f"{each.id} ({', '.join(notes)})" if notes else each.id)
        if names:
            yield f"{role:8} {', '.join(names)}"


def pair(args: argparse.Namespace) -> int:
    """Register one SAR raster to one optical raster."""
    from flows.cli.pair import register_files

    console = output()
    with Console(stderr=True).status("matching"):
        result = register_files(args.optical, args.sar, args.out, args.max_offset_px, args.weights)
    if not result.accepted:
        console.print(f"[red]Refused:[/] {result.reason}. Nothing was written.")
        return REFUSED
    console.print(
        f"[green]Registered[/] by a {result.kind} field from {result.matches} matches: moved by "
        f"{result.median_displacement_px:.2f} px (median), expected error "
        f"{result.expected_error_px:.2f} px.\n{args.out}"
    )
    return DONE


def _register(console: Console, plan: Plan, clock: Stopwatch) -> int:
    from flows.register_region import register_plan
    from flows.report.accountability import print_accountability
    from flows.report.report import print_result

    console.print()
    result = register_plan(plan, clock)
    report = result.report
    code = {"Completed": DONE, "Partial": PARTIAL}.get(result.ending, FAILED)
    if code == FAILED:
        _complain(result.summary, code)
    print_result(console, report, already_told=plan.unpaired)
    print_accountability(console, report.accountability)
    if code == FAILED:
        return code
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
    return code


def _nothing_to_do(console: Console, plan: Plan) -> None:
    from flows.report.report import report_is_missing

    told = f"all of it is published in {escape(plan.mosaic_url)}"
    console.print(f"\n[green]Nothing to do:[/] {told}", soft_wrap=True)
    if report_is_missing(plan):  # the run that published it died before its report
        _restore_report(plan)
        console.print("report.json was missing beside it, and has been written now")


def _restore_report(plan: Plan) -> None:
    from flows.progress import Stopwatch
    from flows.report.preview import draw_preview
    from flows.report.report import compile_report, earlier_outcomes
    from flows.report.slot_report import save_reports

    clock = Stopwatch()
    with clock("report"):
        picture = draw_preview(plan, earlier_outcomes(plan))
    save_reports(plan, compile_report(plan, (), clock), picture, ())


def _report_no_pairs(console: Console, plan: Plan) -> None:
    from flows.progress import Stopwatch
    from flows.report.report import compile_report, save_report

    save_report(plan.mosaic_url, compile_report(plan, (), Stopwatch()), picture=None)
    console.print(
        "\nNo optical scene has a SAR partner here, so there is nothing to register; the reasons "
        f"are above and in {escape(plan.mosaic_url)}/report.json",
        soft_wrap=True,
    )


def _request_values(args: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line; what was not is left to the request's defaults."""
    own = {"command", "debug", "dry_run"}
    return {k: v for k, v in vars(args).items() if k not in own and v is not None}


def _explained(error: Exception) -> tuple[str, int]:
    """An error as one line and an exit code."""
    from catalog.errors import ArgumentError, CatalogError
    from flows.cluster.workers import DispatchError
    from flows.plan.plan import PlanError
    from flows.plan.request import RequestError
    from flows.service.serve import ServeError
    from tar_engine.errors import EngineError, InputError, TextError, WeightsError

    wrong = ArgumentError | RequestError | PlanError | InputError | WeightsError | TextError
    if isinstance(error, wrong):
        return str(error), WRONG_REQUEST
    if isinstance(error, CatalogError | EngineError | DispatchError | ServeError):
        return str(error), FAILED
    return f"{type(error).__name__}: {error} (a bug; --debug shows where)", FAILED


def _complain(message: str, code: int) -> int:
    print(f"tar-pipeline: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tar-pipeline",
        description="Registers Sentinel-1 SAR scenes to Sentinel-2 optical scenes\n"
        "and keeps the result as daily mosaics in a Zarr store.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"tar-pipeline {version('tar-pipeline')}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    _add_demo(commands, common)
    _add_run(commands, common)
    _add_providers(commands, common)
    _add_pair(commands, common)
    add_serve(commands, common)
    add_nightly(commands, common)
    add_backfill(commands, common)
    add_evaluate(commands, common)
    add_train(commands, common)
    add_upkeep(commands, common)
    add_export(commands, common)
    return parser


def _add_demo(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "demo", parents=[common], help="a self-made region, its truth known",
        description="Draw a small region with a known misregistration, serve it as a STAC API, "
        "register it, and compare the result with the truth.",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("demo-region"), metavar="DIR",
        help="where scenes, mosaic and report go (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(command=demo)


def _add_run(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "run", parents=[common], help="a region of a STAC catalog",
        description="Find the scenes of a region, register SAR to optical, leave one mosaic\n"
        "per optical day.",
        epilog=RUN_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = parser.add_argument_group("what")
    what.add_argument("--provider", metavar="NAME",
                      help="an archive (see `providers`); it brings the next three")  # fmt: skip
    what.add_argument("--catalog", metavar="URL|FILE",
                      help="STAC API, or an ItemCollection JSON, served for this run")  # fmt: skip
    what.add_argument("--optical", metavar="COLLECTION")
    what.add_argument("--sar", metavar="COLLECTION")
    what.add_argument("--bands", nargs="+", metavar="BAND",
                      help="optical, by common name (default: red green blue nir)")  # fmt: skip
    what.add_argument("--bbox", required=True, nargs=4, type=float, metavar=("W", "S", "E", "N"),
                      help="degrees")  # fmt: skip
    what.add_argument("--start", required=True, metavar="DATE", help="first day, YYYY-MM-DD, UTC")
    what.add_argument("--end", required=True, metavar="DATE", help="last day, inclusive")
    where = parser.add_argument_group("where to")
    where.add_argument("--store", required=True, metavar="PATH|s3://…")
    where.add_argument("--region", metavar="NAME", help="its name in the store (default: region)")
    where.add_argument("--crs", metavar="EPSG:…", help="default: UTM zone of the region's centre")
    where.add_argument(
        "--resolution", type=float, metavar="UNITS", help="pixel size (default: 10 m)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--max-gap-days", type=float, metavar="DAYS",
                     help="between an optical scene and its SAR partner (default: 6)")  # fmt: skip
    how.add_argument("--min-overlap", type=float, metavar="SHARE",
                     help="of an optical scene that a partner adds (default: 0.05)")  # fmt: skip
    how.add_argument("--orbit", metavar="best|ascending|descending|NUMBER",
                     help="of the SAR scenes; a number is a relative orbit")  # fmt: skip
    how.add_argument("--dem", metavar="COLLECTION",
                     help="of a DEM, as cop-dem-glo-30, to correct GRD by")  # fmt: skip
    how.add_argument("--max-cloud-cover", type=float, metavar="PERCENT",
                     help="of an optical scene (default: 80)")  # fmt: skip
    how.add_argument("--max-offset-px", type=float, metavar="PX",
                     help="largest misregistration looked for (default: 32)")  # fmt: skip
    how.add_argument("--weights", type=Path, metavar="FILE",
                     help="a checkpoint of your own (default: the shipped one)")  # fmt: skip
    how.add_argument("--weights-sha256", metavar="HEX", help="refuse any other checkpoint")
    how.add_argument("--scheduler", metavar="tcp://…",
                     help="a Dask scheduler (default: processes on this machine)")  # fmt: skip
    how.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")
    parser.set_defaults(command=run)


def _add_providers(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "providers", parents=[common], help="archives known by name, and what each needs",
        description="List the archives that `run --provider NAME` knows: their collections, and "
        "what each needs.",
    )  # fmt: skip
    parser.set_defaults(command=providers)


def _add_pair(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "pair", parents=[common], help="two rasters, no catalog",
        description="Register one SAR raster to one optical raster; the result lies on the "
        "optical raster's pixels.",
    )  # fmt: skip
    parser.add_argument("optical", type=Path, metavar="OPTICAL.tif")
    parser.add_argument("sar", type=Path, metavar="SAR.tif")
    parser.add_argument("--out", type=Path, required=True, metavar="REGISTERED.tif")
    parser.add_argument("--max-offset-px", type=float, default=32.0, metavar="PX",
                        help="with georeferenced rasters: largest misregistration looked for "
                        "(default: %(default)g)")  # fmt: skip
    parser.add_argument("--weights", type=Path, metavar="FILE")
    parser.set_defaults(command=pair)


if __name__ == "__main__":
    sys.exit(main())
