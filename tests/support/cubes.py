"""Cubes as analysts open them, and days to be in them that cost little to make."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import icechunk
import numpy as np
import xarray as xr

from catalog.cube.repository import opening_lines
from catalog.grid import lattice_for
from catalog.store.open import open_slot
from catalog.store.publish import publish
from catalog.store.slot import SlotStore
from tests.support.slots import BOX, created, pair_of_day, slot_store, write_all

LATTICE = lattice_for(BOX, shard_px=512)
"""One shard, no overviews: few objects a day."""

FORKS = multiprocessing.get_context("forkserver")
"""Of publishers: what takes long to import is there already."""
FORKS.set_forkserver_preload(["tests.support.cubes", "catalog.cube.update"])

READER = """
import pickle, sys
import icechunk, xarray
{lines}
assert not {{"catalog", "flows"}} & sys.modules.keys()
with open(sys.argv[1], "wb") as file:
    pickle.dump(cube.compute(), file)
"""


def aws_variables() -> dict[str, str]:
    """Of this process's environment, which a forked publisher's may be older than."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def open_cube(region_url: str) -> xr.Dataset:
    """By the lines that README tells, in this process."""
    names = {"icechunk": icechunk, "xarray": xr}
    for line in opening_lines(region_url):
        exec(line, names)
    cube = names["cube"]
    assert isinstance(cube, xr.Dataset)
    return cube


def cube_in_a_bare_process(region_url: str, folder: Path) -> xr.Dataset:
    """The same, in memory, from a process that knows nothing of this package."""
    program = READER.format(lines="\n".join(opening_lines(region_url)))
    out = folder / "cube.pickle"
    subprocess.run([sys.executable, "-I", "-c", program, str(out)], cwd=folder, check=True)
    cube = pickle.loads(out.read_bytes())
    assert isinstance(cube, xr.Dataset)
    return cube


def written_day(folder: Path | str, slot: str, generation: str, seed: int = 0) -> SlotStore:
    """A day of one shard that waits to be published."""
    store = created(folder, LATTICE, slot=slot, generation=generation)
    write_all(store, LATTICE, seed)
    return store


def copied_day(like: SlotStore, slot: str, generation: str) -> SlotStore:
    """Another day with the same pixels, on a disk."""
    store = slot_store(like.store_url, slot=slot, generation=generation)
    for part in (".zarr", ".receipts"):
        there, here = (each.url.removesuffix(".zarr") + part for each in (like, store))
        shutil.copytree(there, here, copy_function=os.link)
    return store


def publish_day(store: SlotStore) -> SlotStore:
    """Its item is put; the cube knows nothing of it."""
    publish(store, LATTICE, [pair_of_day()], {})
    return store


def require_days(cube: xr.Dataset, stores: Sequence[SlotStore]) -> None:
    """The cube shows these days, as their groups have them."""
    assert [str(day)[:10] for day in cube.time.values] == [store.slot for store in stores]
    assert list(cube.generation.values) == [store.generation for store in stores]
    for at, store in enumerate(stores):
        day, row = open_slot(store.url), cube.isel(time=at)
        for name in cube.data_vars:
            shown = row[name].values
            if name in day:
                np.testing.assert_array_equal(shown, day[name].values, str(name))
            else:
                assert np.isnan(shown).all()
        for sensor in ("sar", "optical"):
            times, ids = day[f"{sensor}_time"], row[f"{sensor}_id"].values
            count = times.size
            np.testing.assert_array_equal(row[f"{sensor}_time"].values[:count], times.values)
            assert np.isnat(row[f"{sensor}_time"].values[count:]).all()
            assert list(ids) == [*times.attrs["scene_ids"], *[""] * (ids.size - count)]
