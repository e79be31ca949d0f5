"""`tar-pipeline cube`: the cube of every region brought up to date, and how to open it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from flows.cli.terminal import DONE, add_json, add_store, output, write_json

EPILOG = """\
A run keeps the cube of its region up to date by itself. This is for a store that was moved or
copied, which a cube does not survive, and for one whose items were changed by hand: every item is
read, and what differs is written again.

examples:
  tar-pipeline cube s3://mosaics/bolzano
  tar-pipeline cube /data/mosaics --json -
"""


def describe_cube(parser: argparse.ArgumentParser) -> None:
    """The `cube` command's options."""
    parser.description = (
        "Make the cube of every region show exactly the days that are published, and tell how\n"
        "xarray opens it without this program."
    )
    parser.epilog = EPILOG
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=cube)


def cube(args: argparse.Namespace) -> int:
    """Update cubes."""
    from catalog import objects
    from catalog.cube.repository import opening_lines
    from catalog.cube.update import update_cube
    from catalog.store.upkeep import regions

    rows: list[dict[str, Any]] = []
    for store, region in regions(args.store):
        change = update_cube(store, region, recheck=True)
        lines = opening_lines(objects.join(store, region))
        rows.append({"region": region, **asdict(change), "open": lines})
        _print_cube(args, region, rows[-1])
    write_json(args, rows)
    return DONE


def _print_cube(args: argparse.Namespace, region: str, row: dict[str, Any]) -> None:
    console = output(args)
    told = [f"{len(row[key])} {key}" for key in ("added", "remade", "removed") if row[key]]
    console.print(f"{region}: {', '.join(told) or 'up to date'}", highlight=False)
    if row["left_out"]:
        days = ", ".join(row["left_out"])
        console.print(
            f"  on another grid than the latest day, so left out: {days}", highlight=False
        )
    for line in row["open"]:
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
