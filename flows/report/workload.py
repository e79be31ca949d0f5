"""What a plan comes to, before it is done: files, bytes, tiles, shards, and about how long."""

from __future__ import annotations

import json
from dataclasses import dataclass

from catalog import objects
from catalog.archives.sizes import file_sizes
from flows.plan.plan import Plan
from flows.stages.compose import slot_shards
from flows.stages.match import group_tiles

# Where the region has no earlier run to learn from: nine real scenes on two CPU cores.
TILE_SECONDS = 3.0
SHARD_SECONDS = 8.0


@dataclass(frozen=True)
class Workload:
    """The work of the days that are not published yet."""

    days: int
    scenes: int
    files: int
    bytes: int | None
    """Of the whole files, of which a run reads the parts that it needs; None when unknown."""
    bytes_basis: str
    tiles: int
    shards: int
    seconds: float
    seconds_basis: str


def estimate_workload(plan: Plan) -> Workload:
    """Count what is left to do. Asks some files for their size; unknown ones are no error."""
    groups = [group for slot in plan.unfinished for group in slot.groups]
    scenes = {scene.id: scene for group in groups for scene in group.scenes}
    sizes = file_sizes(tuple(scenes.values()))
    tiles, shards = count_steps(plan)
    tile_seconds, shard_seconds, basis = _find_pace(plan)
    return Workload(
        days=len(plan.unfinished),
        scenes=len(scenes),
        files=sizes.files,
        bytes=sizes.bytes,
        bytes_basis=sizes.basis,
        tiles=tiles,
        shards=shards,
        seconds=tiles * tile_seconds + shards * shard_seconds,
        seconds_basis=basis,
    )


def count_steps(plan: Plan) -> tuple[int, int]:
    """How many tiles have to be matched, and how many shards composed."""
    tiles = shards = 0
    for slot in plan.unfinished:
        tiles += sum(len(group_tiles(plan.lattice, group)) for group in slot.groups)
        shards += len(slot_shards(plan.lattice, slot.groups))
    return tiles, shards


def _find_pace(plan: Plan) -> tuple[float, float, str]:
    """Seconds per tile and per shard, and where they are from."""
    saved = objects.get(f"{plan.mosaic_url}/report.json")
    report = json.loads(saved) if saved else {}
    tiles, shards = report.get("tiles", 0), report.get("shards_written", 0)
    seconds = report.get("seconds", {})
    if tiles and shards and "estimate" in seconds and "compose" in seconds:
        return (
            seconds["estimate"] / tiles,
            seconds["compose"] / shards,
            "as in this region's last run",
        )
    return TILE_SECONDS, SHARD_SECONDS, "a guess, as on two CPU cores"
