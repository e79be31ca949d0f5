"""Slots of a store made of noise: created, written, published, left over."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from catalog.archives.pairs import Pair
from catalog.grid import Lattice, Shard, lattice_for
from catalog.store.layout import overview_factors
from catalog.store.overviews import overview_shards, write_overview_shard
from catalog.store.publish import publish
from catalog.store.schema import DISPLACEMENT, QUALITY, SlotSchema, is_flag
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from tests.support.scenes import NOON, noise, scene

BOX = (-118.0, 33.75, -117.99, 33.758)
LATTICE = lattice_for(BOX, shard_px=32)
# Few requests, since each costs an object store some 20 ms.
FEW_CHUNKS = lattice_for(BOX, shard_px=64)
ONE_SHARD = lattice_for(BOX, shard_px=128)
SCENES = {"s": NOON, "s-2": NOON + timedelta(seconds=25)}
OPTICAL_SCENES = {"o": NOON, "o-2": NOON + timedelta(seconds=4)}
SCHEMA = SlotSchema(("red", "green", "blue"), ("vh",), SCENES, OPTICAL_SCENES)
VARIABLES = (
    "red", "green", "blue", "vh", "dx", "dy", "expected_error", "quality", "sar_scene",
    "optical_scene",
)  # fmt: skip
FIRST, SECOND, HALF = "a" * 16, "b" * 16, "c" * 16
TWO_DAYS = timedelta(days=2)

# rioxarray multiplies affine transforms the way affine 3.1 is about to deprecate.
rioxarray_is_older_than_affine = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning"
)


def slot_store(folder: Path | str, slot: str = "2020-11-04", generation: str = "abc") -> SlotStore:
    """A generation of a day that may not be there yet."""
    return SlotStore(str(folder), "la", slot, generation)


def created(
    folder: Path | str,
    lattice: Lattice = LATTICE,
    sar_scenes: dict[str, datetime] | None = None,
    optical_scenes: dict[str, datetime] | None = None,
    **names: str,
) -> SlotStore:
    """A slot in which nothing is written."""
    store = slot_store(folder, **names)
    schema = replace(
        SCHEMA,
        sar_scenes=sar_scenes or SCENES,
        optical_scenes=optical_scenes or OPTICAL_SCENES,
    )
    store.create(lattice, schema, {"weights_sha256": "f00"})
    return store


def shard_pixels(shard: Shard, seed: int = 0) -> xr.Dataset:
    """Noise for every variable of a shard; nothing is known of its upper third."""
    pixels = SCHEMA.empty(shard.window.shape).copy(deep=True)
    height, width = shard.window.shape
    measured = [name for name in pixels if not is_flag(pixels[name])]
    floats = noise((len(measured), height, width), "float32", seed)
    floats[:, : height // 3] = np.nan
    for name, values in zip(measured, floats, strict=True):
        pixels[name].values[...] = values
    pixels["quality"].values[...] = noise((height, width), seed=seed) % len(QUALITY)
    for seed_after, (sensor, scenes) in enumerate(SCHEMA.scenes.items(), start=1):
        numbers = noise((height, width), seed=seed + seed_after) % (len(scenes) + 1)
        pixels[f"{sensor}_scene"].values[...] = numbers
    return pixels


def write_all(store: SlotStore, lattice: Lattice = LATTICE, seed: int = 0) -> None:
    """Every shard of a slot."""
    for shard in lattice.shards():
        write_shard(store, shard, shard_pixels(shard, seed))


def write_overviews(store: SlotStore, lattice: Lattice = LATTICE) -> None:
    """Every level, of the shards that are written."""
    below = store.written_shards()
    for factor in overview_factors(lattice):
        for shard in overview_shards(lattice, factor, below):
            write_overview_shard(store, factor, shard)
        below = store.written_shards(factor)


def pair_of_day() -> Pair:
    """Two scenes that see all of the box."""
    return Pair(scene("o", BOX), scene("s", BOX), 1.0, timedelta(0))


def published(
    folder: Path | str,
    lattice: Lattice = LATTICE,
    seed: int = 0,
    sar_scenes: dict[str, datetime] | None = None,
    optical_scenes: dict[str, datetime] | None = None,
    **names: str,
) -> SlotStore:
    """A slot with all its shards and overviews, and the item that points to it."""
    store = created(folder, lattice, sar_scenes, optical_scenes, **names)
    write_all(store, lattice, seed)
    write_overviews(store, lattice)
    publish(store, lattice, [pair_of_day()], {})
    return store


def moved_evenly(store: SlotStore, dx: float, dy: float) -> SlotStore:
    """A written slot, its displacement the same everywhere."""
    for factor in (1, *overview_factors(ONE_SHARD)):
        pixels = store.pixels("r+", factor)
        for name, px in (("dx", dx), ("dy", dy)):
            stored = round(px / DISPLACEMENT.scale)
            pixels[name][...] = np.full(pixels[name].shape, stored, pixels[name].dtype)
    return store


def with_history(folder: Path | str) -> tuple[SlotStore, SlotStore, SlotStore]:
    """A day that was published, replaced, and is being written again by a third request."""
    old, new = (published(folder, ONE_SHARD, generation=name) for name in (FIRST, SECOND))
    half = created(folder, FEW_CHUNKS, generation=HALF)
    shard = FEW_CHUNKS.shards()[0]
    write_shard(half, shard, shard_pixels(shard))
    return old, new, half


def make_old(folder: Path) -> None:
    """Everything was written two days ago."""
    when = time.time() - TWO_DAYS.total_seconds()
    for path in folder.rglob("*"):
        os.utime(path, (when, when))


def digests(folder: Path) -> dict[str, str]:
    """A checksum of every file below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
