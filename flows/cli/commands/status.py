"""`tar-pipeline status`: what lies in a store, what it costs, and whether its regions are fresh."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.commands.upkeep import list_generations, list_versions, measure
from flows.cli.terminal import DONE, FAILED, add_json, add_store, count, output, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from catalog.stac_api.reconcile import Announced
    from catalog.store.upkeep import Generation
    from flows.report.figures.freshness import Freshness
    from flows.report.prices import Prices, RegionCost

STATUS_EPILOG = """\
Shares are of the day's pixels. Refused pairs and unfinished days are worth a look: a day without
PUBLISHED is one that a run is writing, or that a stopped run left; the same `run` finishes it.
Below: what the region remembers of each viewing geometry, version by version; and what each region
costs a month: all that lies there, and the requests of the runs that fill it, estimated from the
objects of a day. Prices are those of --prices FILE; what it leaves out, and its absence, are
defaults. Readers' requests, traffic and computing are not among it.

Last, how each region's STAC API was left by what announced its days to it.

With --max-age-days, exit code 1 when the newest day of a region is older than that, counted in days
of UTC, or when it has none; for cron, or a check of whatever watches the machines.

examples:
  tar-pipeline status s3://mosaics
  tar-pipeline status s3://mosaics --max-age-days 5 --json stale.json
"""


def status(args: argparse.Namespace) -> int:
    """What lies in a store, and whether its regions are fresh."""
    from catalog import objects
    from catalog.stac_api.reconcile import last_announced
    from catalog.store.upkeep import regions
    from flows.report.figures.freshness import look_at_newest_day
    from flows.report.prices import load_prices, price_region

    prices, found = load_prices(args.prices), list_generations(args.store)
    rows = [_describe(each) for each in found]
    there, today = regions(args.store), datetime.now(UTC).date()
    costs = [
        price_region(store, region, [e for e in found if e.store.region == region], prices)
        for store, region in there
    ]
    ages = [look_at_newest_day(objects.join(*each), each[1], today) for each in there]
    bound = args.max_age_days
    stale = [each.region for each in ages if bound is not None and each.is_stale(bound)]
    remembered = [{**measure(each), "current": each.current} for each in list_versions(args.store)]
    _print_status(output(args), rows)
    _print_remembered(output(args), remembered)
    _print_costs(output(args), costs, prices, by_default=args.prices is None)
    _print_ages(output(args), ages, bound)
    apis = [(each[1], last_announced(objects.join(*each))) for each in there]
    _print_apis(output(args), apis)
    told = [
        {**asdict(cost), "month": cost.month, **prices.model_dump(),
         "newest_day": age.newest_day and age.newest_day.isoformat(), "age_days": age.age_days,
         "stale": None if bound is None else age.region in stale,
         "stac_api": api and asdict(api)}
        for cost, age, (_, api) in zip(costs, ages, apis, strict=True)
    ]  # fmt: skip
    write_json(args, [*rows, *remembered, *told])
    return FAILED if stale else DONE


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
    parser.add_argument("--max-age-days", type=_days, metavar="N",
                        help="exit with 1 when the newest day of a region is older than so many "
                        "days (default: any age will do)")  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=status)


def _days(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days, 0 or more")
    return int(text)


def _describe(each: Generation) -> dict[str, Any]:
    """A generation as `status` tells it; shares and pairs are None where nothing says so."""
    from catalog.store.upkeep import quality_shares
    from flows.stages.estimate import load_estimates

    saved = load_estimates(each.store)
    verdicts = [v for estimate in saved or () for v in estimate.verdicts]
    return {
        **measure(each),
        "published": each.published,
        "shards": len(each.store.written_shards()),
        "pairs": len(verdicts) if saved is not None else None,
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
        f"\n{format_bytes(sum(row['bytes'] for row in rows))} in {count(len(rows), 'generation')}"
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
            f"{region} remembers {name}: {count(len(mine), 'version')}, "
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


def _print_ages(console: Console, ages: Sequence[Freshness], max_age_days: int | None) -> None:
    """One line per region; those that are stale say so."""
    for each in ages:
        told = (
            "nothing is published"
            if each.age_days is None
            else f"newest day {each.newest_day}, {count(each.age_days, 'day')} old"
        )
        stale = max_age_days is not None and each.is_stale(max_age_days)
        console.print(
            f"{each.region}: {told}"
            + (f": STALE, more than {count(max_age_days or 0, 'day')}" if stale else ""),
            style="red" if stale else None, highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def _print_apis(console: Console, apis: Sequence[tuple[str, Announced | None]]) -> None:
    """How the STAC API of each region was left that has one."""
    for region, api in apis:
        if api is not None:
            remedy = "; the next run sends it, or `announce` now" if api.failures else ""
            console.print(
                f"{region}: {api.told}{remedy}",
                style="yellow" if api.failures else None,
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip


def _mark(row: dict[str, Any]) -> Text:
    from rich.text import Text

    if row["published"]:
        return Text("published", "green")
    return Text(f"only {row['generation'][:8]}", "yellow")
