"""One memory of a region in the store: its versions, written once, and the one in use.

Local paths and s3:// URLs go through the same code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice, Shard, Window
from catalog.memory.encoding import NO_DATA_CODE
from catalog.memory.layout import REFERENCE, create_version, open_field
from catalog.store.open import zarr_store
from catalog.store.slot import validated_region

MEMORY_NAME = re.compile(
    r"(?:ascending|descending)-\d{3}-(?:rtc|grd(?:-orbit)?(?:-dem)?(?:-geoid)?)-[0-9a-f]{8}"
)
VERSION = re.compile(r"[0-9a-f]{16}")
HEAD = "current.json"
CHUNK = re.compile(r".*/\d+")  # the last part of a chunk's name is a number, of no other object's


@dataclass(frozen=True)
class MemoryHead:
    """The version that is in use, the slots it has learnt from, and how many chunks it has."""

    version: str
    slots: tuple[str, ...]
    chunks: int


@dataclass(frozen=True)
class MemoryStore:
    """The memory of one geometry in a region, wherever the store is. Holds no connection."""

    store_url: str
    region: str
    name: str

    def __post_init__(self) -> None:
        validated_region(self.region)
        if not MEMORY_NAME.fullmatch(self.name):
            raise ArgumentError(
                f"name: a memory is named like ascending-064-grd-1a2b3c4d, not {self.name!r}",
                argument="name",
            )

    @property
    def url(self) -> str:
        """The folder of this memory."""
        return objects.join(memory_url(self.store_url, self.region), self.name)

    def version_url(self, version: str) -> str:
        """The Zarr group of a version. Raises ArgumentError for what is no version's name."""
        if not VERSION.fullmatch(version):
            raise ArgumentError(
                f"version: {version!r} is not 16 hexadecimal digits", argument="version"
            )
        return objects.join(self.url, f"{version}.zarr")

    def head(self) -> MemoryHead | None:
        """The version in use, None before the first. Raises StoreError, also when damaged."""
        url = objects.join(self.url, HEAD)
        if (content := objects.get(url)) is None:
            return None
        try:
            told = json.loads(content)
            slots = tuple(date.fromisoformat(slot).isoformat() for slot in told["slots"])
            self.version_url(told["version"])
            return MemoryHead(told["version"], slots, int(told["chunks"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{url} does not tell a memory's version: {type(error).__name__}: {error}", url=url
            ) from error

    def create(
        self, version: str, field: xr.Dataset, lattice: Lattice, attrs: Mapping[str, Any]
    ) -> None:
        """Write a version's field, and its reference without pixels, if not done yet.

        `field` has the variables of `encoding.VARIABLES` over `day`, `node_y` and `node_x`, with
        the coordinates `day` (days, at least one), `generation` (day), `node_y` and `node_x`
        (pixels of the lattice). `attrs` are added to the group's attributes and must be JSON
        values. Repeating it is harmless: the bytes are the same.

        Raises ArgumentError for a field that cannot be kept, StoreError.
        """
        url = self.version_url(version)
        with objects.store_errors("create", url):
            create_version(zarr_store(url), field, lattice, attrs)

    def load_field(self, version: str) -> xr.Dataset:
        """A version's field, in memory, as `create` took it: `day` as text, values as float64.

        Values are rounded to the steps of `encoding`. Raises StoreError.
        """
        url = self.version_url(version)
        with objects.store_errors("read", url):
            field = open_field(zarr_store(url)).load()
            days = field["day"].values.astype("datetime64[D]").astype("<U10")
            return field.assign_coords(day=("day", days))

    def write_reference(self, version: str, shard: Shard, codes: NDArray[np.uint8]) -> None:
        """Write one shard of `reference_lattice(lattice)`, and read it back.

        `codes` are uint8 (H, W) of the shard's window, of `encoding.codes_from_db`.

        Raises ArgumentError for another shape or type, StoreError when writing fails or the shard
        does not read back as written.
        """
        if codes.shape != shard.window.shape or codes.dtype != np.uint8:
            raise ArgumentError(
                f"codes: shard {shard.row}.{shard.col} is uint8 {shard.window.shape}, not "
                f"{codes.dtype} {codes.shape}",
                argument="codes",
            )
        url = self.version_url(version)
        with objects.store_errors(f"write shard {shard.row}.{shard.col} of", url):
            stored = self._reference(version, "r+")
            stored[shard.window.slices] = codes
            found = np.asarray(stored[shard.window.slices])
        if not np.array_equal(found, codes):
            raise StoreError(
                f"shard {shard.row}.{shard.col} of {url} does not read back as written; the "
                "storage is faulty, or another program writes there",
                url=url,
            )

    def read_reference(self, version: str, window: Window) -> NDArray[np.uint8]:
        """The codes (H, W) of a window of `reference_lattice(lattice)`, which it may leave.

        0 where nothing is known, was written, or is. Raises StoreError.
        """
        with objects.store_errors("read", self.version_url(version)):
            return window.cut(self._reference(version, "r"), NO_DATA_CODE)

    def commit(self, version: str, slots: Iterable[str]) -> None:
        """Make a complete version the one in use: it has learnt from these slots.

        Raises ArgumentError for a slot that is no day, StoreError where the version is not there.
        """
        url = self.version_url(version)
        found = [entry.name for entry in objects.entries(url)]
        if "zarr.json" not in found:
            raise StoreError(f"{url} was not created, so it cannot be committed", url=url)
        try:
            days = [date.fromisoformat(slot).isoformat() for slot in slots]
        except ValueError as error:
            raise ArgumentError(f"slots: {error}", argument="slots") from error
        told = {"version": version, "slots": days, "chunks": count_chunks(found)}
        objects.put(objects.join(self.url, HEAD), json.dumps(told, sort_keys=True).encode())

    def _reference(self, version: str, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
        store = zarr_store(self.version_url(version))
        return zarr.open_array(store, path=f"{REFERENCE}/sar", mode=mode, zarr_format=3)


def memory_url(store_url: str, region: str) -> str:
    """The folder of a region's memories."""
    return objects.join(store_url, region, "memory")


def memory_names(store_url: str, region: str) -> list[str]:
    """The memories of a region, those without a committed version too. Raises StoreError."""
    found = objects.names(memory_url(store_url, region))
    return [name for name in found if MEMORY_NAME.fullmatch(name)]


def count_chunks(object_names: Iterable[str]) -> int:
    """How many of these objects of a version are chunks of its arrays."""
    return sum(CHUNK.fullmatch(name) is not None for name in object_names)
