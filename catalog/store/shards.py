"""Writing a shard: every variable in one go, read back, and a receipt when all is as it should be.

One shard, one task, one write: no two tasks ever touch the same object, so nothing is locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Shard
from catalog.store.receipts import Receipt, checksum
from catalog.store.schema import stored_values
from catalog.store.slot import SlotStore


def write_shard(store: SlotStore, shard: Shard, pixels: xr.Dataset, factor: int = 1) -> Receipt:
    """Write one shard of every variable, read it back, and leave a receipt.

    `pixels` holds every variable of the slot's schema, dims (y, x), on the shard's window.
    `factor` names the overview level whose shard it is, 1 the lattice itself.

    Raises ArgumentError when variables, types or shapes are not those of the store, StoreError
    when writing fails or the shard does not read back as written; there is no receipt then.
    """
    stored = store.pixels("r+", factor)
    arrays = {str(name): variable.values for name, variable in pixels.items()}
    _check_variables(arrays, stored, shard)
    with ThreadPoolExecutor(len(stored)) as threads:  # most of the time is waiting for answers
        written = {
            name: threads.submit(_write_variable, store, stored[name], name, shard, values)
            for name, values in arrays.items()
        }
    checksums = {name: each.result() for name, each in written.items()}
    receipt = Receipt(shard.row, shard.col, checksums)
    store.save_receipt(receipt, factor)
    return receipt


def _check_variables(
    arrays: Mapping[str, NDArray[Any]], stored: Mapping[str, zarr.Array[Any]], shard: Shard
) -> None:
    if set(arrays) != set(stored):
        raise ArgumentError(
            f"a shard needs the variables {', '.join(sorted(stored))}, not "
            f"{', '.join(sorted(arrays))}",
            argument="pixels",
        )
    for name, values in arrays.items():
        if values.shape != shard.window.shape:
            raise ArgumentError(
                f"{name} has shape {values.shape}, but shard {shard.row}.{shard.col} is "
                f"{shard.window.shape}",
                argument="pixels",
            )
        packed = "scale_factor" in stored[name].attrs
        expected = np.dtype(np.float32) if packed else stored[name].dtype
        if values.dtype != expected:
            raise ArgumentError(
                f"{name} is {values.dtype}, but {expected} in the store", argument="pixels"
            )


def _write_variable(
    store: SlotStore, stored: zarr.Array[Any], name: str, shard: Shard, values: NDArray[Any]
) -> str:
    """Write a shard of one variable, read it back, and return its checksum."""
    written = stored_values(values, stored.dtype, stored.attrs)
    with objects.store_errors(f"write shard {shard.row}.{shard.col} of {name} in", store.url):
        stored[shard.window.slices] = written
        found = np.asarray(stored[shard.window.slices])
    expected = checksum(written)
    if checksum(found) != expected:
        raise StoreError(
            f"shard {shard.row}.{shard.col} of {name} in {store.url} does not read back "
            "as written; the storage is faulty, or another program writes there",
            url=store.url,
        )
    return expected
