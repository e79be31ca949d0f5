"""`tar-pipeline serve`, `nightly` and `backfill`: the region run as a service."""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

from rich.console import Console

from flows.cli.terminal import (
    DONE,
    FAILED,
    PARTIAL,
    add_json,
    output,
    prepare_prefect,
    require_file,
    write_json,
)

INFRA = Path(__file__).resolve().parents[3] / "infra"  # of a checkout
SERVE_EPILOG = """\
Server, work pool, worker and the deployments `nightly` and `on-demand` of the Prefect file, on this
machine, until Ctrl-C. Runs and their history live in PREFECT_HOME (default: ~/.prefect). It is on
loopback unless --host says otherwise. Nobody is asked for a password unless one is set in
PREFECT_SERVER_API_AUTH_STRING (user:password), which server, worker and runs then use.
"""
BACKFILL_EPILOG = """\
Newest window first. What is published is left alone, so the same command again does what is
missing; a window that fails does not stop the others. Exit code 1 when all of them failed, 4 when
some did.
"""


def serve(args: argparse.Namespace) -> int:
    """Everything on one machine, until it is stopped."""
    from flows.service.serve import Service
    from flows.service.serve import serve as run_service

    for name, file in {"prefect-file": args.prefect_file, "regions": args.regions}.items():
        require_file(name, file)
    run_service(
        Service(
            args.host, args.port, args.runs, args.prefect_file, args.regions, args.metrics_port
        ),
        Console(),
    )
    return DONE


def nightly(args: argparse.Namespace) -> int:
    """What the nightly deployment does, now and here."""
    prepare_prefect()
    from flows.service.nightly import nightly as run_nightly
    from flows.service.regions import load_regions

    load_regions(args.regions, args.region or ())
    state = run_nightly(
        args.regions, args.days_back, args.until, args.region or (), return_state=True
    )
    output(args).print(f"{state.name}: {state.message}", markup=False, soft_wrap=True)
    write_json(args, {"state": state.name, "message": state.message})
    if state.is_completed():
        return DONE
    return PARTIAL if state.name == "Partial" else FAILED


def backfill(args: argparse.Namespace) -> int:
    """Regions of the regions file over a range of days."""
    prepare_prefect()
    from flows.service.backfill import backfill as run_backfill
    from flows.service.backfill import print_outcomes
    from flows.service.regions import load_regions

    console = output(args)
    requests = [
        region.request(args.start, args.end) for region in load_regions(args.regions, args.region)
    ]
    outcomes = run_backfill(requests, args.window_days, console)
    print_outcomes(console, outcomes)
    write_json(
        args,
        [
            {
                "region": outcome.request.region,
                "start": outcome.request.start.isoformat(),
                "end": outcome.request.end.isoformat(),
                "finished": outcome.finished,
                "ending": outcome.ending,
            }
            for outcome in outcomes
        ],
    )
    finished = [outcome.finished for outcome in outcomes]
    if all(finished):
        return DONE
    return PARTIAL if any(finished) else FAILED


def describe_serve(parser: argparse.ArgumentParser) -> None:
    """The `serve` command's options."""
    parser.description = "Run regions every night and on demand."
    parser.epilog = SERVE_EPILOG
    _add_regions(parser)
    parser.add_argument("--prefect-file", type=Path, default=INFRA / "prefect.yaml", metavar="FILE",
                        help="the deployments (default: infra/prefect.yaml)")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=4200, help="(default: %(default)s)")
    parser.add_argument("--runs", type=_count, default=2, metavar="N",
                        help="flow runs at once (default: %(default)s)")  # fmt: skip
    parser.add_argument("--metrics-port", type=int, metavar="PORT",
                        help="serve figures of the regions there, as OpenMetrics text for "
                        "Prometheus (default: none; they lie beside each report too)")  # fmt: skip
    parser.set_defaults(command=serve)


def describe_nightly(parser: argparse.ArgumentParser) -> None:
    """The `nightly` command's options."""
    parser.description = (
        "Register yesterday and the days before it in every region of the file.\n"
        "Exit code 1 when all of them failed, 4 when some did."
    )
    _add_regions(parser)
    parser.add_argument("--region", action="append", metavar="NAME",
                        help="only this one; may be repeated")  # fmt: skip
    parser.add_argument("--days-back", type=int, default=4, metavar="DAYS",
                        help="days before the last one, for scenes that came late "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--until", type=dt.date.fromisoformat, metavar="YYYY-MM-DD",
                        help="last day (default: yesterday, UTC)")  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=nightly)


def describe_backfill(parser: argparse.ArgumentParser) -> None:
    """The `backfill` command's options."""
    from flows.cli.options import add_request_option

    parser.description = "Register a range of days of regions of the file, window by window."
    parser.epilog = BACKFILL_EPILOG
    _add_regions(parser)
    parser.add_argument("--region", required=True, action="append", metavar="NAME",
                        help="of the file; may be repeated")  # fmt: skip
    add_request_option(parser, "start")
    add_request_option(parser, "end")
    parser.add_argument("--window-days", type=_count, default=7, metavar="DAYS",
                        help="days of one run (default: %(default)s)")  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=backfill)


def _add_regions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--regions", type=Path, default=INFRA / "regions.yaml", metavar="FILE",
                        help="the regions file (default: infra/regions.yaml)")  # fmt: skip


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)
