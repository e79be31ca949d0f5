"""One day of a region in the store: what belongs to it, where that lies, and opening it.

    {store}/{region}/collection.json                        written by `publish`
    {store}/{region}/items/{slot}.json                      written by `publish`; the commit
    {store}/{region}/slots/{slot}/{generation}.zarr/        the pixels
    {store}/{region}/slots/{slot}/{generation}.receipts/    one small object per finished shard,
                                                            those of overviews in overviews/{factor}
    {store}/{region}/slots/{slot}/{generation}.shards.json  which shards a published day has
    {store}/{region}/slots/{slot}/{generation}.estimate.npz what a rerun need not estimate again

Local paths and s3:// URLs go through the same code.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import xarray as xr
import zarr

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice
from catalog.store.days import item_url
from catalog.store.layout import create_group, declared_factors, level_path
from catalog.store.open import open_slot, zarr_store
from catalog.store.receipts import (
    Receipt,
    load_receipt,
    receipt_url,
    receipts_url,
    sealed_shards,
    shards_url,
)
from catalog.store.schema import SlotSchema

REGION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class SlotStore:
    """One generation of one slot of a region, wherever the store is. Holds no connection."""

    store_url: str
    region: str
    slot: str
    generation: str

    def __post_init__(self) -> None:
        validated_region(self.region)
        try:
            date.fromisoformat(self.slot)
        except ValueError as error:
            raise ArgumentError(
                f"slot must be a day like 2020-11-04, not {self.slot!r}", argument="slot"
            ) from error

    @property
    def region_url(self) -> str:
        """Where the region's collection, items and slots lie; what `open_mosaic` takes."""
        return objects.join(self.store_url, self.region)

    @property
    def url(self) -> str:
        """The Zarr group of this generation."""
        return f"{self._stem}.zarr"

    @property
    def item_url(self) -> str:
        """The STAC item that publishes a generation of this slot."""
        return item_url(self.region_url, self.slot)

    @property
    def item_href(self) -> str:
        """The Zarr group, relative to the item."""
        return f"../slots/{self.slot}/{self.generation}.zarr"

    def create(self, lattice: Lattice, schema: SlotSchema, attrs: Mapping[str, Any]) -> None:
        """Write the metadata and coordinates of the group and its overviews, if not done yet.

        Repeating it, or two runs doing it at once, is harmless: the bytes are the same and no
        pixel is touched. `attrs` are added to the group's attributes and must be JSON values.

        Raises StoreError.
        """
        day = date.fromisoformat(self.slot)
        with objects.store_errors("create", self.url):
            create_group(zarr_store(self.url), lattice, day, schema, attrs)

    def written_shards(self, factor: int = 1) -> set[tuple[int, int]]:
        """(row, col) of the shards of a level with a receipt. Raises StoreError."""
        receipts = (
            re.fullmatch(r"(\d+)\.(\d+)\.json", name)
            for name in objects.names(receipts_url(self.url, factor))
        )
        return {(int(match[1]), int(match[2])) for match in receipts if match}

    def save_receipt(self, receipt: Receipt, factor: int = 1) -> None:
        """Keep the receipt of a shard of a level. Raises StoreError."""
        url = receipt_url(self.url, receipt.row, receipt.col, factor)
        objects.put(url, json.dumps(asdict(receipt), sort_keys=True).encode())

    def load_receipt(self, row: int, col: int, factor: int = 1) -> Receipt | None:
        """The receipt of a shard, or None. Raises StoreError, also when it is damaged."""
        return load_receipt(self.url, row, col, factor)

    def forget_receipt(self, row: int, col: int, factor: int = 1) -> None:
        """Remove the receipt of a shard, which then counts as not written. Raises StoreError."""
        objects.remove(receipt_url(self.url, row, col, factor))

    def seal(self, known: Iterable[tuple[int, int]] = ()) -> None:
        """Keep the list of the shards written so far, so that a lost one is missed.

        Of `known`, (row, col), too, which a listing that is behind may not tell yet. Raises
        StoreError.
        """
        shards = sorted(self.written_shards() | set(known))
        objects.put(shards_url(self.url), json.dumps(shards).encode())

    def sealed_shards(self) -> set[tuple[int, int]] | None:
        """(row, col) of the shards this generation was published with; None if never sealed.

        Raises StoreError, also when the list is damaged.
        """
        return sealed_shards(self.url)

    def save_estimate(self, content: bytes) -> None:
        """Keep what was estimated for this slot. Raises StoreError."""
        objects.put(self._estimate_url, content)

    def load_estimate(self) -> bytes | None:
        """What `save_estimate` kept, or None. Raises StoreError."""
        return objects.get(self._estimate_url)

    def open(self) -> xr.Dataset:
        """This generation, published or not: dims (y, x), lazy, chunks of one shard.

        Raises StoreError.
        """
        return open_slot(self.url)

    def open_group(self, mode: Literal["r", "r+"], factor: int = 1) -> zarr.Group:
        """The Zarr group of this generation, or of one of its overviews. Raises StoreError."""
        with objects.store_errors("open", self.url):
            return zarr.open_group(
                zarr_store(self.url), path=level_path(factor), mode=mode, zarr_format=3
            )

    def pixels(self, mode: Literal["r", "r+"], factor: int = 1) -> dict[str, zarr.Array[Any]]:
        """Every variable of pixels (H, W) of a level by name, unread. Raises StoreError."""
        group = self.open_group(mode, factor)
        with objects.store_errors("open", self.url):
            return {name: array for name, array in sorted(group.arrays()) if array.ndim == 2}

    def overview_factors(self) -> list[int]:
        """The overview levels that the group declares, the finest first. Raises StoreError."""
        with objects.store_errors("open", self.url):
            return declared_factors(self.open_group("r").attrs.asdict())

    @property
    def parts(self) -> tuple[str, ...]:
        """All that belongs to this generation, in the order in which it may be removed.

        Receipts go first: what is left of a removal that stopped is then written again. The list
        of shards goes last: as long as it is there, it tells that all was published once.
        """
        return receipts_url(self.url, 1), self._estimate_url, self.url, shards_url(self.url)

    @property
    def _stem(self) -> str:
        return objects.join(self.region_url, "slots", self.slot, self.generation)

    @property
    def _estimate_url(self) -> str:
        return f"{self._stem}.estimate.npz"


def check_writable(store_url: str) -> None:
    """Raise StoreError unless objects can be put into the store.

    Leaves nothing behind, and makes no folders: where the store does not exist yet, its nearest
    existing parent has to be writable.
    """
    if objects.is_local(store_url):
        folder = Path(objects.filesystem(store_url)[1])
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise StoreError(
                f"the store {store_url} cannot be written: {folder} is not a folder",
                url=store_url,
            )
        trial = str(folder / f".writable-{uuid.uuid4().hex}")
    else:
        trial = objects.join(store_url, f".writable-{uuid.uuid4().hex}")
    try:
        objects.put(trial, b"")
        objects.remove(trial)
    except StoreError as error:
        raise StoreError(
            f"the store {store_url} cannot be written: {error.__cause__}", url=store_url
        ) from error


def validated_region(region: str) -> str:
    """The name itself, or an ArgumentError: region names become folder names and STAC ids."""
    if not REGION_NAME.fullmatch(region):
        raise ArgumentError(
            f"region {region!r} is not a usable name; use lower-case letters, digits, '-' and "
            "'_', beginning with a letter or digit",
            argument="region",
        )
    return region
