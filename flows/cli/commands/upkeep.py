"""`tar-pipeline status`, `verify` and `prune`: looking after a store from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.terminal import DONE, FAILED, add_json, add_store, output, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from catalog.memory.upkeep import Version
    from catalog.store.upkeep import Generation
    from flows.report.prices import Prices, RegionCost

SETTLED_HOURS = 24.0

STATUS_EPILOG = """\
Shares are of the day's pixels. Refused pairs and unfinished days are worth a look: a day without
PUBLISHED is one that a run is writing, or that a stopped run left; the same `run` finishes it.
Below: what the region remembers of each viewing geometry, version by version; and what each region
costs a month: all that lies there, and the requests of the runs that fill it, estimated from the
objects of a day. Prices are those of --prices FILE; what it leaves out, and its absence, are
defaults. Readers' requests, traffic and computing are not among it.
"""
VERIFY_EPILOG = """\
Every shard of every published day, those of its overviews too, is read and compared with the
checksums that were kept when it was written; of what a region remembers, the version in use is
read. Exit code 1 when something is missing or differs. To mend a day, delete its item
(STORE/REGION/items/DAY.json) and its generation (STORE/REGION/slots/DAY/GENERATION.*), and run the
same request again. To mend a memory, delete its folder (STORE/REGION/memory/NAME): it learns anew.
"""
PRUNE_EPILOG = """\
A generation is what one request made of one day. When another request replaces it, or a run is
given up, it stays until it is pruned. Readers follow items and never see it; a program that opened
it before it was replaced does, and fails once it is gone. So with the versions of what a region
remembers that later nights have replaced; the one in use is always kept.

A run that is writing has no item yet either. Therefore nothing is removed that changed within
--older-than-hours; below the default, make sure yourself that no run is writing.

examples:
  tar-pipeline prune s3://mosaics             what would be removed
  tar-pipeline prune s3://mosaics --yes       remove it
"""


def status(args: argparse.Namespace) -> int:
    """What lies in a store."""
    from catalog.store.upkeep import regions
    from flows.report.prices import load_prices, price_region

    prices, found = load_prices(args.prices), _generations(args.store)
    rows = [_describe(each) for each in found]
    costs = [
        price_region(store, region, [e for e in found if e.store.region == region], prices)
        for store, region in regions(args.store)
    ]
    remembered = [{**_measure(each), "current": each.current} for each in _versions(args.store)]
    _print_status(output(args), rows)
    _print_remembered(output(args), remembered)
    _print_costs(output(args), costs, prices, by_default=args.prices is None)
    told = [{**asdict(cost), "month": cost.month, **prices.model_dump()} for cost in costs]
    write_json(args, [*rows, *remembered, *told])
    return DONE


def verify(args: argparse.Namespace) -> int:
    """Whether every published shard still reads as it was written."""
    from catalog.memory.upkeep import verify as verify_memory
    from catalog.store.upkeep import verify as verified

    results = []
    for each in _generations(args.store):
        if each.published:
            found = verified(each.store)
            results.append({**_identify(each), "shards": found.shards,
                            "faults": [vars(fault) for fault in found.faults]})  # fmt: skip
    for version in _versions(args.store):
        if version.current:
            faults = [{"shard": None, "variable": None, "what": what}
                      for what in verify_memory(version.store)]  # fmt: skip
            results.append({**_identify(version), "objects": version.objects, "faults": faults})
    sound = not any(result["faults"] for result in results)
    _print_verified(output(args), results)
    write_json(args, results)
    return DONE if sound else FAILED


def prune(args: argparse.Namespace) -> int:
    """Remove generations that no item points to, and versions of memories not in use any more."""
    from catalog.cube.update import tidy_cube
    from catalog.memory.upkeep import remove as remove_version
    from catalog.memory.upkeep import superseded
    from catalog.store.upkeep import left_over, regions, remove

    age = timedelta(hours=args.older_than_hours)
    if args.yes:  # a cube that is behind may still show what goes
        for store, region in regions(args.store):
            tidy_cube(store, region, age)
    generations, versions = _generations(args.store), _versions(args.store)
    old_generations, old_versions = left_over(generations, age), superseded(versions, age)
    gone: list[Generation | Version] = [*old_generations, *old_versions]
    unused: list[Generation | Version] = [
        *(each for each in generations if not each.published),
        *(each for each in versions if not each.current),
    ]
    young = [each for each in unused if each not in gone]
    removed: list[Generation | Version] = [
        *(each for each in old_generations if args.yes and remove(each, age)),
        *(each for each in old_versions if args.yes and remove_version(each, age)),
    ]
    _print_pruned(args, gone, young, removed)
    groups = {"removed": removed, "left_over": gone, "too_young": young}
    write_json(args, {key: [_measure(each) for each in found] for key, found in groups.items()})
    return DONE


def describe_status(parser: argparse.ArgumentParser) -> None:
    """The `status` command's options."""
    parser.description = (
        "List the days of a store: shards, size, what became of the pixels and of the pairs."
    )
    parser.epilog = STATUS_EPILOG
    add_store(parser)
    parser.add_argument("--prices", type=Path, metavar="FILE",
                        help="YAML of what the object store costs: currency, "
                        "storage_gb_month, put_thousand, get_thousand (default: as infra/SCALE.md "
                        "assumes)")  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=status)


def describe_verify(parser: argparse.ArgumentParser) -> None:
    """The `verify` command's options."""
    parser.description = (
        "Compare every shard of every published day with its checksums; read what is remembered."
    )
    parser.epilog = VERIFY_EPILOG
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=verify)


def describe_prune(parser: argparse.ArgumentParser) -> None:
    """The `prune` command's options."""
    parser.description = (
        "List the generations that no item points to, and versions of memories that are not in\n"
        "use any more; with --yes, remove them."
    )
    parser.epilog = PRUNE_EPILOG
    add_store(parser)
    parser.add_argument("--yes", action="store_true", help="remove them; without it, a dry run")
    parser.add_argument(
        "--older-than-hours", type=_hours, default=SETTLED_HOURS, metavar="HOURS",
        help="since anything of it was written (default: %(default)g)",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=prune)


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of hours, 0 or more")
    return hours


def _generations(address: str) -> list[Generation]:
    """Those of every region at STORE, or of the one region STORE/REGION."""
    from catalog.store.upkeep import generations, regions

    return [each for store, region in regions(address) for each in generations(store, region)]


def _versions(address: str) -> list[Version]:
    """Those of what every region at STORE, or the one region STORE/REGION, remembers."""
    from catalog.memory.upkeep import versions
    from catalog.store.upkeep import regions

    return [each for store, region in regions(address) for each in versions(store, region)]


def _identify(each: Generation | Version) -> dict[str, str]:
    from catalog.memory.upkeep import Version

    if isinstance(each, Version):
        return {"region": each.store.region, "memory": each.store.name, "version": each.version}
    store = each.store
    return {"region": store.region, "slot": store.slot, "generation": store.generation}


def _measure(each: Generation | Version) -> dict[str, Any]:
    touched = each.touched.isoformat(timespec="seconds")
    return {**_identify(each), "objects": each.objects, "bytes": each.bytes, "touched": touched}


def _describe(each: Generation) -> dict[str, Any]:
    """A generation as `status` tells it; shares and pairs are None where nothing says so."""
    from catalog.store.upkeep import quality_shares
    from flows.stages.estimate import estimates_from_bytes

    saved = each.store.load_estimate()
    verdicts = [v for e in (estimates_from_bytes(saved) if saved else ()) for v in e.verdicts]
    return {
        **_measure(each),
        "published": each.published,
        "shards": len(each.store.written_shards()),
        "pairs": len(verdicts) if saved else None,
        "refused": [
            {"optical": v.optical, "sar": v.sar, "reason": v.reason}
            for v in verdicts
            if not v.accepted
        ],
        "pixels": quality_shares(each.store) if each.published else None,
    }


def _print_status(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    from dask.utils import format_bytes
    from rich.table import Table

    table = Table("region", "day", "", "shards", "size", "registered", "abstained", "no SAR",
                  "no optical", "pairs", "refused", box=None, header_style="dim",
                  padding=(0, 2))  # fmt: skip
    for row in rows:
        pixels = row["pixels"] or {}
        shares = [
            f"{sum(pixels[name] for name in pixels if name.startswith(kind)):.1%}"
            if pixels
            else "–"
            for kind in ("registered", "abstained", "no_sar", "no_optical")
        ]
        table.add_row(
            row["region"], row["slot"],
            _mark(row),
            str(row["shards"]), format_bytes(row["bytes"]), *shares,
            "–" if row["pairs"] is None else str(row["pairs"]), str(len(row["refused"])),
        )  # fmt: skip
    console.print(table)
    console.print(
        f"\n{format_bytes(sum(row['bytes'] for row in rows))} in {_count(len(rows), 'generation')}"
    )
    for row in rows:
        for pair in row["refused"] if row["published"] else ():
            console.print(
                f"  {row['slot']}: {pair['optical']} × {pair['sar']} refused: {pair['reason']}",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip


def _print_remembered(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """One line per memory: its versions, and what they take."""
    from dask.utils import format_bytes

    for region, name in dict.fromkeys((row["region"], row["memory"]) for row in rows):
        mine = [row for row in rows if (row["region"], row["memory"]) == (region, name)]
        used = [row["version"] for row in mine if row["current"]]
        console.print(
            f"{region} remembers {name}: {_count(len(mine), 'version')}, "
            f"{format_bytes(sum(row['bytes'] for row in mine))}, "
            f"in use {used[0] if used else 'none'}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _print_costs(
    console: Console, costs: Sequence[RegionCost], prices: Prices, *, by_default: bool
) -> None:
    from dask.utils import format_bytes

    for cost in costs:
        console.print(
            f"{cost.region} costs {cost.month:.2f} {prices.currency} a month: "
            f"{format_bytes(cost.bytes)} in {cost.objects} objects {cost.storage:.2f}, requests of "
            f"{cost.days_per_month:.1f} days {cost.requests:.2f}; "
            f"each month adds {cost.growth:.2f} to that",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if len(costs) > 1:
        total = sum(cost.month for cost in costs)
        console.print(f"All of it: {total:.2f} {prices.currency} a month", highlight=False)
    told = "default prices, as infra/SCALE.md assumes them" if by_default else "prices"
    console.print(f"({told}: {prices})", highlight=False, soft_wrap=True)


def _print_verified(console: Console, results: Sequence[dict[str, Any]]) -> None:
    for result in results:
        remembered = "memory" in result
        keys = ("region", "memory", "version") if remembered else ("region", "slot", "generation")
        where = " ".join(result[key] for key in keys)
        if not result["faults"]:
            told = (
                f"{_count(result['objects'], 'object')} readable"
                if remembered
                else f"{_count(result['shards'], 'shard')} as written"
            )
            console.print(f"[green]✓[/] {where}: {told}")
        for fault in result["faults"]:
            place = f" shard {fault['shard']}" if fault["shard"] else ""
            variable = f" of {fault['variable']}" if fault["variable"] else ""
            console.print(
                f"✗ {where}:{place}{variable} {fault['what']}",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
    if not results:
        console.print("Nothing is published here, so there is nothing to verify.")


def _print_pruned(
    args: argparse.Namespace,
    gone: Sequence[Generation | Version],
    young: Sequence[Generation | Version],
    removed: Sequence[Generation | Version],
) -> None:
    from dask.utils import format_bytes

    console = output(args)
    now = datetime.now(UTC)
    for each in gone:
        fate = "kept, it has come into use" if args.yes else "would be removed"
        _print_line(console, each, now, "removed" if each in removed else fate)
    for each in young:
        _print_line(console, each, now, "kept, a run may be writing it")
    counted, word = (removed, "removed") if args.yes else (gone, "left over")
    size = format_bytes(sum(each.bytes for each in counted))
    console.print(f"{_count_kinds(counted)}, {size} {word}.")
    if gone and not args.yes:
        console.print("Dry run: nothing was removed; --yes removes them.")
    if args.older_than_hours < SETTLED_HOURS and gone:
        console.print(
            f"[yellow]Generations younger than {SETTLED_HOURS:g} hours are among them: make sure "
            "that no run is writing them.[/]"
        )


def _count_kinds(found: Sequence[Generation | Version]) -> str:
    versions = sum("memory" in _identify(each) for each in found)
    generations = _count(len(found) - versions, "generation")
    return (
        f"{generations} and {_count(versions, 'version of memories')}" if versions else generations
    )


def _print_line(console: Console, each: Generation | Version, now: datetime, fate: str) -> None:
    from dask.utils import format_bytes

    size = format_bytes(each.bytes)
    hours = (now - each.touched).total_seconds() / 3600
    console.print(
        f"  {' '.join(_identify(each).values())}: {size}, "
        f"untouched for {hours:.1f} h: {fate}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _mark(row: dict[str, Any]) -> Text:
    from rich.text import Text

    if row["published"]:
        return Text("published", "green")
    return Text(f"only {row['generation'][:8]}", "yellow")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
