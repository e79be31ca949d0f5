"""Overviews: each level from the one below it, shard by shard, so memory is bounded by the shard.

A pixel of a level is made of 2 x 2 pixels of the level below, of the first level in two such steps
from the lattice. Floats are the mean of what is known
of these four, NaN where nothing is; whole numbers, which are flags and counts, what most of the
four are, the smallest where several are equally many. xarray's `coarsen` knows no majority, and
its mean of floats takes infinity for a number and 1.7 times as long, so neither is made with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from catalog import objects
from catalog.grid import Lattice, Shard, Window
from catalog.store.layout import level_below, level_lattice
from catalog.store.receipts import Receipt
from catalog.store.schema import DIMENSIONS, is_flag, measured_values
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore


def overview_shards(
    lattice: Lattice, factor: int, written: Iterable[tuple[int, int]]
) -> tuple[Shard, ...]:
    """The shards of a level that have something to show.

    `written` are (row, col) of the shards of the level below that were written.
    """
    step = factor // level_below(factor)
    parents = {(row // step, col // step) for row, col in written}
    shards = level_lattice(lattice, factor).shards()
    return tuple(shard for shard in shards if (shard.row, shard.col) in parents)


def write_overview_shard(store: SlotStore, factor: int, shard: Shard) -> Receipt:
    """Make one shard of a level from the level below, which has to be complete, and write it.

    Raises StoreError.
    """
    below = level_below(factor)
    step = factor // below
    level = {}
    for name, pixels in store.pixels("r", below).items():
        side = pixels.chunks[0] // step  # of what one shard of the level below becomes
        rows = [
            [
                _reduced(store, name, pixels, Window(y, x, side, side), step)
                for x in range(shard.window.x0, shard.window.x1, side)
            ]
            for y in range(shard.window.y0, shard.window.y1, side)
        ]
        level[name] = (DIMENSIONS, np.block(rows))
    return write_shard(store, shard, xr.Dataset(level), factor)


def _reduced(
    store: SlotStore, name: str, pixels: zarr.Array[Any], window: Window, step: int
) -> NDArray[Any]:
    """A part of a level, from `step` squared times as many pixels of the level below."""
    source = Window(step * window.y0, step * window.x0, step * window.height, step * window.width)
    part = source.clip(pixels.shape)  # type: ignore[arg-type]
    assert part is not None
    with objects.store_errors(f"read {name} of", store.url):
        stored = np.asarray(pixels[part.slices])
    values = measured_values(stored, pixels.dtype, pixels.attrs)
    while step > 1:
        values, step = half_resolution(values), step // 2
    return values


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
