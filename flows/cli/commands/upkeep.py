"""`tar-pipeline verify`, `prune` and `retire`: looking after a store from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.cli.commands.derived import announce_region, exit_code
from flows.cli.terminal import DONE, FAILED, add_json, add_store, count, output, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from catalog.memory.upkeep import Version
    from catalog.stac_api.reconcile import ApiChange
    from catalog.store.upkeep import Generation

SETTLED_HOURS = 24.0

VERIFY_EPILOG = """\
Every shard of every published day, those of its overviews too, is read and compared with the
checksums that were kept when it was written; of what a region remembers, the version in use is
read. Exit code 1 when something is missing or differs. To mend a day, run the request that made it
once more, with --remake and with that day as --start and --end: what does not read as it was
written is written again in its place, and no other byte is touched. To mend a memory, delete its
folder (STORE/REGION/memory/NAME): it learns anew.
"""
PRUNE_EPILOG = """\
A generation is what one request made of one day. When another request replaces it, or a run is
given up, it stays until it is pruned. Readers follow items and never see it; a program that opened
it before it was replaced does, and fails once it is gone. So with the versions of what a region
remembers that later nights have replaced; the one in use is always kept.

A region that was announced to a STAC API is announced again first, and so after `retire`; exit code
4 when the API does not take everything.

A run that is writing has no item yet either. Therefore nothing is removed that changed within
--older-than-hours; below the default, make sure yourself that no run is writing.

examples:
  tar-pipeline prune s3://mosaics             what would be removed
  tar-pipeline prune s3://mosaics --yes       remove it
"""
RETIRE_EPILOG = """\
Unlike `prune`, this deletes days that readers see: of each, first the item, by which it disappears,
then pixels, overviews, receipts, estimate and page. What a region remembers stays. The same command
again finishes one that was stopped. A program that has opened such a day fails when it reads on.

Days are counted back from yesterday, as a nightly run does; `keep_days` in the regions file lets
nightly runs do the same. They do not make such days again; `run`, asked for them, does. No run
should be publishing in the region meanwhile, or the collection may miss its day until the next one.

examples:
  tar-pipeline retire s3://mosaics/bolzano --keep-days 400          what would be deleted
  tar-pipeline retire s3://mosaics/bolzano --keep-days 400 --yes    delete it
"""


def verify(args: argparse.Namespace) -> int:
    """Whether every published shard still reads as it was written."""
    from catalog.memory.upkeep import verify as verify_memory
    from catalog.store.upkeep import verify as verified

    results = []
    for each in list_generations(args.store):
        if each.published:
            found = verified(each.store)
            results.append({**_identify(each), "shards": found.shards,
                            "faults": [vars(fault) for fault in found.faults]})  # fmt: skip
    for version in list_versions(args.store):
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
    changes: list[ApiChange | None] = []
    if args.yes:  # a cube or an API that is behind may still show what goes
        for store, region in regions(args.store):
            tidy_cube(store, region, age)
            changes.append(announce_region(output(args), store, region))
    generations, versions = list_generations(args.store), list_versions(args.store)
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
    write_json(args, {key: [measure(each) for each in found] for key, found in groups.items()})
    return exit_code(changes)


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


def list_generations(address: str) -> list[Generation]:
    """Those of every region at STORE, or of the one region STORE/REGION."""
    from catalog.store.upkeep import generations, regions

    return [each for store, region in regions(address) for each in generations(store, region)]


def list_versions(address: str) -> list[Version]:
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


def measure(each: Generation | Version) -> dict[str, Any]:
    touched = each.touched.isoformat(timespec="seconds")
    return {**_identify(each), "objects": each.objects, "bytes": each.bytes, "touched": touched}


def _print_verified(console: Console, results: Sequence[dict[str, Any]]) -> None:
    for result in results:
        remembered = "memory" in result
        keys = ("region", "memory", "version") if remembered else ("region", "slot", "generation")
        where = " ".join(result[key] for key in keys)
        if not result["faults"]:
            told = (
                f"{count(result['objects'], 'object')} readable"
                if remembered
                else f"{count(result['shards'], 'shard')} as written"
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
    generations = count(len(found) - versions, "generation")
    return (
        f"{generations} and {count(versions, 'version of memories')}" if versions else generations
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


def describe_retire(parser: argparse.ArgumentParser) -> None:
    """The `retire` command's options."""
    parser.description = (
        "List the published days of a store that are older than the days to keep; with --yes,\n"
        "delete them with all that belongs to them."
    )
    parser.epilog = RETIRE_EPILOG
    add_store(parser)
    parser.add_argument("--keep-days", type=int, required=True, metavar="DAYS",
                        help="so many stay, yesterday (UTC) being the last")  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="delete them; without it, a dry run")
    add_json(parser)
    parser.set_defaults(command=retire)


def retire(args: argparse.Namespace) -> int:
    """Delete days that are no longer kept."""
    from catalog.retention import old_days, oldest_kept
    from catalog.retention import retire as retire_days
    from catalog.store.upkeep import regions

    oldest = oldest_kept(args.keep_days, datetime.now(UTC).date() - timedelta(days=1))
    rows: list[dict[str, Any]] = []
    changes: list[ApiChange | None] = []
    for store, region in regions(args.store):
        days = old_days(store, region, oldest)
        rows += [
            {"region": region, "slot": day.slot, "published": day.published,
             "objects": day.objects, "bytes": day.bytes}
            for day in days
        ]  # fmt: skip
        if args.yes:
            retire_days(store, region, days)
            changes.append(announce_region(output(args), store, region))
    _print_days(args, oldest, rows)
    write_json(args, {"oldest_kept": oldest.isoformat(), "deleted": args.yes, "days": rows})
    return exit_code(changes)


def _print_days(args: argparse.Namespace, oldest: date, rows: list[dict[str, Any]]) -> None:
    from dask.utils import format_bytes

    console = output(args)
    fate = "deleted" if args.yes else "would be deleted"
    for row in rows:
        rest = "" if row["published"] else ", the rest of a day that nobody sees"
        console.print(
            f"  {row['region']} {row['slot']}: {format_bytes(row['bytes'])}, "
            f"{row['objects']} objects{rest}: {fate}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    size = format_bytes(sum(row["bytes"] for row in rows))
    console.print(f"Days before {oldest}: {len(rows)}, {size}, {fate}.", highlight=False)
    if rows and not args.yes:
        console.print("Dry run: nothing was deleted; --yes deletes them for good.")
