"""Memories made of numbers: a field on nodes, a despeckled image, versions committed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from scipy import ndimage

from catalog.grid import Lattice, Shard
from catalog.memory.encoding import codes_from_db
from catalog.memory.geometry import Geometry, memory_name
from catalog.memory.layout import reference_lattice
from catalog.memory.store import MemoryStore
from tests.support.slots import LATTICE

NODE_PX = 24
DAYS = ("2020-11-04", "2020-11-16", "2020-11-28")
FIRST_VERSION, SECOND_VERSION = "1" * 16, "2" * 16
GEOMETRY = Geometry("ascending", 64, "grd")


def memory_store(
    folder: Path | str,
    region: str = "la",
    lattice: Lattice = LATTICE,
    geometry: Geometry = GEOMETRY,
) -> MemoryStore:
    return MemoryStore(str(folder), region, memory_name(geometry, lattice))


def made_field(lattice: Lattice = LATTICE, days: int = len(DAYS), seed: int = 0) -> xr.Dataset:
    """Relief's displacement, and days that know most of it, each a little otherwise."""
    rows, columns = (side // NODE_PX + 2 for side in lattice.shape)
    random = np.random.default_rng(seed)
    ground = 6 * ndimage.gaussian_filter(random.normal(size=(2, rows, columns)), (0, 3, 3)) * 10
    error = 0.1 + 0.3 * random.random((days, rows, columns))
    unknown = ndimage.gaussian_filter(random.random((days, rows, columns)), (0, 4, 4)) > 0.53
    noise = ndimage.gaussian_filter(random.normal(size=(2, days, rows, columns)), (0, 0, 1, 1))
    day = np.where(unknown, np.nan, ground[:, None] + noise)
    on_nodes, on_days = ("node_y", "node_x"), ("day", "node_y", "node_x")
    first = np.datetime64(DAYS[0])
    slots = [str(first + 12 * number) for number in range(days)]
    shifts = {f"{of}_{axis}": ("day", random.normal(size=days))
              for of in ("remainder", "optical") for axis in ("dx", "dy")}  # fmt: skip
    return xr.Dataset(
        {
            "dx": (on_nodes, ground[0]),
            "dy": (on_nodes, ground[1]),
            "error": (on_nodes, error.mean(axis=0)),
            "count": (on_nodes, (~unknown).sum(axis=0)),
            "day_dx": (on_days, day[0]),
            "day_dy": (on_days, day[1]),
            "day_error": (on_days, np.where(unknown, np.nan, error)),
            **shifts,
        },
        coords={
            "day": slots,
            "generation": ("day", [f"{number:016x}" for number in range(days)]),
            "node_y": NODE_PX * np.arange(-1, rows - 1),
            "node_x": NODE_PX * np.arange(-1, columns - 1),
        },
    )


def made_reference(
    lattice: Lattice, passes: int = 8, looks: float = 4.4, seed: int = 0
) -> np.ndarray:
    """Codes (H, W) of the mean of so many speckled passes over fields, after a 3 x 3 mean."""
    height, width = reference_lattice(lattice).shape
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(height, width)), 12)
    texture = ndimage.gaussian_filter(random.normal(size=(height, width)), 1.5)
    power = 10 ** ((-14 + 40 * np.round(fields * 8) / 8 + 4 * texture) / 10)
    mean = np.mean([power * random.gamma(4 * looks, 1 / (4 * looks), power.shape)
                    for _ in range(passes)], axis=0)  # fmt: skip
    return codes_from_db(10 * np.log10(ndimage.uniform_filter(mean, 3)))


def write_version(
    store: MemoryStore, version: str, lattice: Lattice = LATTICE, shards: int | None = None
) -> np.ndarray:
    """A version, with all of its reference or so many shards of it; returns the codes of all."""
    store.create(version, made_field(lattice), lattice, {"previous": None})
    codes = made_reference(lattice)
    for shard in reference_shards(lattice)[:shards]:
        store.write_reference(version, shard, codes[shard.window.slices])
    return codes


def reference_shards(lattice: Lattice) -> tuple[Shard, ...]:
    return reference_lattice(lattice).shards()


def committed(
    folder: Path | str, versions: tuple[str, ...] = (FIRST_VERSION,), region: str = "la"
) -> MemoryStore:
    """A memory whose last version is in use."""
    store = memory_store(folder, region)
    for number, version in enumerate(versions, start=1):
        write_version(store, version)
        store.commit(version, DAYS[:number])
    return store
