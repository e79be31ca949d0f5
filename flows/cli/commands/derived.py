"""`tar-pipeline cube` and `announce`: what follows the published days, brought up to date."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.cli.terminal import DONE, PARTIAL, add_json, add_store, count, output, write_json

if TYPE_CHECKING:
    from catalog.stac_api.reconcile import ApiChange

CUBE_EPILOG = """\
A run keeps the cube of its region up to date by itself. This is for a store that was moved or
copied, which a cube does not survive, and for one whose items were changed by hand: every item is
read, and what differs is written again.

examples:
  tar-pipeline cube s3://mosaics/bolzano
  tar-pipeline cube /data/mosaics --json -
"""
ANNOUNCE_EPILOG = """\
A run with --stac-api does this at its end, and so do `prune` and `retire` of a region that was
announced before. This is for an API that was down or lost its entries, when no run is to come soon.
What differs is sent, entries of days that are gone are deleted, entries of others stay. Collections
are named as regions are. STORE/REGION/stac-api.json tells how the API was left.

Credentials come from the environment and are sent to one host alone: TAR_STAC_API_HOST (with its
port, where the address has one), and TAR_STAC_API_TOKEN (bearer), or TAR_STAC_API_USER and
TAR_STAC_API_PASSWORD (basic). Exit code 4 when an API does not take everything.

examples:
  tar-pipeline announce s3://mosaics --stac-api https://stac.example.org
  tar-pipeline announce s3://mosaics/bolzano
"""


def describe_cube(parser: argparse.ArgumentParser) -> None:
    """The `cube` command's options."""
    parser.description = (
        "Make the cube of every region show exactly the days that are published, and tell how\n"
        "xarray opens it without this program."
    )
    parser.epilog = CUBE_EPILOG
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=cube)


def cube(args: argparse.Namespace) -> int:
    """Update cubes."""
    from catalog import objects
    from catalog.cube.repository import cube_url, opening_lines
    from catalog.cube.update import update_cube
    from catalog.store.upkeep import regions

    rows: list[dict[str, Any]] = []
    for store, region in regions(args.store):
        change = update_cube(store, region, recheck=True)
        region_url = objects.join(store, region)
        lines = opening_lines(region_url) if objects.names(cube_url(region_url)) else []
        rows.append({"region": region, **asdict(change), "open": lines})
        _print_cube(args, region, rows[-1])
    write_json(args, rows)
    return DONE


def show_missed_days(console: Console, store: str, region: str) -> None:
    """Bring the cube of a region up to date: a run may have died when it had published a day."""
    from catalog.cube.update import update_cube

    if made := update_cube(store, region).made:
        days = ", ".join(made)
        console.print(f"the cube of all days was behind, and is not any more: {days}",
                      highlight=False, soft_wrap=True)  # fmt: skip


def _print_cube(args: argparse.Namespace, region: str, row: dict[str, Any]) -> None:
    console = output(args)
    if not row["open"]:
        console.print(f"{region}: no day is published, so there is no cube", highlight=False)
        return
    told = [f"{len(row[key])} {key}" for key in ("added", "remade", "removed") if row[key]]
    console.print(f"{region}: {', '.join(told) or 'up to date'}", highlight=False)
    if row["left_out"]:
        days = ", ".join(row["left_out"])
        console.print(
            f"  on another grid than the latest day, so left out: {days}", highlight=False
        )
    for line in row["open"]:
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)


def describe_announce(parser: argparse.ArgumentParser) -> None:
    """The `announce` command's options."""
    parser.description = (
        "Make a STAC API show exactly the days that are published: a collection per region, an\n"
        "item per day. The API needs the Transaction extension."
    )
    parser.epilog = ANNOUNCE_EPILOG
    add_store(parser)
    parser.add_argument(
        "--stac-api", metavar="URL",
        help="its landing page (default: the one of each region's last time)",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=announce)


def announce(args: argparse.Namespace) -> int:
    """Update STAC APIs."""
    from catalog.store.upkeep import regions

    changes = {
        region: change
        for store, region in regions(args.store)
        if (change := announce_region(output(args), store, region, args.stac_api)) is not None
    }
    if not changes:
        output(args).print("No region here was announced before: --stac-api says where.")
    write_json(args, [{"region": region, **asdict(each)} for region, each in changes.items()])
    return exit_code(changes.values())


def exit_code(changes: Iterable[ApiChange | None]) -> int:
    """Partly done where an API does not show all that is published."""
    behind = any(change is not None and change.announced.failures for change in changes)
    return PARTIAL if behind else DONE


def announce_region(
    console: Console, store: str, region: str, api_url: str | None = None
) -> ApiChange | None:
    """Bring the STAC API of a region up to date and say so: the one named, or of the last time.

    None for a region that has none.
    """
    from catalog import objects
    from catalog.stac_api.reconcile import last_announced, reconcile

    last = None if api_url else last_announced(objects.join(store, region))
    url = last.url if last else api_url
    if url is None:
        return None
    change = reconcile(url, store, region)
    sent, deleted = count(len(change.upserted), "item"), len(change.deleted)
    console.print(f"{region}: {change.announced.told}: {sent} sent, {deleted} deleted",
                  style="yellow" if change.announced.failures else None,
                  highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    return change
