"""Mending a day in its place: what cannot be read as it was written may be written again.

Whatever a generation holds is determined by its name, so what is written anew has the same bits as
before. Every object is put in one step: a reader gets an error before and the pixels after it, and
of what is sound no byte is touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from catalog import objects
from catalog.grid import Lattice
from catalog.store.layout import create_group, overview_factors
from catalog.store.schema import SlotSchema
from catalog.store.slot import SlotStore
from catalog.store.upkeep import description_faults, unsound_shards


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
