"""Looking after a store: what lies in it, whether it still reads as written, what may go.

Readers follow items, so a generation that no item points to is seen by no one. A run that is still
writing has no item either, though, so only what has been left alone for a while counts as left
over. Nothing here runs by itself.

A day is mended in its place: whatever a generation holds is determined by its name, so what is
written anew has the same bits as before. Every object is put in one step, so a reader gets an error
before and the pixels after it, and of what is sound no byte is touched.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from catalog import objects
from catalog.errors import ArgumentError, StoreError, has_secret, shown
from catalog.grid import Lattice
from catalog.store.layout import create_group, level_path, overview_factors
from catalog.store.publish import published_generation
from catalog.store.receipts import Receipt, checksum
from catalog.store.schema import NO_OPTICAL, QUALITY, SlotSchema
from catalog.store.slot import SlotStore

GENERATION = re.compile(r"([0-9a-f]{16})\.(?:zarr|receipts|shards\.json|estimate\.npz)(?:/|$)")
REGION_PARTS = {"slots", "items", "collection.json"}
READS_AT_ONCE = 8  # shards of a slot; each is held in memory, one variable at a time


@dataclass(frozen=True)
class Generation:
    """One generation of one slot: what it holds, and whether readers see it."""

    store: SlotStore
    published: bool
    sealed: bool
    """Whether it has been published, even if it is not any more."""
    objects: int
    bytes: int
    touched: datetime
    """When an object of it, or the item of its slot, was last written, UTC."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a published generation.

    `shard` is "row.col", "overviews/4/row.col" in an overview, None for the whole.
    """

    shard: str | None
    variable: str | None
    what: str


@dataclass(frozen=True)
class Verification:
    """How many shards of a generation, its overviews' too, were checked, and what was found."""

    shards: int
    faults: tuple[Fault, ...]


def regions(store_url: str) -> list[tuple[str, str]]:
    """(store, region) of every region in a store, or of the one region that `store_url` is.

    Raises ArgumentError for an address with a secret, StoreError where there is no region.
    """
    if has_secret(store_url):
        raise ArgumentError(
            f"store: {shown(store_url)} was given with a password or a query; credentials come "
            "from the AWS environment",
            argument="store",
        )
    url = store_url.rstrip("/")
    parent, _, name = url.rpartition("/")
    if _is_region(url):
        return [(parent or ".", name)]
    found = [(url, each) for each in objects.names(url) if _is_region(objects.join(url, each))]
    if not found:
        raise StoreError(
            f"there is no region in {url}; expected the STORE or STORE/REGION of a run", url=url
        )
    return found


def generations(store_url: str, region: str, slot: str | None = None) -> list[Generation]:
    """Every generation of a region, or of one slot of it, by slot and name. Raises StoreError."""
    changed = {
        entry.name.removesuffix(".json"): [entry]
        for entry in objects.entries(objects.join(store_url, region, "items"))
    }
    found = []
    slots = [slot] if slot else objects.names(objects.join(store_url, region, "slots"))
    for slot in slots:
        members: dict[str, list[objects.Entry]] = {}
        for entry in objects.entries(objects.join(store_url, region, "slots", slot)):
            if match := GENERATION.match(entry.name):
                members.setdefault(match[1], []).append(entry)
        current = published_generation(store_url, region, slot)
        found += [
            Generation(
                SlotStore(store_url, region, slot, name),
                name == current,
                any(entry.name == f"{name}.shards.json" for entry in entries),
                len(entries),
                sum(entry.bytes for entry in entries),
                max(entry.modified for entry in entries + changed.get(slot, [])),
            )
            for name, entries in sorted(members.items())
        ]
    return found


def left_over(
    found: Sequence[Generation], older_than: timedelta, now: datetime | None = None
) -> list[Generation]:
    """Generations that no item points to, and neither a run nor an item changed since then."""
    before = (now or datetime.now(UTC)) - older_than
    return [each for each in found if not each.published and each.touched <= before]


def remove(generation: Generation, older_than: timedelta) -> bool:
    """Delete a generation unless it came into use since it was listed; says whether it did.

    A run that begins to continue it at this very moment loses what it found there and has to be
    started again: nothing is locked. Raises StoreError.
    """
    store = generation.store
    again = left_over(generations(store.store_url, store.region, store.slot), older_than)
    if store not in [each.store for each in again]:
        return False
    for part in store.parts:
        objects.remove_tree(part)
    return True


def quality_shares(store: SlotStore) -> dict[str, float]:
    """Share of a slot's pixels by what became of them, read from `quality` alone.

    Raises StoreError.
    """
    quality = _pixels(store)["quality"]
    height, width = quality.shape
    side = _shard_side(quality)
    counts = np.zeros(len(QUALITY), np.int64)
    with objects.store_errors("read quality of", store.url):
        for row in sorted({row for row, _ in store.written_shards()}):
            block = np.asarray(quality[row * side : (row + 1) * side])
            counts += np.bincount(block.ravel(), minlength=len(QUALITY))[: len(QUALITY)]
    counts[NO_OPTICAL] += height * width - counts.sum()  # never written
    return {name: float(n / (height * width)) for name, n in zip(QUALITY, counts, strict=True)}


def verify(store: SlotStore) -> Verification:
    """Read every shard of a published generation and compare it with its receipt.

    What cannot be read is a fault too, not an exception.
    """
    try:
        sealed, expected = store.sealed_shards(), store.written_shards()
        factors = store.overview_factors()
    except StoreError as error:
        return Verification(0, (Fault(None, None, str(error)),))
    faults = description_faults(store, factors)
    if sealed is None:
        faults.append(Fault(None, None, "the list of its shards is missing"))
    expected |= sealed or set()
    checked = 0
    for below, factor in pairwise((1, 1, *factors)):  # a shard stands for many of the level below
        step = factor // below
        expected = {(row // step, col // step) for row, col in expected}
        checked += len(expected)
        faults += _level_faults(store, factor, sorted(expected))
    return Verification(checked, tuple(faults))


def unsound_shards(store: SlotStore, factor: int = 1) -> list[tuple[int, int]]:
    """(row, col) of the shards of a level that have a receipt and do not read as it says.

    Raises StoreError when the level cannot be opened.
    """
    pixels, written = _pixels(store, factor), sorted(store.written_shards(factor))
    faults = _faults_of_shards(store, factor, pixels, written)
    return [shard for shard, found in zip(written, faults, strict=True) if found]


def description_faults(store: SlotStore, factors: Sequence[int]) -> list[Fault]:
    """What of a group's description and coordinates, its overviews' too, cannot be read."""
    faults = []
    for factor in (1, *factors):
        try:
            _pixels(store, factor)
            group = store.open_group("r", factor)
            for name, array in sorted(group.arrays()):
                if array.ndim < 2:
                    with objects.store_errors("read", f"{store.url}/{level_path(factor)}/{name}"):
                        np.asarray(array[...])
        except StoreError as error:
            faults.append(Fault(None, None, str(error)))
    return faults


def mend_description(
    store: SlotStore, lattice: Lattice, schema: SlotSchema, attrs: Mapping[str, Any]
) -> None:
    """Put what describes the group, and its coordinates, anew where they cannot be read.

    The arguments are those of `SlotStore.create`. Raises StoreError.
    """
    if not description_faults(store, overview_factors(lattice)):
        return
    day = date.fromisoformat(store.slot)
    with tempfile.TemporaryDirectory() as folder:
        create_group(LocalStore(folder), lattice, day, schema, attrs)
        for entry in objects.entries(folder):
            content = Path(folder, entry.name).read_bytes()
            url = objects.join(store.url, entry.name)
            if objects.get(url) != content:
                objects.put(url, content)


def forget_unsound_shards(store: SlotStore, lattice: Lattice) -> int:
    """Remove the receipts of shards that do not read as they say, of overviews too; how many.

    A run composes what has no receipt. Raises StoreError.
    """
    forgotten = 0
    for factor in (1, *overview_factors(lattice)):
        for row, col in unsound_shards(store, factor):
            store.forget_receipt(row, col, factor)
            forgotten += 1
    return forgotten


def _level_faults(
    store: SlotStore, factor: int, expected: Sequence[tuple[int, int]]
) -> list[Fault]:
    try:
        pixels = _pixels(store, factor)
    except StoreError:
        return []  # told of the whole
    found = _faults_of_shards(store, factor, pixels, expected)
    return [fault for faults in found for fault in faults]


def _faults_of_shards(
    store: SlotStore,
    factor: int,
    pixels: dict[str, zarr.Array[Any]],
    shards: Sequence[tuple[int, int]],
) -> list[list[Fault]]:
    """What is wrong with each shard."""
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        found = threads.map(
            lambda shard: list(_shard_faults(store, factor, pixels, *shard)), shards
        )
        return list(found)


def _shard_faults(
    store: SlotStore, factor: int, pixels: dict[str, zarr.Array[Any]], row: int, col: int
) -> Iterator[Fault]:
    shard = f"{level_path(factor)}/{row}.{col}".lstrip("/")
    try:
        receipt = store.load_receipt(row, col, factor)
    except StoreError as error:
        yield Fault(shard, None, str(error))
        return
    if receipt is None:
        yield Fault(shard, None, "its receipt is missing")
        return
    for name in sorted({*pixels, *receipt.checksums}):
        what = _variable_fault(store, factor, pixels.get(name), name, receipt)
        if what is not None:
            yield Fault(shard, name, what)


def _variable_fault(
    store: SlotStore, factor: int, pixels: zarr.Array[Any] | None, name: str, receipt: Receipt
) -> str | None:
    if pixels is None or name not in receipt.checksums:
        return "the variable is in the receipt or in the group, but not in both"
    side = _shard_side(pixels)
    rows, columns = (slice(at * side, (at + 1) * side) for at in (receipt.row, receipt.col))
    url = objects.join(store.url, f"{level_path(factor)}/{name}".lstrip("/"))
    try:
        with objects.store_errors("read", url):
            values = np.asarray(pixels[rows, columns])
        if checksum(values) == receipt.checksums[name]:
            return None
        # A shard of nothing but no data is not stored, so absence alone is no fault.
        stored = objects.names(f"{url}/{receipt.row}")
    except StoreError as error:
        return str(error)
    return "differs from what was written" if str(receipt.col) in stored else "is missing"


def _pixels(store: SlotStore, factor: int = 1) -> dict[str, zarr.Array[Any]]:
    found = store.pixels("r", factor)
    if "quality" not in found:
        raise StoreError(f"{store.url} is not the group of a mosaic", url=store.url)
    return found


def _shard_side(pixels: zarr.Array[Any]) -> int:
    return int((pixels.shards or pixels.chunks)[0])


def _is_region(url: str) -> bool:
    return bool(REGION_PARTS & set(objects.names(url)))
