"""What a region's cube costs to open, to read and to keep, beside the groups of its days.

    .venv/bin/python -m tests.benchmarks.cube

Days of 2 x 2 shards, alike but for their dates, on a disk and in OpenStack Swift on loopback, whose
requests a proxy counts. Keeping: what the update for one more day takes as days become more, and
what the item and collection of that day take beside it. Reading: processes that know nothing of
this package open 100 days, by the lines of README or group by group, and read one pixel and 512 x
512 of them of `vh` through all days. Seconds are after imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from catalog import objects
from catalog.cube.repository import cube_url, opening_lines
from catalog.cube.update import SLACK, update_cube
from catalog.grid import lattice_for
from catalog.store.days import published_groups
from catalog.store.publish import publish
from catalog.store.slot import SlotStore
from tar_engine.training.evaluate import align_columns
from tests.support.cubes import copied_day
from tests.support.faulty_proxy import Faults, faulty_proxy
from tests.support.object_store import aws_environment, new_bucket, serve_swift
from tests.support.slots import created, pair_of_day, write_all

LATTICE = lattice_for((-118.0, 33.75, -117.93, 33.80), shard_px=512)
FIRST = date(2023, 1, 1)
KEPT_AT, KEPT_IN_SWIFT = [10, 100, 400], [10, 100]
PUT = ("zarr.json", "vh", "time", "y", "x", "spatial_ref", "sar_time", "optical_time")
READ = 100
LOOK = {"one pixel": "y=100, x=100", "512 x 512 px": "y=slice(0, 512), x=slice(0, 512)"}
CUBE = """
{lines}
told("open")
cube.vh.isel({look}).compute()
told("read")
"""
GROUPS = """
days = [xarray.open_zarr(url) for url in {urls}]
told("open")
[day.vh.isel({look}).compute() for day in days]
told("read")
"""
READER = """
import json, time
import icechunk, s3fs, xarray, dask.array
start, seconds = time.perf_counter(), {{}}
def told(what):
    seconds[what] = time.perf_counter() - start
    print(json.dumps(seconds), flush=True)
    input()
{program}
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", metavar="N", type=int, nargs="+", default=KEPT_AT,
                        help="on a disk, after how many days one more is measured "
                             "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--disk", action="store_true", help="measure keeping on a disk alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        disk = f"{folder}/disk"
        like = created(disk, LATTICE, slot="2000-01-01")
        write_all(like, LATTICE)
        days = [copied_day(like, f"{FIRST + timedelta(n)}", "a") for n in range(max(args.days) + 1)]
        rows = [["days", "s, update", "CPU s", "objects", "kB", "s, item and collection"]]
        rows += keep_on_disk(days, args.days)
        print(align_columns(rows), end="\n\n", flush=True)
        if args.disk:
            return
        with serve_swift(Path(folder) / "swift") as swift:
            faults = Faults()
            with (
                faulty_proxy(swift.address, faults) as address,
                aws_environment(swift.environment(address)),
            ):
                store = new_bucket()
                rows = [["days", "s, update in Swift", "requests"]]
                rows += keep_in_swift(disk, store, days, faults)
                print(align_columns(rows), end="\n\n", flush=True)
                rows = [["where", "how", "s, open", "requests", "what", "s, read", "requests"]]
                for url in (f"{disk}/la", f"{store}/la"):
                    rows += read(url, faults)
                print(align_columns(rows))


def keep_on_disk(days: Sequence[SlotStore], kept_at: Sequence[int]) -> list[list[str]]:
    """Update after update: what the one after so many days took."""
    rows = []
    for number, day in enumerate(days):
        published = seconds_of(lambda day=day: publish(day, LATTICE, [pair_of_day()], {}))
        night = datetime.fromisoformat(day.slot).timestamp()
        os.utime(day.item_url, (night, night))  # days do not come by the second
        if number not in kept_at:
            if number + 1 in kept_at:
                update_cube(day.store_url, "la")
            continue
        before = {entry.name for entry in objects.entries(cube_url(day.region_url))}
        cpu = time.process_time()
        wall = seconds_of(lambda day=day: update_cube(day.store_url, "la"))
        cpu = time.process_time() - cpu
        new = [
            each for each in objects.entries(cube_url(day.region_url)) if each.name not in before
        ]
        size = sum(each.bytes for each in new) / 1000
        rows.append([str(number), f"{wall:.2f}", f"{cpu:.2f}", str(len(new)), f"{size:.0f}",
                     f"{published:.2f}"])  # fmt: skip
    return rows


def keep_in_swift(
    disk: str, store: str, days: Sequence[SlotStore], faults: Faults
) -> list[list[str]]:
    """The same in an object store; of pixels, only `vh` is there. Then all days are listed anew."""
    fs, root = objects.filesystem(f"{store}/la")

    def put(some: Sequence[SlotStore]) -> None:
        names = [f"items/{day.slot}.json" for day in some]
        for day in some:
            parts = [Path(day.url) / part for part in PUT]
            files = [path for part in parts for path in (part, *part.rglob("*")) if path.is_file()]
            names += [str(path.relative_to(f"{disk}/la")) for path in files]
        fs.put([f"{disk}/la/{name}" for name in names], [f"{root}/{name}" for name in names])

    rows, done = [], 0
    for number in KEPT_IN_SWIFT:
        for some in (days[done : number - 1], days[number - 1 : number]):
            put(some)
            update_cube(store, "la")
            time.sleep(SLACK.total_seconds() + 1)  # days do not come by the second
        put(days[number : number + 1])
        done = number + 1
        requests = faults.counts["requests"]
        wall = seconds_of(lambda: update_cube(store, "la"))
        rows.append([str(number), f"{wall:.2f}", str(faults.counts["requests"] - requests)])
    objects.remove(f"{store}/la/items/{days[0].slot}.json")
    requests = faults.counts["requests"]
    wall = seconds_of(lambda: update_cube(store, "la"))
    requests = faults.counts["requests"] - requests
    return [*rows, [f"{done - 1}, anew", f"{wall:.2f}", str(requests)]]


def read(url: str, faults: Faults) -> list[list[str]]:
    """The cube and the single groups, each looked at in two ways."""
    urls = published_groups(url, None)[:READ]
    where = "disk" if objects.is_local(url) else "Swift"
    rows = []
    for what, look in LOOK.items():
        for how, program in (
            (
                "cube",
                CUBE.format(
                    lines="\n".join(opening_lines(url)), look=f"time=slice(0, {READ}), {look}"
                ),
            ),
            ("groups", GROUPS.format(urls=urls, look=look)),
        ):
            opened, open_requests, whole, read_requests = reading(program, faults)
            rows.append([where, how, f"{opened:.2f}", str(open_requests), what,
                         f"{whole - opened:.2f}", str(read_requests)])  # fmt: skip
    return rows


def reading(program: str, faults: Faults) -> tuple[float, int, float, int]:
    """Seconds and requests until it is open, and seconds and further requests until it is read."""
    command = [sys.executable, "-c", READER.format(program=program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        found: list[tuple[float, int]] = []
        requests = faults.counts["requests"]
        for line in run.stdout:
            if not line.startswith("{"):
                continue  # Icechunk warns of disks
            seconds = list(json.loads(line).values())[-1]
            found.append((seconds, faults.counts["requests"] - requests))
            requests = faults.counts["requests"]
            run.stdin.write("\n")
            run.stdin.flush()
    (opened, first), (whole, second) = found
    return opened, first, whole, second


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
