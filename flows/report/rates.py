"""What a tile, a pixel and a day cost: as runs of a store measured it, else as was measured once.

A run leaves what it took in `measured` of its report.json. Time is counted per worker, so a run on
four workers tells what one on two will take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from catalog import objects
from flows.cluster.workers import DispatchError, count_workers
from flows.outcome import SlotOutcome
from flows.plan.generation import SlotPlan
from flows.plan.plan import Plan, slot_store
from flows.progress import Stopwatch
from flows.report.schema import Measured
from flows.stages.compose import slot_shards

MEGA = 1e6
STAGES_OF_A_DAY = ("publish", "remember", "report")


@dataclass(frozen=True)
class Rates:
    """Seconds of work and of CPU per tile, million pixels of mosaic, day and run; bytes per pixel.

    Seconds of work are those of one worker; those of a day or a run are not shared among workers.
    """

    tile_s: float
    tile_cpu_s: float
    megapixel_s: float
    megapixel_cpu_s: float
    day_s: float
    day_cpu_s: float
    run_s: float
    run_cpu_s: float
    pixel_bytes: float
    basis: str


# Tiles, pixels and bytes by tests/benchmarks/granule.py --side 3072, as infra/SCALE.md has them;
# days and runs by the report of such a granule of 2048 px.
DEFAULT = Rates(
    tile_s=5.9,
    tile_cpu_s=2.7,
    megapixel_s=3.2,
    megapixel_cpu_s=1.5,
    day_s=3.8,
    day_cpu_s=1.7,
    run_s=37.0,
    run_cpu_s=9.7,
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
        pixels = count_pixels(plan, outcome.slot)
        stored += pixels
        composed += round(pixels * outcome.shards_written / outcome.shards)
        for part in slot_store(plan, outcome.slot).parts:
            found = objects.entries(part)
            size, count = size + sum(entry.bytes for entry in found), count + len(found)
    wall, cpu = (_split(seconds) for seconds in (clock.seconds(), clock.cpu_seconds()))
    known_cpu = cpu if plan.request.scheduler is None else dict.fromkeys(cpu)
    return Measured.model_validate(
        {
            "workers": workers,
            "tiles": tiles,
            "pixels": composed,
            "days": len(made),
            "stored_pixels": stored,
            "bytes_written": size,
            "objects_written": count,
            **{f"{part}_seconds": seconds for part, seconds in wall.items()},
            **{f"{part}_cpu_seconds": seconds for part, seconds in known_cpu.items()},
        }
    )


def count_pixels(plan: Plan, slot: SlotPlan) -> int:
    """Of the shards that a day touches."""
    windows = [shard.window for shard in slot_shards(plan.lattice, slot.groups)]
    return sum(window.height * window.width for window in windows)


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
    """The rates that a run measured. Where it knew no CPU seconds, those that it worked."""
    work, megapixels = measured.workers, measured.pixels / MEGA
    tile_s = measured.estimate_seconds * work / measured.tiles
    megapixel_s = measured.compose_seconds * work / megapixels
    day_s = measured.day_seconds / measured.days
    return Rates(
        tile_s=tile_s,
        tile_cpu_s=_rate(measured.estimate_cpu_seconds, measured.tiles, tile_s),
        megapixel_s=megapixel_s,
        megapixel_cpu_s=_rate(measured.compose_cpu_seconds, megapixels, megapixel_s),
        day_s=day_s,
        day_cpu_s=_rate(measured.day_cpu_seconds, measured.days, day_s),
        run_s=measured.rest_seconds,
        run_cpu_s=_rate(measured.rest_cpu_seconds, 1, measured.rest_seconds),
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


def _split(seconds: Mapping[str, float]) -> dict[str, float]:
    """The seconds of a run's stages by what they grow with."""
    parts = {part: seconds.get(part, 0.0) for part in ("estimate", "compose")}
    parts["day"] = round(sum(seconds.get(stage, 0.0) for stage in STAGES_OF_A_DAY), 2)
    return {**parts, "rest": round(seconds["total"] - sum(parts.values()), 2)}


def _rate(cpu_seconds: float | None, count: float, otherwise: float) -> float:
    return otherwise if cpu_seconds is None else cpu_seconds / count
