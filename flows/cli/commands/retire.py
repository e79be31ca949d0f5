"""`tar-pipeline retire`: published days that are old enough go, by hand."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flows.cli.terminal import DONE, add_json, add_store, output, write_json

EPILOG = """\
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


def describe_retire(parser: argparse.ArgumentParser) -> None:
    """The `retire` command's options."""
    parser.description = (
        "List the published days of a store that are older than the days to keep; with --yes,\n"
        "delete them with all that belongs to them."
    )
    parser.epilog = EPILOG
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
    for store, region in regions(args.store):
        days = old_days(store, region, oldest)
        rows += [
            {"region": region, "slot": day.slot, "published": day.published,
             "objects": day.objects, "bytes": day.bytes}
            for day in days
        ]  # fmt: skip
        if args.yes:
            retire_days(store, region, days)
    _print_days(args, oldest, rows)
    write_json(args, {"oldest_kept": oldest.isoformat(), "deleted": args.yes, "days": rows})
    return DONE


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
