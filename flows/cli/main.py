"""The `tar-pipeline` command: which command was typed, and one clear line per mistake.

Only the command that was typed is asked for its options, so that `--help` answers at once: some
options are made of a request's fields, which takes seconds to import.

Exit codes: 0 done, 1 failed or found faulty, 2 the request is wrong, 3 the pair was refused,
4 partly done, 130 interrupted, or cancelled in Prefect (143 by SIGTERM).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from catalog.child_server import reach_loopback_directly
from flows.cli.commands.demo import describe_demo
from flows.cli.commands.derived import describe_announce, describe_cube
from flows.cli.commands.drift import describe_drift
from flows.cli.commands.engine import describe_evaluate, describe_train
from flows.cli.commands.export import describe_export
from flows.cli.commands.pair import describe_pair
from flows.cli.commands.run import describe_run
from flows.cli.commands.service import describe_backfill, describe_nightly, describe_serve
from flows.cli.commands.status import describe_status
from flows.cli.commands.surroundings import describe_doctor, describe_providers
from flows.cli.commands.upkeep import describe_prune, describe_retire, describe_verify
from flows.cli.terminal import (
    FAILED,
    INTERRUPTED,
    STANDARD_OUTPUT,
    WRONG_REQUEST,
    complain,
    require_place,
)
from flows.cli.view import describe_view

COMMANDS = {
    "demo": ("a self-made region, its truth known", describe_demo),
    "doctor": ("what this machine offers to a run", describe_doctor),
    "run": ("a region of a STAC catalog", describe_run),
    "providers": ("archives known by name, and what each needs", describe_providers),
    "pair": ("two rasters, no catalog", describe_pair),
    "serve": ("Prefect server, worker and deployments, on this machine", describe_serve),
    "nightly": ("what runs every night, now", describe_nightly),
    "backfill": ("days of the past, newest first", describe_backfill),
    "view": ("a map of a store, in a browser", describe_view),
    "status": ("what lies in a store", describe_status),
    "verify": ("check every shard of a store", describe_verify),
    "prune": ("remove what no item points to", describe_prune),
    "retire": ("delete published days that are old enough", describe_retire),
    "cube": ("all days of a region as one, for xarray", describe_cube),
    "announce": ("what is published, to a STAC API", describe_announce),
    "drift": ("how SAR passes differ over time", describe_drift),
    "export": ("a published day as a GeoTIFF", describe_export),
    "evaluate": ("accuracy on aligned pairs, warped in a known way", describe_evaluate),
    "train": ("train the network", describe_train),
}
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

exit codes: 0 done, 1 failed or found faulty, 2 the request is wrong, 3 the pair was refused,
4 partly done, 130 interrupted, or cancelled in Prefect (143 by SIGTERM)
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    reach_loopback_directly()
    args = _parse(sys.argv[1:] if words is None else words)
    try:
        if getattr(args, "json", None) not in (None, STANDARD_OUTPUT):
            require_place("json", args.json)
        return int(args.command(args))
    except KeyboardInterrupt:
        return complain("interrupted; the same command continues where it stopped", INTERRUPTED)
    except Exception as error:
        if args.debug:
            raise
        return complain(*_explain(error))


def _parse(words: Sequence[str]) -> argparse.Namespace:
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
    typed = next((word for word in words if not word.startswith("-")), None)
    for name, (summary, describe) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == typed:
            describe(command)
            command.add_argument(
                "--debug", action="store_true", help="show where an error came from"
            )
    return parser.parse_args(words)


def _explain(error: Exception) -> tuple[str, int]:
    """An error as one line and an exit code."""
    from flows.plan.places import PlaceError

    if isinstance(error, PlaceError):  # what follows may not even be imported without these places
        return str(error), WRONG_REQUEST
    from catalog.errors import ArgumentError, CatalogError
    from flows.cluster.workers import DispatchError
    from flows.plan.plan import PlanError
    from flows.plan.request import RequestError
    from flows.register_region import PrefectLost, RunCancelled
    from flows.service.serve import ServeError
    from tar_engine.errors import EngineError, InputError, TextError, WeightsError

    wrong = ArgumentError | RequestError | PlanError | InputError | WeightsError | TextError
    if isinstance(error, wrong):
        return str(error), WRONG_REQUEST
    if isinstance(error, RunCancelled):
        return str(error), INTERRUPTED
    if isinstance(error, CatalogError | EngineError | DispatchError | ServeError | PrefectLost):
        return str(error), FAILED
    return f"{type(error).__name__}: {error} (a bug; --debug shows where)", FAILED


if __name__ == "__main__":
    sys.exit(main())
