"""What a tile costs beside its matching, and what the driver remembers, from 100 to 20,000 tiles.

    .venv/bin/python -m tests.benchmarks.scale            # all rows
    .venv/bin/python -m tests.benchmarks.scale --row 10000 2

The region is generated, and the engine is a stand-in that sleeps `MATCH_S` and returns as many
matches as a full tile has; reading returns images of the real size without opening a file. All
else is the program's own: tiles, Dask, workers as processes, collecting. Every row has its own
process, so that its peak of memory is its own. `--fields` fits one smooth field to the matches of
so many tiles, by the engine itself; `--shared TILES WORKERS` does so on a worker that shares its
parts with others.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from unittest.mock import patch

import numpy as np
import psutil
from distributed import Future

import flows.register_region  # noqa: F401  (a run's driver holds Prefect and the engine too)
from catalog.archives.items import Scene
from catalog.archives.pairs import Pair
from catalog.grid import Lattice, lattice_for
from flows.cluster.peers import among_peers
from flows.cluster.stream import run_one
from flows.cluster.workers import cluster
from flows.plan.groups import Group
from flows.plan.plan import Plan
from flows.plan.request import RegionRequest
from flows.progress import Progress
from flows.stages import match as estimate
from flows.stages.fit import fit_group
from flows.stages.group_matches import Collected, EngineSpan, TileMatches
from flows.stages.match import HALO_PX, TILE_PX, Tile, TileImages, match_group
from tar_engine.fields.fit import Fit, fit
from tar_engine.fields.matches import Matches
from tar_engine.fields.parts import SolveParts, one_by_one
from tests.support.scenes import scene

MATCH_S = 0.02  # what the stand-in sleeps
MATCHES = (TILE_PX // 16) ** 2  # of a full tile: one per cell of 16 px
ROWS = [(tiles, 2) for tiles in (100, 1000, 10_000, 20_000)]
ROWS += [(2000, workers) for workers in (1, 2, 3, 4)]
FIELDS = (25, 100, 225, 484)
GRANULE_KM, FRAME_KM = 110.0, 200.0  # sides of Sentinel-2 granules and Sentinel-1 frames
WEST, SOUTH = 9.0, 45.0
KM_PER_DEGREE = 111.0


def main() -> None:
    """Print the tables, or one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", nargs=2, type=int, metavar=("TILES", "WORKERS"))
    parser.add_argument("--field", type=int, metavar="TILES")
    parser.add_argument("--fields", action="store_true")
    parser.add_argument("--shared", nargs=2, type=int, metavar=("TILES", "WORKERS"))
    args = parser.parse_args()
    if args.row:
        print(row(*args.row), flush=True)
    elif args.field:
        print(field_row(args.field), flush=True)
    elif args.shared:
        print(shared_row(*args.shared), flush=True)
    elif args.fields:
        print(f"one smooth field by the engine, one thread; load {os.getloadavg()[0]:.1f}\n")
        print(
            "| tiles | matches | fit, s | of it CPU, s | memory of the process, MiB |\n"
            "|---|---|---|---|---|",
            flush=True,
        )
        for tiles in FIELDS:
            again("--field", str(tiles))
    else:
        print(
            f"engine: A STAND-IN that sleeps {1000 * MATCH_S:.0f} ms and returns {MATCHES} "
            f"matches; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
        )
        print(
            "| tiles | workers | plan tiles, s | all, s | overhead, ms a tile "
            "| of it CPU of driver and scheduler, ms | engines wait "
            "| driver peak, MiB | largest worker, MiB |\n"
            "|---|---|---|---|---|---|---|---|---|",
            flush=True,
        )
        for tiles, workers in ROWS:
            again("--row", str(tiles), str(workers))


def again(*arguments: str) -> None:
    """This file in a process of its own."""
    subprocess.run([sys.executable, "-m", "tests.benchmarks.scale", *arguments], check=True)


def row(tiles: int, workers: int) -> str:
    """One line of the table: a group of so many tiles through `match_group`."""
    plan, group = generated(tiles)
    started = time.monotonic()
    tiles_of_group = estimate.group_tiles(plan.lattice, group)
    count = len(tiles_of_group)
    planned_s = time.monotonic() - started
    with (
        cluster(workers=workers) as pool,
        Progress() as progress,
        progress.bar("matching", "tiles") as bar,
        patch.object(estimate, "read_tiles", read_stand_in),
        patch.object(estimate, "match_tiles", match_stand_in),
    ):
        # Every worker imports torch with its first task; that is no cost of a tile.
        pool.client.run(import_flows)
        started, cpu_started = time.monotonic(), time.process_time()
        matched = match_group(pool, plan, group, tiles_of_group, bar, Collected())
        took_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_started
        largest = max(pool.client.run(resident_mib).values())
    assert len(matched.counts) == count, next(iter(matched.failed.values()))
    overhead_ms = 1000 * ((took_s - planned_s) / count - MATCH_S / workers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {count} | {workers} | {planned_s:.1f} | {took_s:.1f} | {overhead_ms:.1f} "
        f"| {1000 * (cpu_s - planned_s) / count:.1f} | {matched.engine.wait_share:.0%} "
        f"| {peak:.0f} | {largest:.0f} |"
    )


def field_row(tiles: int) -> str:
    """One line of the second table: the field of `terrain_matches`."""
    plan, group = generated(tiles)
    matches = terrain_matches(tiles)
    started, cpu_started = time.monotonic(), time.process_time()
    fit_group(group, matches, plan.lattice)
    took_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| {tiles} | {len(matches)} | {took_s:.1f} | {cpu_s:.1f} | {peak:.0f} |"


def shared_row(tiles: int, workers: int) -> str:
    """What one worker alone, and then one that shares with the others, takes for such a field."""
    matches, found, told = terrain_matches(tiles), [], [f"{tiles} tiles"]
    with cluster(workers=workers) as pool:
        pool.client.run(import_flows)
        for name, solve in (("alone", one_by_one), (f"shared by {workers}", among_peers)):

            def submit(solve: SolveParts = solve) -> Future[Fit]:
                there = pool.client.scatter(matches, hash=False)
                return pool.run(fit, there, None, solve)

            started, cpu_started = time.monotonic(), sum(pool.client.run(cpu_s).values())
            found.append(run_one(pool, submit, name))
            took_s, cpu = time.monotonic() - started, sum(pool.client.run(cpu_s).values())
            largest = max(pool.client.run(peak_mib).values())
            told.append(
                f"{name} {took_s:.1f} s, {cpu - cpu_started:.1f} s of CPU, "
                f"largest worker {largest:.0f} MiB"
            )
    alone, shared = (np.asarray(each.field.control) for each in found)
    return "; ".join([*told, f"the same to the bit: {np.array_equal(alone, shared)}"])


def terrain_matches(tiles: int) -> Matches:
    """Of a square of so many tiles: terrain-like displacements, half a pixel of noise."""
    random = np.random.default_rng(0)
    side = round(math.sqrt(tiles)) * TILE_PX
    cells = np.arange(8, side, 16, dtype=np.float64)
    xy = np.stack(np.meshgrid(cells, cells), -1).reshape(-1, 2)
    terrain = 3 * np.sin(xy[:, 0] / 90) * np.cos(xy[:, 1] / 130)
    sar_xy = xy + np.stack([terrain, np.full(len(xy), 0.8)], -1) + random.normal(0, 0.5, xy.shape)
    return Matches(xy, sar_xy, np.full(len(xy), 0.8), np.full(len(xy), 0.5))


def generated(tiles: int) -> tuple[Plan, Group]:
    """A square region of about so many tiles, all of it seen by one pass of either satellite."""
    side = round(math.sqrt(tiles)) * TILE_PX
    side_km = side / 100
    lattice = lattice_of(side)
    optical = scenes_over(side_km, GRANULE_KM, "S2")
    sar = scenes_over(side_km, FRAME_KM, "S1")
    pairs = tuple(
        Pair(first, second, 1.0, timedelta(0))
        for first in optical
        for second in sar
        if (first.footprint & second.footprint).area > 0
    )
    request = RegionRequest.model_construct(weights=None, max_offset_px=32.0)
    plan = Plan(request, lattice, "0" * 64, optical, sar, (), ())
    return plan, Group(pairs, optical, sar)


def lattice_of(side: int) -> Lattice:
    """Of exactly so many pixels of 10 m a side."""
    degrees = side / 100 / KM_PER_DEGREE
    whole = lattice_for((WEST, SOUTH, WEST + 1.6 * degrees + 0.1, SOUTH + degrees + 0.1))
    x0, y0 = (whole.shape[1] - side) // 2, (whole.shape[0] - side) // 2
    return Lattice(whole.geobox[max(0, y0) : max(0, y0) + side, max(0, x0) : max(0, x0) + side])


def scenes_over(side_km: float, step_km: float, name: str) -> tuple[Scene, ...]:
    """Scenes side by side over the region and some more."""
    count = math.ceil(side_km / step_km) + 1
    wide, high = 1.7 * step_km / KM_PER_DEGREE, step_km / KM_PER_DEGREE
    west, south = WEST - 0.5, SOUTH - 0.5
    found = []
    for row in range(count):
        for column in range(count):
            left, low = west + column * wide, south + row * high
            box = (left, low, left + wide, low + high)
            found.append(scene(f"{name}-{row}-{column}", box))
    return tuple(found)


def read_stand_in(lattice: Lattice, tiles: Sequence[Tile]) -> list[TileImages]:
    """Images of the real size; nothing is read."""
    del lattice
    return [
        TileImages(np.ones((3, *shape), np.float32), np.ones((1, *shape), np.float32), {})
        for shape in (tile.window.shape for tile in tiles)
    ]


def match_stand_in(
    tiles: Sequence[Tile], images: Sequence[TileImages], **options: object
) -> list[TileMatches]:
    """THE ENGINE'S STAND-IN: a fixed time a tile, and as many matches as a full tile has."""
    del options
    return [match_one(tile, both) for tile, both in zip(tiles, images, strict=True)]


def match_one(tile: Tile, images: TileImages) -> TileMatches:
    """Of one tile."""
    started = time.monotonic()
    time.sleep(MATCH_S)
    xy = np.random.default_rng(tile.core.x0).uniform(HALO_PX, HALO_PX + TILE_PX, (MATCHES, 2))
    matches = Matches(xy, xy, np.ones(MATCHES), np.ones(MATCHES))
    span = EngineSpan(str(os.getpid()), started, time.monotonic())
    return TileMatches.of(matches, images.unreadable, span)


def import_flows() -> None:
    """Done by a worker's first task otherwise."""
    import flows.stages.match  # noqa: F401


def cpu_s() -> float:
    """Of the worker that is asked, so far."""
    return time.process_time()


def peak_mib() -> float:
    """Of the worker that is asked."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """Of the worker that is asked."""
    return float(psutil.Process().memory_info().rss / 2**20)


if __name__ == "__main__":
    main()
