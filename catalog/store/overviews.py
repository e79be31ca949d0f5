"""Overviews: each level from the one below it, shard by shard, so memory is bounded by the shard.

A pixel of a level is made of 2 x 2 pixels of the level below. Floats are the mean of what is known
of these four, NaN where nothing is; whole numbers, which are flags and counts, what most of the
four are, the smallest where several are equally many. xarray's `coarsen` knows no majority, and
its mean of floats takes infinity for a number and 1.7 times as long, so neither is made with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from catalog import objects
from catalog.grid import Lattice, Shard, Window
from catalog.store.layout import level_lattice
from catalog.store.schema import DIMENSIONS, is_flag
from catalog.store.shards import write_shard
from catalog.store.slot import Receipt, SlotStore


def overview_shards(
    lattice: Lattice, factor: int, written: Iterable[tuple[int, int]]
) -> tuple[Shard, ...]:
    """The shards of a level that have something to show.

    `written` are (row, col) of the shards of the level below that were written.
    """
    parents = {(row // 2, col // 2) for row, col in written}
    shards = level_lattice(lattice, factor).shards()
    return tuple(shard for shard in shards if (shard.row, shard.col) in parents)


def write_overview_shard(store: SlotStore, factor: int, shard: Shard) -> Receipt:
    """Make one shard of a level from the level below, which has to be complete, and write it.

    Raises StoreError.
    """
    window = shard.window
    below = Window(2 * window.y0, 2 * window.x0, 2 * window.height, 2 * window.width)
    halved = {}
    for name, pixels in store.pixels("r", factor // 2).items():
        part = below.clip(pixels.shape)  # type: ignore[arg-type]
        assert part is not None
        with objects.store_errors(f"read {name} of", store.url):
            values = np.asarray(pixels[part.slices])
        halved[name] = (DIMENSIONS, half_resolution(values))
    return write_shard(store, shard, xr.Dataset(halved), factor)


def half_resolution(values: NDArray[Any]) -> NDArray[Any]:
    """(H, W) of one variable as (ceil(H / 2), ceil(W / 2)), same dtype."""
    return _majorities(values) if is_flag(values) else _means(values)


def _means(values: NDArray[Any]) -> NDArray[Any]:
    known = np.isfinite(values)
    # In double precision, so that the order of the sum does not matter.
    total = _quarters(np.where(known, values, 0.0).astype(np.float64)).sum(axis=0)
    count = _quarters(known).sum(axis=0)
    means = np.full(total.shape, np.nan, dtype=np.float64)
    np.divide(total, count, out=means, where=count > 0)
    return means.astype(values.dtype)


def _majorities(values: NDArray[Any]) -> NDArray[Any]:
    quarters = _quarters(values)
    there = _quarters(np.ones(values.shape, dtype=bool))  # what pads an odd edge has no vote
    winner = np.zeros(quarters.shape[1:], dtype=values.dtype)
    votes = np.zeros(winner.shape, dtype=np.uint8)
    for value in np.unique(values):  # rising, so that the smallest of equals stays
        count = ((quarters == value) & there).sum(axis=0, dtype=np.uint8)
        winner[count > votes] = value
        votes = np.maximum(votes, count)
    return winner


def _quarters(values: NDArray[Any]) -> NDArray[Any]:
    """(H, W) as (4, ceil(H / 2), ceil(W / 2)): the four pixels of each block, zero beyond."""
    height, width = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2)))
    return np.stack([even[row::2, column::2] for row in (0, 1) for column in (0, 1)])
