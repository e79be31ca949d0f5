"""`tar-pipeline drift`: each SAR pass's remainder over time, and steps in it."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.terminal import DONE, add_json, add_store, output, require_place, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from flows.report.drift import Remainder, Step

EPILOG = """\
Passes of one relative orbit see the terrain alike, so they share one field of displacements. What a
pass has beyond it is its remainder: small and without pattern, as long as satellite, processor and
the optical images stay as they are. A step is a change that lasts, as archives have when a
processor changes; it is named with the days on both sides of it.

examples:
  tar-pipeline drift s3://mosaics/bolzano                   the table
  tar-pipeline drift s3://mosaics/bolzano --out drift.png   and the picture
"""


def describe_drift(parser: argparse.ArgumentParser) -> None:
    """The `drift` command's options."""
    parser.description = (
        "Tell how the SAR passes of a region differ over time, by satellite and orbit."
    )
    parser.epilog = EPILOG
    add_store(parser)
    parser.add_argument("--out", type=Path, metavar="X.png", help="draw the remainders over time")
    add_json(parser)
    parser.set_defaults(command=drift)


def drift(args: argparse.Namespace) -> int:
    """Every region at STORE: remainders of its passes, and their steps."""
    from catalog import objects
    from catalog.errors import ArgumentError
    from catalog.store.upkeep import regions
    from flows.report.drift import draw_drift, find_steps, read_passes, split_passes

    there = regions(args.store)
    if args.out is not None:
        require_place("out", args.out)
        if len(there) != 1:
            known = ", ".join(name for _, name in there)
            raise ArgumentError(
                f"out: one picture shows one region; give {args.store}/REGION, of: {known}",
                argument="out",
            )
    console, results = output(args), []
    for store, region in there:
        passes, without = read_passes(objects.join(store, region))
        remainders = split_passes(passes)
        steps = find_steps(remainders)
        _print_drift(console, region, remainders, steps)
        if without:
            told = ", ".join(map(str, without))
            console.print(f"Without a pass of a known orbit: {told}", soft_wrap=True)
        results.append({
            "region": region,
            "days_without_pass": [str(day) for day in without],
            "passes": [{**asdict(each), "day": str(each.day)} for each in remainders],
            "steps": [{**asdict(each), "before": str(each.before), "after": str(each.after)}
                      for each in steps],
        })  # fmt: skip
        if args.out is not None:
            args.out.write_bytes(draw_drift(region, remainders, steps))
            console.print(f"{args.out}", highlight=False, soft_wrap=True)
    write_json(args, results)
    return DONE


def _print_drift(
    console: Console, region: str, remainders: list[Remainder], steps: list[Step]
) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("day", "satellite", "geometry", "dx", "dy", "scatter", title=region,
                  title_justify="left", box=None, header_style="dim", padding=(0, 2))  # fmt: skip
    for each in remainders:
        table.add_row(
            str(each.day), Text(each.platform or "–"), Text(str(each.geometry)),
            _format_px(each.dx_px, "+"), _format_px(each.dy_px, "+"), _format_px(each.scatter_px),
        )  # fmt: skip
    console.print(table)
    for step in steps:
        console.print(Text(str(step), "yellow"), soft_wrap=True)
    if not steps:
        console.print("No steps: no lasting change in what passes have of their own.")


def _format_px(value: float, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:{sign}.2f}"
