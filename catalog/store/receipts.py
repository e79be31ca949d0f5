"""What was written of a day, and readers held to it: a chunk that is lost is an error, not no data.

    {generation}.receipts/{row}.{col}.json    a receipt: the shard was written and read back
    {generation}.shards.json                  which shards the day was published with

Zarr stores no chunk of nothing but no data, and reads one that is not there as just that. Receipts
tell the two apart. They are looked into only where a chunk is not there, once a shard, so whoever
reads pixels that are there pays nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import WrapperStore

from catalog import objects
from catalog.errors import StoreError
from catalog.store.layout import FIRST_FACTOR, level_path

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

CHUNK = re.compile(r"(?:overviews/(?P<factor>\d+)/)?(?P<name>\w+)/(?:c/)?(?P<row>\d+)/(?P<col>\d+)")
Place = tuple[int, int]

_S = TypeVar("_S", bound="Store")


@dataclass(frozen=True)
class Receipt:
    """Proof that a shard was written and read back: a checksum per variable."""

    row: int
    col: int
    checksums: Mapping[str, str]


def receipts_url(group_url: str, factor: int) -> str:
    """Where the receipts of a level of a generation lie."""
    return objects.join(f"{_stem(group_url)}.receipts", level_path(factor)).rstrip("/")


def receipt_url(group_url: str, row: int, col: int, factor: int) -> str:
    """Where the receipt of a shard lies."""
    return objects.join(receipts_url(group_url, factor), f"{row}.{col}.json")


def shards_url(group_url: str) -> str:
    """Where the list of the shards lies that a generation was published with."""
    return f"{_stem(group_url)}.shards.json"


def load_receipt(group_url: str, row: int, col: int, factor: int = 1) -> Receipt | None:
    """The receipt of a shard, or None. Raises StoreError, also when it is damaged."""
    url = receipt_url(group_url, row, col, factor)
    if (content := objects.get(url)) is None:
        return None
    try:
        return Receipt(row, col, dict(json.loads(content)["checksums"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{url} is not a receipt: {error}", url=url) from error


def sealed_shards(group_url: str) -> set[Place] | None:
    """(row, col) of the shards a generation was published with; None if never sealed.

    Raises StoreError, also when the list is damaged.
    """
    url = shards_url(group_url)
    if (content := objects.get(url)) is None:
        return None
    try:
        return {(int(row), int(col)) for row, col in json.loads(content)}
    except (ValueError, TypeError) as error:
        raise StoreError(f"{url} is not a list of shards: {error}", url=url) from error


def checksum(values: NDArray[Any]) -> str:
    """What a receipt says of a stored array: 32 hexadecimal digits, equal for equal bits."""
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


class Receipts:
    """The receipts of a generation, each read when it is first asked for."""

    def __init__(self, group_url: str) -> None:
        self.group_url = group_url
        self._published: dict[int, set[Place] | None] = {}
        self._receipts: dict[tuple[int, Place], Receipt | None] = {}

    def tell_of_pixels(
        self, array: zarr.Array[Any], name: str, place: Place, factor: int = 1
    ) -> bool:
        """Whether a variable's chunk at (row, col), which is not there, was more than no data.

        `array` is the variable, (H, W). Raises StoreError when receipts cannot be read.
        """
        published = self._shards(factor)
        if published is not None and place not in published:
            return False  # nothing of the day touches it
        if (factor, place) not in self._receipts:
            self._receipts[factor, place] = load_receipt(self.group_url, *place, factor)
        receipt = self._receipts[factor, place]
        if receipt is None:
            return published is not None
        height, width = array.shards or array.chunks
        rows = min(height, array.shape[0] - place[0] * height)
        columns = min(width, array.shape[1] - place[1] * width)
        fill = np.asarray(array.fill_value, array.dtype)
        empty = _checksum_of_empty((rows, columns), array.dtype.str, fill.tobytes())
        return receipt.checksums.get(name) != empty

    def _shards(self, factor: int) -> set[Place] | None:
        """The shards of a level that are there for sure; None in a day that is not published."""
        if 1 not in self._published:
            self._published[1] = sealed_shards(self.group_url)
        if factor not in self._published:
            below = self._shards(1 if factor == FIRST_FACTOR else factor // 2)
            step = FIRST_FACTOR if factor == FIRST_FACTOR else 2
            self._published[factor] = below and {(row // step, col // step) for row, col in below}
        return self._published[factor]


class ReceiptedStore(WrapperStore[_S]):
    """The store of a day's group as readers have it: a chunk of pixels that is lost is an error."""

    _supports_sync_io = False  # of Zarr from 3.2 on: every chunk comes through `get`

    def __init__(self, store: _S, receipts: Receipts) -> None:
        super().__init__(store)
        self._receipts = receipts
        self._root: zarr.Group | None = None

    def _with_store(self, store: _S) -> ReceiptedStore[_S]:
        return ReceiptedStore(store, self._receipts)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """As Zarr asks for it; raises StoreError for a chunk that is lost."""
        found = await self._store.get(key, prototype, byte_range)
        if found is None and (chunk := CHUNK.fullmatch(key)):
            await asyncio.to_thread(self._require_empty, key, chunk)
        return found

    def _require_empty(self, key: str, chunk: re.Match[str]) -> None:
        factor, place = int(chunk["factor"] or 1), (int(chunk["row"]), int(chunk["col"]))
        url = self._receipts.group_url
        if self._root is None:
            with objects.store_errors("open", url):
                self._root = zarr.open_group(self._store, mode="r", zarr_format=3)
        array = self._root[f"{level_path(factor)}/{chunk['name']}".lstrip("/")]
        assert isinstance(array, zarr.Array)
        if self._receipts.tell_of_pixels(array, chunk["name"], place, factor):
            raise StoreError(
                f"{url}/{key} is missing: pixels were written there; `tar-pipeline verify` names "
                "all that is lost, and the run that made the day, with --remake, mends it",
                url=url,
            )


def _stem(group_url: str) -> str:
    return group_url.rstrip("/").removesuffix(".zarr")


@lru_cache(maxsize=64)
def _checksum_of_empty(shape: tuple[int, int], dtype: str, fill: bytes) -> str:
    return checksum(np.full(shape, np.frombuffer(fill, dtype)[0]))
