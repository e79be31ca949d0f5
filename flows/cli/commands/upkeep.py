"""`tar-pipeline status`, `verify` and `prune`: looking after a store from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.cli.terminal import DONE, FAILED, add_json, add_store, output, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from catalog.store.upkeep import Generation

SETTLED_HOURS = 24.0

STATUS_EPILOG = """\
Shares are of the day's pixels. Refused pairs and unfinished days are worth a look: a day without
PUBLISHED is one that a run is writing, or that a stopped run left; the same `run` finishes it.
"""
VERIFY_EPILOG = """\
Every shard of every published day, those of its overviews too, is read and compared with the
checksums that were kept when it was written. Exit code 1 when one is missing or differs. To mend
a day, delete its item (STORE/REGION/items/DAY.json) and its generation
(STORE/REGION/slots/DAY/GENERATION.*), and run the same request again.
"""
PRUNE_EPILOG = """\
A generation is what one request made of one day. When another request replaces it, or a run is
given up, it stays until it is pruned. Readers follow items and never see it; a program that opened
it before it was replaced does, and fails once it is gone.

A run that is writing has no item yet either. Therefore nothing is removed that changed within
--older-than-hours; below the default, make sure yourself that no run is writing.

examples:
  tar-pipeline prune s3://mosaics             what would be removed
  tar-pipeline prune s3://mosaics --yes       remove it
"""


def status(args: argparse.Namespace) -> int:
    """What lies in a store."""
    rows = [_describe(each) for each in _generations(args.store)]
    _print_status(output(args), rows)
    write_json(args, rows)
    return DONE


def verify(args: argparse.Namespace) -> int:
    """Whether every published shard still reads as it was written."""
    from catalog.store.upkeep import verify as verified

    results = []
    for each in _generations(args.store):
        if each.published:
            found = verified(each.store)
            results.append({**_identify(each), "shards": found.shards,
                            "faults": [vars(fault) for fault in found.faults]})  # fmt: skip
    sound = not any(result["faults"] for result in results)
    _print_verified(output(args), results)
    write_json(args, results)
    return DONE if sound else FAILED


def prune(args: argparse.Namespace) -> int:
    """Remove generations that no item points to."""
    from catalog.store.upkeep import left_over, remove

    age = timedelta(hours=args.older_than_hours)
    found = _generations(args.store)
    gone = left_over(found, age)
    young = [each for each in found if not each.published and each not in gone]
    removed = [each for each in gone if args.yes and remove(each, age)]
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
    add_json(parser)
    parser.set_defaults(command=status)


def describe_verify(parser: argparse.ArgumentParser) -> None:
    """The `verify` command's options."""
    parser.description = "Compare every shard of every published day with its checksums."
    parser.epilog = VERIFY_EPILOG
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=verify)


def describe_prune(parser: argparse.ArgumentParser) -> None:
    """The `prune` command's options."""
    parser.description = "List the generations that no item points to; with --yes, remove them."
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


def _identify(each: Generation) -> dict[str, Any]:
    store = each.store
    return {"region": store.region, "slot": store.slot, "generation": store.generation}


def _measure(each: Generation) -> dict[str, Any]:
    touched = each.touched.isoformat(timespec="seconds")
    return {**_identify(each), "objects": each.objects, "bytes": each.bytes, "touched": touched}


def _describe(each: Generation) -> dict[str, Any]:
    """A generation as `status` tells it; shares and pairs are None where nothing says so."""
    from catalog.store.upkeep import quality_shares
    from flows.stages.fit import estimates_from_bytes

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


def _print_verified(console: Console, results: Sequence[dict[str, Any]]) -> None:
    for result in results:
        where = f"{result['region']} {result['slot']} {result['generation']}"
        if not result["faults"]:
            console.print(f"[green]✓[/] {where}: {_count(result['shards'], 'shard')} as written")
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
    gone: Sequence[Generation],
    young: Sequence[Generation],
    removed: Sequence[Generation],
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
    console.print(f"{_count(len(counted), 'generation')}, {size} {word}.")
    if gone and not args.yes:
        console.print("Dry run: nothing was removed; --yes removes them.")
    if args.older_than_hours < SETTLED_HOURS and gone:
        console.print(
            f"[yellow]Generations younger than {SETTLED_HOURS:g} hours are among them: make sure "
            "that no run is writing them.[/]"
        )


def _print_line(console: Console, each: Generation, now: datetime, fate: str) -> None:
    from dask.utils import format_bytes

    size = format_bytes(each.bytes)
    hours = (now - each.touched).total_seconds() / 3600
    console.print(
        f"  {each.store.region} {each.store.slot} {each.store.generation}: {size}, "
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
