"""Opening what a region remembers, for analysts: nothing is read but metadata."""

from __future__ import annotations

import os

import xarray as xr

from catalog import objects
from catalog.errors import StoreError
from catalog.memory.layout import REFERENCE, open_field, open_reference
from catalog.memory.store import MemoryStore, memory_names
from catalog.store.open import zarr_store


def open_memory(url: str | os.PathLike[str]) -> xr.DataTree:
    """What a region, `{store}/{region}`, remembers of its viewing geometries: a lazy tree.

    Each child is one memory, named like "ascending-064-grd-1a2b3c4d" by direction, relative orbit,
    what is done about relief, and lattice. It shows the version in use: `dx` and `dy` (node_y,
    node_x) are the displacement of the ground, SAR position minus optical position, `error` one
    sigma of its length, all in pixels of the lattice, NaN where nothing is known; `count` is how
    many days know a node. `day_dx`, `day_dy` and `day_error` (day, node_y, node_x) are what single
    days found, those that were kept, `remainder_dx` and `remainder_dy` (day) what a pass had beyond
    the ground, `optical_dx` and `optical_dy` what the optical image of that day had. Nodes have
    their place in pixels (`node_y`, `node_x`) and in the CRS (`y`, `x`). The attribute `slots`
    lists all days that were learnt from, `version` names it.

    Its child `reference` holds `sar` (y, x), the despeckled image of that geometry in decibels,
    with pixels of 2 x 2 of the lattice.

    Raises StoreError where a region remembers nothing, or what it remembers cannot be opened.
    """
    url = os.fspath(url).rstrip("/")
    store_url, _, region = url.rpartition("/")
    tree: dict[str, xr.Dataset] = {}
    for name in memory_names(store_url or ".", region):
        memory = MemoryStore(store_url or ".", region, name)
        if (head := memory.head()) is None:
            continue
        group = memory.version_url(head.version)
        with objects.store_errors("open", group):
            field = open_field(zarr_store(group))
            reference = open_reference(zarr_store(group))
        tree[name] = field.assign_attrs(version=head.version, slots=list(head.slots))
        tree[f"{name}/{REFERENCE}"] = reference
    if not tree:
        raise StoreError(
            f"nothing is remembered at {url}; expected {{store}}/{{region}}, with memories in its "
            "folder memory/",
            url=url,
        )
    return xr.DataTree.from_dict(tree)
