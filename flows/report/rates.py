"""What a tile, a pixel and a day cost: as runs of a store measured it, else as was measured once.

A run leaves what it took in `measured` of its report.json. Time is counted per worker, so a run on
four workers tells what one on two will take.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from catalog import objects
from flows.cluster.workers import DispatchError, count_workers
from flows.outcome import SlotOutcome
from flows.plan.plan import Plan, slot_store
from flows.progress import Stopwatch
from flows.report.schema import Measured
from flows.stages.compose import slot_shards

MEGA = 1e6


@dataclass(frozen=True)
class Rates:
    """Seconds of work and of CPU per tile, million pixels of mosaic and day; bytes per pixel.

    Seconds of work are those of one worker; those of a day are not shared among workers.
    """

    tile_s: float
    tile_cpu_s: float
    megapixel_s: float
    megapixel_cpu_s: float
    day_s: float
    day_cpu_s: float
    pixel_bytes: float
    basis: str


# By tests/benchmarks/granule.py --side 3072, the defaults of all: infra/SCALE.md has the table.
DEFAULT = Rates(
    tile_s=5.9,
    tile_cpu_s=2.7,
    megapixel_s=3.2,
    megapixel_cpu_s=1.5,
    day_s=9.0,
    day_cpu_s=7.0,
    pixel_bytes=9.1,
    basis="default: a granule of 3072 px, 4 optical bands and 2 polarisations, 2 busy cores",
)


def measure(plan: Plan, outcomes: Sequence[SlotOutcome], clock: Stopwatch) -> Measured | None:
    """What this run took; where it made nothing, what an earlier one of the region measured.

    Raises `StoreError`.
    """
    made = [each for each in outcomes if each.shards_written and each.failure is None]
    tiles = sum(outcome.tiles for outcome in outcomes)
    workers = known_workers(plan)
    if not made or not tiles or workers is None:
        return load_measured(plan.mosaic_url)
    stored = composed = size = count = 0
    for outcome in made:
        pixels = sum(
            shard.window.height * shard.window.width
            for shard in slot_shards(plan.lattice, outcome.slot.groups)
        )
        stored += pixels
        composed += round(pixels * outcome.shards_written / outcome.shards)
        for part in slot_store(plan, outcome.slot).parts:
            found = objects.entries(part)
            size, count = size + sum(entry.bytes for entry in found), count + len(found)
    wall, cpu = clock.seconds(), clock.cpu_seconds()
    local = plan.request.scheduler is None
    rest_s, rest_cpu_s = (
        each["total"] - each.get("estimate", 0.0) - each.get("compose", 0.0) for each in (wall, cpu)
    )
    return Measured(
        workers=workers,
        tiles=tiles,
        estimate_seconds=wall.get("estimate", 0.0),
        estimate_cpu_seconds=cpu.get("estimate", 0.0) if local else None,
        pixels=composed,
        compose_seconds=wall.get("compose", 0.0),
        compose_cpu_seconds=cpu.get("compose", 0.0) if local else None,
        days=len(made),
        rest_seconds=round(rest_s, 2),
        rest_cpu_seconds=round(rest_cpu_s, 2) if local else None,
        stored_pixels=stored,
        bytes_written=size,
        objects_written=count,
    )


def find_rates(plan: Plan) -> Rates:
    """The rates of this region's runs, else of another region of the store, else the defaults.

    Raises `StoreError`.
    """
    store, own = plan.request.store, plan.request.region
    if (measured := load_measured(plan.mosaic_url)) is not None:
        return rates_of(measured, "measured by this region's last run")
    for region in objects.names(store):
        if region != own and (measured := load_measured(objects.join(store, region))) is not None:
            return rates_of(measured, f"measured by the last run of region {region}")
    return DEFAULT


def rates_of(measured: Measured, basis: str) -> Rates:
    """The rates that a run measured. Where it knew no CPU seconds, those of its workers."""
    work, days = measured.workers, measured.days
    tile_s = measured.estimate_seconds * work / measured.tiles
    megapixel_s = measured.compose_seconds * work / (measured.pixels / MEGA)
    tile_cpu, compose_cpu = measured.estimate_cpu_seconds, measured.compose_cpu_seconds
    rest_cpu = measured.rest_cpu_seconds
    return Rates(
        tile_s=tile_s,
        tile_cpu_s=tile_s if tile_cpu is None else tile_cpu / measured.tiles,
        megapixel_s=megapixel_s,
        megapixel_cpu_s=megapixel_s
        if compose_cpu is None
        else compose_cpu / (measured.pixels / MEGA),
        day_s=measured.rest_seconds / days,
        day_cpu_s=(measured.rest_seconds if rest_cpu is None else rest_cpu) / days,
        pixel_bytes=measured.bytes_written / measured.stored_pixels,
        basis=basis,
    )


def load_measured(region_url: str) -> Measured | None:
    """What the last report of a region says, None where none does. Raises `StoreError`."""
    saved = objects.get(objects.join(region_url, "report.json"))
    try:
        told = json.loads(saved or b"{}").get("measured")
        return None if told is None else Measured.model_validate(told)
    except (ValueError, AttributeError, ValidationError):  # of another version, or no report
        return None


def known_workers(plan: Plan) -> int | None:
    """How many a run would have now; None where its scheduler does not answer."""
    try:
        return count_workers(plan.request.scheduler)
    except DispatchError:
        return None
