"""Chunks that were changed or cut short: readers get an error, and they are mended to the bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import RasterioIOError

from catalog.store.overviews import overview_shards, write_overview_shard
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from catalog.store.upkeep import forget_unsound_shards, mend_description, verify
from tests.support.slots import FEW_CHUNKS as LATTICE
from tests.support.slots import FIRST, SCHEMA, digests, published, shard_pixels

ATTRIBUTES = {"weights_sha256": "f00"}  # of `published`
Damage = Callable[[bytes], bytes]


def flipped(place: float, bit: int) -> Damage:
    """One bit turned over, so far along."""

    def damage(content: bytes) -> bytes:
        at = int(place * len(content))
        return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]

    return damage


def cut(place: float) -> Damage:
    return lambda content: content[: int(place * len(content))]


damages = st.one_of(
    st.builds(flipped, st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
    st.builds(cut, st.floats(0, 1, exclude_max=True)),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> SlotStore:
    return published(tmp_path_factory.mktemp("sound"), LATTICE, generation=FIRST)


@settings(max_examples=60)
@given(damages, st.sampled_from(["red/0/0", "vh/1/0", "dx/0/1", "quality/1/1", "x/0"]))
def test_a_reader_gets_the_pixels_or_an_error_never_noise(
    sound: SlotStore, damage: Damage, name: str
) -> None:
    variable, chunk = name.split("/", 1)[0], Path(sound.url, name)

    def read_zarr() -> np.ndarray:
        return np.asarray(zarr.open_array(sound.url, path=variable, mode="r")[...])

    def read_gdal() -> np.ndarray:
        with rasterio.open(f'ZARR:"{sound.url}":/{variable}') as raster:
            return np.asarray(raster.read(1))

    content, readers = chunk.read_bytes(), [read_zarr, *([read_gdal] if variable != "x" else [])]
    try:
        for read in readers:
            expected = read()
            chunk.write_bytes(damage(content))
            with suppress(RuntimeError, RasterioIOError):
                assert np.array_equal(read(), expected, equal_nan=True)
            chunk.write_bytes(content)
    finally:
        chunk.write_bytes(content)


def test_what_is_damaged_is_mended_to_the_bit_and_nothing_else_is_touched(tmp_path: Path) -> None:
    slot = published(tmp_path, LATTICE, generation=FIRST)
    published(tmp_path, LATTICE, seed=7, generation=FIRST, slot="2020-11-05")
    before = digests(tmp_path)
    os.utime(Path(slot.url, "vh/0/1"), (0, 0))
    damaged = {
        "red/0/0": cut(0.5), "dx/1/0": flipped(0.5, 3), "overviews/4/vh/0/0": cut(0.0),
        "zarr.json": cut(0.9), "overviews/4/y/0": flipped(0.9, 1), "y/0": cut(0.3),
    }  # fmt: skip
    for name, damage in damaged.items():
        path = Path(slot.url, name)
        path.write_bytes(damage(path.read_bytes()))
    Path(slot.url, "quality/1/1").unlink()
    untouched = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    mend_description(slot, LATTICE, SCHEMA, ATTRIBUTES)
    assert {fault.shard for fault in verify(slot).faults} == {
        "0.0", "1.0", "1.1", "overviews/4/0.0",
    }  # fmt: skip
    assert forget_unsound_shards(slot, LATTICE) == 4
    assert forget_unsound_shards(slot, LATTICE) == 0
    for shard in LATTICE.shards():
        if (shard.row, shard.col) not in slot.written_shards():
            write_shard(slot, shard, shard_pixels(shard))
    for shard in overview_shards(LATTICE, 4, slot.written_shards()):
        write_overview_shard(slot, 4, shard)

    assert verify(slot).faults == ()
    assert digests(tmp_path) == before
    written = {
        path.relative_to(slot.url).parts
        for path, when in untouched.items()
        if path.stat().st_mtime_ns != when and path.is_relative_to(slot.url)
    }
    shards = {("0", "0"), ("1", "0"), ("1", "1")}
    assert all(
        parts[0] in ("zarr.json", "y", "overviews") or parts[1:] in shards for parts in written
    )
    assert not any(
        path.stat().st_mtime_ns != when for path, when in untouched.items() if "11-05" in str(path)
    )
