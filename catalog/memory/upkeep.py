"""Looking after memories: their versions, whether the one in use reads, what may go.

Runs follow `current.json`, so a version that it no longer names is used by no later one. A run
that began before may still read it, and one that is writing the next has not named it yet; so only
what has been left alone for a while counts as superseded. Nothing here runs by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import zarr

from catalog import objects
from catalog.errors import StoreError
from catalog.memory.store import HEAD, MemoryStore, count_chunks, memory_names
from catalog.store.open import zarr_store

IN_VERSION = re.compile(r"([0-9a-f]{16})\.zarr/(.+)")


@dataclass(frozen=True)
class Version:
    """One version of one memory: what it holds, and whether it is the one in use."""

    store: MemoryStore
    version: str
    current: bool
    objects: int
    bytes: int
    touched: datetime
    """When an object of it, or what names the version in use, was last written, UTC."""


def versions(store_url: str, region: str) -> list[Version]:
    """Every version of every memory of a region, by memory and name. Raises StoreError."""
    found = []
    for name in memory_names(store_url, region):
        found += _versions_of(MemoryStore(store_url, region, name))
    return found


def superseded(
    found: Sequence[Version], older_than: timedelta, now: datetime | None = None
) -> list[Version]:
    """Versions not in use; neither they nor what names the one in use changed since then."""
    before = (now or datetime.now(UTC)) - older_than
    return [each for each in found if not each.current and each.touched <= before]


def remove(version: Version, older_than: timedelta) -> bool:
    """Delete a version unless it came into use since it was listed; says whether it did.

    Raises StoreError.
    """
    again = superseded(_versions_of(version.store), older_than)
    if version.version not in [each.version for each in again]:
        return False
    objects.remove_tree(version.store.version_url(version.version))
    return True


def verify(store: MemoryStore) -> list[str]:
    """What is wrong with the version in use: every array is read. Nothing where none is in use.

    What cannot be read is a fault too, not an exception.
    """
    try:
        if (head := store.head()) is None:
            return []
        url = store.version_url(head.version)
        faults = list(_array_faults(url))
        chunks = count_chunks(entry.name for entry in objects.entries(url))
        if chunks < head.chunks:
            faults.append(f"{head.chunks - chunks} of its {head.chunks} chunks are missing")
    except StoreError as error:
        return [str(error)]
    return faults


def _versions_of(store: MemoryStore) -> list[Version]:
    head, named = store.head(), []
    members: dict[str, list[objects.Entry]] = {}
    for entry in objects.entries(store.url):
        if entry.name == HEAD:
            named = [entry]
        elif match := IN_VERSION.fullmatch(entry.name):
            members.setdefault(match[1], []).append(entry)
    return [
        Version(
            store,
            version,
            head is not None and version == head.version,
            len(entries),
            sum(entry.bytes for entry in entries),
            max(entry.modified for entry in entries + named),
        )
        for version, entries in sorted(members.items())
    ]


def _array_faults(url: str) -> Iterator[str]:
    with objects.store_errors("open", url):
        group = zarr.open_group(zarr_store(url), mode="r", zarr_format=3)
        found = sorted(group.members(max_depth=None))
    for name, array in found:
        if isinstance(array, zarr.Array):
            yield from _decoding_faults(name, array, url)


def _decoding_faults(name: str, array: zarr.Array[Any], url: str) -> Iterator[str]:
    """Read an array row of chunks by row of chunks."""
    rows = array.chunks[0] if array.ndim else 1
    try:
        with objects.store_errors(f"read {name} of", url):
            for start in range(0, array.shape[0] if array.ndim else 1, rows):
                np.asarray(array[start : start + rows] if array.ndim else array[...])
    except StoreError as error:
        yield str(error)
