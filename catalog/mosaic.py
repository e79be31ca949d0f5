"""The Zarr store: create a slot once, write whole shards, verify, open for reading.

    {store}/{region}/collection.json                        written by `publish`
    {store}/{region}/items/{slot}.json                      written by `publish`; the commit
    {store}/{region}/slots/{slot}/{generation}.zarr/        the pixels
    {store}/{region}/slots/{slot}/{generation}.receipts/    one small object per finished shard
    {store}/{region}/slots/{slot}/{generation}.shards.json  which shards a published day has
    {store}/{region}/slots/{slot}/{generation}.estimate.npz what a rerun need not estimate again

Local paths and s3:// URLs go through the same code. One shard, one task, one write: no two tasks
ever touch the same object, so nothing is locked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import FsspecStore, LocalStore

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice, Shard
from catalog.slot_layout import QUALITY, create_group

REGION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
ITEM_ASSET = "mosaic"


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
        attrs: Mapping[str, Any],
    ) -> None:
        """Write the metadata and coordinates of the group, if that has not been done.

        Repeating it, or two runs doing it at once, is harmless: the bytes are the same and no
        pixel is touched. `attrs` are added to the group's attributes and must be JSON values.

        Raises StoreError.
        """
        day = date.fromisoformat(self.slot)
        with objects.store_errors("create", self.url):
            create_group(_zarr_store(self.url), lattice, day, optical_bands, sar_bands, attrs)

    def write_shard(self, shard: Shard, arrays: Mapping[str, NDArray[Any]]) -> Receipt:
        """Write one shard of every variable, read it back, and leave a receipt.

        `arrays` holds every variable of the store by name, each (H, W) of the shard's window.

        Raises ArgumentError when variables or shapes are not those of the store, StoreError when
        writing fails or the shard does not read back as written; there is no receipt then.
        """
        group = self.open_group("r+")
        pixels = {name: array for name, array in group.arrays() if array.ndim == 2}
        _check_variables(arrays, pixels, shard)
        with ThreadPoolExecutor(len(arrays)) as threads:  # most of the time is waiting for answers
            written = [
                threads.submit(self._write_variable, pixels[name], name, shard, values)
                for name, values in arrays.items()
            ]
        checksums = dict(zip(arrays, [each.result() for each in written], strict=True))
        receipt = Receipt(shard.row, shard.col, checksums)
        content = {"row": receipt.row, "col": receipt.col, "checksums": checksums}
        url = self._receipt_url(shard.row, shard.col)
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

    def written_shards(self) -> set[tuple[int, int]]:
        """(row, col) of the shards with a receipt. Raises StoreError."""
        receipts = (
            re.fullmatch(r"(\d+)\.(\d+)\.json", name)
            for name in objects.names(f"{self._stem}.receipts")
        )
        return {(int(match[1]), int(match[2])) for match in receipts if match}

    def load_receipt(self, row: int, col: int) -> Receipt | None:
        """The receipt of a shard, or None. Raises StoreError, also when it is damaged."""
        url = self._receipt_url(row, col)
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
        return _open_slot(self.url)

    @property
    def parts(self) -> tuple[str, ...]:
        """All that belongs to this generation, in the order in which it may be removed.

        Receipts go first: what is left of a removal that stopped is then written again.
        """
        receipts = f"{self._stem}.receipts"
        return receipts, self._shards_url, self._estimate_url, self.url

    @property
    def _stem(self) -> str:
        return objects.join(self.region_url, "slots", self.slot, self.generation)

    def _receipt_url(self, row: int, col: int) -> str:
        return f"{self._stem}.receipts/{row}.{col}.json"

    @property
    def _shards_url(self) -> str:
        return f"{self._stem}.shards.json"

    @property
    def _estimate_url(self) -> str:
        return f"{self._stem}.estimate.npz"

    def open_group(self, mode: Literal["r", "r+"]) -> zarr.Group:
        """The Zarr group of this generation. Raises StoreError."""
        with objects.store_errors("open", self.url):
            return zarr.open_group(_zarr_store(self.url), mode=mode, zarr_format=3)


def open_mosaic(url: str | os.PathLike[str]) -> xr.Dataset:
    """The published mosaics of a region, `{store}/{region}`: dims (time, y, x), lazy.

    `time` is the solar day of the slots. Variables are the optical bands by common name, the
    registered SAR polarisations, `dx`, `dy` and `expected_error` (lattice pixels) as float32 with
    NaN for no data, and `quality` as uint8 (CF flags). Slots on different extents of one pixel
    grid are brought to their union.

    Raises StoreError when nothing is published there, an item or its group is damaged, or the
    slots are on different pixel grids.
    """
    url = os.fspath(url)
    slots = [_open_slot(_group_of_item(item_url)) for item_url in _item_urls(url)]
    if not slots:
        raise StoreError(
            f"no mosaic is published at {url}; expected {{store}}/{{region}}, with items in its "
            "folder items/",
            url=url,
        )
    _require_one_grid(slots, url)
    # A scalar coordinate becomes the dimension, so every slot brings its own day.
    mosaic = xr.concat(
        [slot.expand_dims("time") for slot in slots],
        dim="time",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="drop_conflicts",
        fill_value={"quality": QUALITY.index("no_optical")},
    )
    # The union of different extents comes back in rising order, rows too.
    return mosaic if mosaic.y[0] > mosaic.y[-1] else mosaic.isel(y=slice(None, None, -1))


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


def _zarr_store(url: str) -> LocalStore | FsspecStore:
    if objects.is_local(url):
        return LocalStore(objects.filesystem(url)[1])
    return FsspecStore.from_url(url, storage_options=objects.storage_options(url))


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


def _item_urls(region_url: str) -> list[str]:
    folder = objects.join(region_url, "items")
    return [objects.join(folder, name) for name in objects.names(folder) if name.endswith(".json")]


def _group_of_item(item_url: str) -> str:
    try:
        item = json.loads(objects.get(item_url) or b"")
        return objects.resolve(item_url, item["assets"][ITEM_ASSET]["href"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{item_url} is not the item of a mosaic: {type(error).__name__}: {error}",
            url=item_url,
        ) from error


def _open_slot(group_url: str) -> xr.Dataset:
    with objects.store_errors("open", group_url):
        slot = xr.open_zarr(_zarr_store(group_url), chunks=None, decode_coords="all", zarr_format=3)
        height, width = slot["quality"].encoding["shards"]
        lazy: xr.Dataset = slot.chunk(y=height, x=width)
        return lazy


def _require_one_grid(slots: Sequence[xr.Dataset], url: str) -> None:
    first, *others = slots
    for other in others:
        a, _, c, _, e, f = other.attrs["spatial:transform"]
        a0, _, c0, _, e0, f0 = first.attrs["spatial:transform"]
        offset = np.array([(c - c0) / a0, (f - f0) / e0])
        aligned = (a, e) == (a0, e0) and np.allclose(offset, np.round(offset), atol=1e-6)
        if not aligned or other.rio.crs != first.rio.crs:
            raise StoreError(
                f"the slots at {url} are on different pixel grids; open them one by one, or run "
                "the region again with one crs and resolution",
                url=url,
            )
