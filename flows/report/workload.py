"""What a plan comes to, before it is done: what is read and written, counted, and how long.

And whether its store has room for it: a full disk costs hours, a look nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog import objects
from catalog.archives.sizes import file_sizes
from catalog.grid import Lattice, Shard, region_outline
from catalog.store.layout import overview_factors
from catalog.store.overviews import overview_shards
from flows.plan.generation import SlotPlan
from flows.plan.places import MEGABYTE, nearest_folder
from flows.plan.plan import Plan, PlanError, slot_store
from flows.report.rates import MEGA, count_pixels, find_rates, known_workers
from flows.stages.compose import slot_schema, slot_shards
from flows.stages.match import group_tiles

COORDINATES = ("y", "x", "time", "sar_time", "optical_time", "spatial_ref")
BESIDE_PIXELS = 1.3  # what is remembered, estimates, reports
LEAST_ROOM = 20 * MEGABYTE
OBJECTS_OF_A_DAY = 5  # .zmetadata, the list of shards, the estimate, item, page


@dataclass(frozen=True)
class Workload:
    """The work of the days that are not published yet."""

    days: int
    scenes: int
    files: int
    bytes: int | None
    """Of the whole files; None when unknown."""
    bytes_inside: int | None
    """Of their part in the region, which is read at most twice: to match, and to compose."""
    bytes_basis: str
    tiles: int
    """Where memory knows the ground, about half of them are tried."""
    shards: int
    pixels: int
    written_bytes: int
    written_objects: int
    """By how days are laid out; what is all no data is not stored."""
    cpu_seconds: float
    seconds: float
    workers: int | None
    """None where their scheduler does not answer: then it is the time on one."""
    rates_basis: str
    """What bytes and seconds rest on: defaults, or which earlier run."""

    def rows(self) -> list[tuple[str, str]]:
        """What people are told, and what each number rests on."""
        read = "unknown"
        if self.bytes is not None and self.bytes_inside is not None:
            read = f"{_show_bytes(self.bytes)}, in the region {_show_bytes(self.bytes_inside)}"
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        if self.workers is None:
            workers = "1 worker, for the scheduler does not answer"
        return [
            ("days to do", f"{self.days}; the others are published"),
            ("to read", f"{self.files} files of {self.scenes} scenes, {read} ({self.bytes_basis})"),
            ("to match", f"{self.tiles} tiles; about half, where the ground is remembered"),
            ("to compose", f"{self.shards} shards, {self.pixels / MEGA:.1f} million pixels"),
            ("to write", f"{_show_bytes(self.written_bytes)} ({self.rates_basis})"),
            ("objects", f"{self.written_objects} at most (by the layout)"),
            ("CPU", f"{_show_seconds(self.cpu_seconds)} ({self.rates_basis})"),
            ("time", f"{_show_seconds(self.seconds)} on {workers} ({self.rates_basis})"),
        ]


def estimate_workload(plan: Plan) -> Workload:
    """Count what is left to do. Asks some files for their size; unknown ones are no error.

    Raises `StoreError`.
    """
    groups = [group for slot in plan.unfinished for group in slot.groups]
    scenes = {scene.id: scene for group in groups for scene in group.scenes}
    sizes = file_sizes(tuple(scenes.values()), region_outline(plan.request.bbox))
    tiles, shards = count_steps(plan)
    pixels = sum(count_pixels(plan, slot) for slot in plan.unfinished)
    rates, workers = find_rates(plan), known_workers(plan)
    days = len(plan.unfinished)
    run_s, run_cpu_s = (rates.run_s, rates.run_cpu_s) if days else (0.0, 0.0)
    work_s = tiles * rates.tile_s + pixels / MEGA * rates.megapixel_s
    cpu_s = tiles * rates.tile_cpu_s + pixels / MEGA * rates.megapixel_cpu_s
    return Workload(
        days=days,
        scenes=len(scenes),
        files=sizes.files,
        bytes=sizes.bytes,
        bytes_inside=sizes.inside,
        bytes_basis=sizes.basis,
        tiles=tiles,
        shards=shards,
        pixels=pixels,
        written_bytes=round(pixels * rates.pixel_bytes),
        written_objects=sum(_count_objects(plan, slot) for slot in plan.unfinished),
        cpu_seconds=round(cpu_s + days * rates.day_cpu_s + run_cpu_s, 1),
        seconds=round(work_s / (workers or 1) + days * rates.day_s + run_s, 1),
        workers=workers,
        rates_basis=rates.basis,
    )


def require_room(plan: Plan) -> None:
    """Raise `PlanError` unless the folder of a store has room for what is left to do.

    Of an object store nobody can tell. Raises `StoreError` when the store cannot be read.
    """
    store = plan.request.store
    if not plan.unfinished or not objects.is_local(store):
        return
    pixels, rates = sum(_unwritten_pixels(plan, slot) for slot in plan.unfinished), find_rates(plan)
    needed = max(LEAST_ROOM, BESIDE_PIXELS * rates.pixel_bytes * pixels)
    folder = nearest_folder(Path(objects.filesystem(store)[1]))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PlanError(
            f"store: {store} has {free / MEGABYTE:.0f} MB of room, and what is left to do needs "
            f"about {needed / MEGABYTE:.0f} MB ({pixels / MEGA:.1f} million pixels at "
            f"{rates.pixel_bytes:.1f} bytes, {rates.basis}): make room, or name another store"
        )


def count_steps(plan: Plan) -> tuple[int, int]:
    """How many tiles have to be matched, and how many shards composed."""
    tiles = shards = 0
    for slot in plan.unfinished:
        tiles += sum(len(group_tiles(plan.lattice, group)) for group in slot.groups)
        shards += len(slot_shards(plan.lattice, slot.groups))
    return tiles, shards


def count_objects(lattice: Lattice, variables: int, shards: Sequence[Shard]) -> int:
    """How many objects a day of these shards is, if no chunk of it is all no data.

    Each shard of each level is a chunk per variable of pixels and a receipt; each level a group of
    arrays that are described, and whose coordinates are a chunk each.
    """
    levels = (1, *overview_factors(lattice))
    count = len(shards)
    for factor in levels[1:]:
        below = [(shard.row, shard.col) for shard in shards]
        shards = overview_shards(lattice, factor, below)
        count += len(shards)
    described = len(levels) * (1 + variables + len(COORDINATES)) + (len(levels) > 1)
    stored = len(levels) * (len(COORDINATES) - 1)  # the CRS is all in its attributes
    return count * (variables + 1) + described + stored + OBJECTS_OF_A_DAY


def _unwritten_pixels(plan: Plan, slot: SlotPlan) -> int:
    written = slot_store(plan, slot).written_shards()
    windows = [
        shard.window
        for shard in slot_shards(plan.lattice, slot.groups)
        if (shard.row, shard.col) not in written
    ]
    return sum(window.height * window.width for window in windows)


def _count_objects(plan: Plan, slot: SlotPlan) -> int:
    variables = len(slot_schema(slot).empty((1, 1)))
    return count_objects(plan.lattice, variables, slot_shards(plan.lattice, slot.groups))


def _show_bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _show_seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
