"""The Zarr store: create a slot once, write whole shards, read them back.

    {store}/{region}/collection.json                        written by `publish`
    {store}/{region}/items/{slot}.json                      written by `publish`; the commit
    {store}/{region}/slots/{slot}/{generation}.zarr/        the pixels
    {store}/{region}/slots/{slot}/{generation}.receipts/    one small object per finished shard,
                                                            those of overviews in overviews/{factor}
    {store}/{region}/slots/{slot}/{generation}.shards.json  which shards a published day has
    {store}/{region}/slots/{slot}/{generation}.estimate.npz what a rerun need not estimate again

Local paths and s3:// URLs go through the same code. One shard, one task, one write: no two tasks
ever touch the same object, so nothing is locked.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice, Shard
from catalog.store.layout import (
    MULTISCALES,
    Variable,
    create_group,
    level_path,
    pixel_variables,
)
from catalog.store.open import open_slot, zarr_store

REGION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Receipt:
    """Proof that a shard was written and read back: a checksum per variable."""

    row: int
    col: int
    checksums: Mapping[str, str]


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
        return objects.join(self.region_url, "items", f"{self.slot}.json")

    @property
    def item_href(self) -> str:
        """The Zarr group, relative to the item."""
        return f"../slots/{self.slot}/{self.generation}.zarr"

    def create(
        self,
        lattice: Lattice,
        optical_bands: Sequence[str],
        sar_bands: Sequence[str],
        sar_scenes: Mapping[str, datetime],
        attrs: Mapping[str, Any],
        *,
        classes: bool = False,
    ) -> None:
        """Write the metadata and coordinates of the group and its overviews, if not done yet.

        Repeating it, or two runs doing it at once, is harmless: the bytes are the same and no
        pixel is touched. `sar_scenes` are ids and sensing times in the order in which the variable
        `sar_scene` counts them from 1. `attrs` are added to the group's attributes and must be
        JSON values. `classes` is for mosaics that tell what their optical pixels show.

        Raises StoreError.
        """
        day = date.fromisoformat(self.slot)
        variables = pixel_variables(optical_bands, sar_bands, tuple(sar_scenes), classes)
        with objects.store_errors("create", self.url):
            create_group(zarr_store(self.url), lattice, day, variables, sar_scenes, attrs)

    def write_shard(
        self, shard: Shard, arrays: Mapping[str, NDArray[Any]], factor: int = 1
    ) -> Receipt:
        """Write one shard of every variable, read it back, and leave a receipt.

        `arrays` holds every variable of the store by name, each (H, W) of the shard's window.
        `factor` names the overview level whose shard it is, 1 the lattice itself.

        Raises ArgumentError when variables or shapes are not those of the store, StoreError when
        writing fails or the shard does not read back as written; there is no receipt then.
        """
        pixels = self.pixels("r+", factor)
        _check_variables(arrays, pixels, shard)
        with ThreadPoolExecutor(len(arrays)) as threads:  # most of the time is waiting for answers
            written = [
                threads.submit(self._write_variable, pixels[name], name, shard, values)
                for name, values in arrays.items()
            ]
        checksums = dict(zip(arrays, [each.result() for each in written], strict=True))
        receipt = Receipt(shard.row, shard.col, checksums)
        content = {"row": receipt.row, "col": receipt.col, "checksums": checksums}
        url = self._receipt_url(shard.row, shard.col, factor)
        objects.put(url, json.dumps(content, sort_keys=True).encode())
        return receipt

    def _write_variable(
        self, pixels: zarr.Array[Any], name: str, shard: Shard, values: NDArray[Any]
    ) -> str:
        """Write a shard of one variable, read it back, and return its checksum."""
        written = _canonical(values, pixels.dtype)
        with objects.store_errors(f"write shard {shard.row}.{shard.col} of {name} in", self.url):
            pixels[shard.window.slices] = written
            found = np.asarray(pixels[shard.window.slices])
        expected = checksum(written)
        if checksum(found) != expected:
            raise StoreError(
                f"shard {shard.row}.{shard.col} of {name} in {self.url} does not read back "
                "as written; the storage is faulty, or another program writes there",
                url=self.url,
            )
        return expected

    def written_shards(self, factor: int = 1) -> set[tuple[int, int]]:
        """(row, col) of the shards of a level with a receipt. Raises StoreError."""
        receipts = (
            re.fullmatch(r"(\d+)\.(\d+)\.json", name)
            for name in objects.names(self._receipts_url(factor))
        )
        return {(int(match[1]), int(match[2])) for match in receipts if match}

    def load_receipt(self, row: int, col: int, factor: int = 1) -> Receipt | None:
        """The receipt of a shard, or None. Raises StoreError, also when it is damaged."""
        url = self._receipt_url(row, col, factor)
        if (content := objects.get(url)) is None:
            return None
        try:
            return Receipt(row, col, dict(json.loads(content)["checksums"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{url} is not a receipt: {error}", url=url) from error

    def seal(self) -> None:
        """Keep the list of the shards written so far, so that a lost one is missed. Raises
        StoreError."""
        objects.put(self._shards_url, json.dumps(sorted(self.written_shards())).encode())

    def sealed_shards(self) -> set[tuple[int, int]] | None:
        """(row, col) of the shards this generation was published with; None if never sealed.

        Raises StoreError, also when the list is damaged.
        """
        if (content := objects.get(self._shards_url)) is None:
            return None
        try:
            return {(int(row), int(col)) for row, col in json.loads(content)}
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{self._shards_url} is not a list of shards: {error}", url=self._shards_url
            ) from error

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

    @property
    def parts(self) -> tuple[str, ...]:
        """All that belongs to this generation, in the order in which it may be removed.

        Receipts go first: what is left of a removal that stopped is then written again.
        """
        return self._receipts_url(1), self._shards_url, self._estimate_url, self.url

    @property
    def _stem(self) -> str:
        return objects.join(self.region_url, "slots", self.slot, self.generation)

    def _receipts_url(self, factor: int) -> str:
        return objects.join(f"{self._stem}.receipts", level_path(factor)).rstrip("/")

    def _receipt_url(self, row: int, col: int, factor: int) -> str:
        return objects.join(self._receipts_url(factor), f"{row}.{col}.json")

    @property
    def _shards_url(self) -> str:
        return f"{self._stem}.shards.json"

    @property
    def _estimate_url(self) -> str:
        return f"{self._stem}.estimate.npz"

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

    def variables(self) -> tuple[Variable, ...]:
        """What the group holds per pixel, by name. Raises StoreError."""
        return tuple(
            Variable(name, str(array.dtype), array.fill_value, array.attrs.asdict())
            for name, array in self.pixels("r").items()
        )

    def overview_factors(self) -> tuple[int, ...]:
        """The overview levels that the group declares, 2 first. Raises StoreError."""
        with objects.store_errors("open", self.url):
            attrs: dict[str, Any] = self.open_group("r").attrs.asdict()
            layout = attrs.get(MULTISCALES, {}).get("layout", [])
            return tuple(int(level["asset"].rpartition("/")[2]) for level in layout[1:])


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


def _check_variables(
    arrays: Mapping[str, NDArray[Any]], pixels: Mapping[str, Any], shard: Shard
) -> None:
    if set(arrays) != set(pixels):
        raise ArgumentError(
            f"a shard needs the variables {', '.join(sorted(pixels))}, not "
            f"{', '.join(sorted(arrays))}",
            argument="arrays",
        )
    for name, values in arrays.items():
        if values.shape != shard.window.shape:
            raise ArgumentError(
                f"{name} has shape {values.shape}, but shard {shard.row}.{shard.col} is "
                f"{shard.window.shape}",
                argument="arrays",
            )


def _canonical(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array as the store will give it back: its dtype, and one bit pattern for every NaN.

    Chunks of nothing but NaN are not stored and read as the fill value, whatever the bits were.
    """
    cast = np.ascontiguousarray(values, dtype=dtype)
    if np.issubdtype(dtype, np.floating):
        cast = np.where(np.isnan(cast), np.array(np.nan, dtype=dtype), cast)
    return cast


def checksum(values: NDArray[Any]) -> str:
    """What a receipt says of an array: 32 hexadecimal digits, equal for equal bits."""
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()
