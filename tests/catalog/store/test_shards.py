"""Shards: written once, read back, and found as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice, Window
from catalog.store.schema import QUALITY
from catalog.store.shards import write_shard
from tests.support.object_store import contents
from tests.support.scenes import same
from tests.support.slots import (
    LATTICE,
    SCHEMA,
    VARIABLES,
    created,
    published,
    shard_pixels,
    slot_store,
    write_all,
)


def test_written_shards_read_back_to_the_bit(tmp_path: Path) -> None:
    store = created(tmp_path)
    write_all(store)
    slot = store.open()
    assert set(slot.data_vars) == set(VARIABLES)
    for shard in LATTICE.shards():
        rows, cols = shard.window.slices
        for name, values in shard_pixels(shard).items():
            assert same(slot[name][rows, cols].values, values)


def test_unwritten_shards_have_no_data(tmp_path: Path) -> None:
    slot = created(tmp_path).open()
    assert np.isnan(slot["red"].values).all()
    assert (slot["quality"].values == QUALITY.index("no_optical")).all()


def test_only_shards_with_a_receipt_count_as_written(tmp_path: Path) -> None:
    store = created(tmp_path)
    assert store.written_shards() == set()
    first, second, *_ = LATTICE.shards()
    receipt = write_shard(store, first, shard_pixels(first))
    assert set(receipt.checksums) == set(VARIABLES)
    assert store.written_shards() == {(0, 0)}
    # What a killed run leaves beside the receipts is none.
    (tmp_path / "la/slots/2020-11-04/abc.receipts/.0.1.json.123.partial").write_text("{}")
    assert store.written_shards() == {(0, 0)}
    write_shard(store, second, shard_pixels(second))
    assert store.written_shards() == {(0, 0), (0, 1)}


def test_a_shard_can_be_written_again(tmp_path: Path) -> None:
    """As after a kill between the pixels and the receipt: the last write stands, whole."""
    store = created(tmp_path)
    shard = LATTICE.shards()[-1]
    write_shard(store, shard, shard_pixels(shard, seed=1))
    for pixels in (shard_pixels(shard, seed=2), SCHEMA.empty(shard.window.shape)):
        write_shard(store, shard, pixels)
        slot = store.open()
        for name, values in pixels.items():
            assert same(slot[name][shard.window.slices].values, values)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        published(tmp_path / name)
    assert contents(str(tmp_path / "one")) == contents(str(tmp_path / "two"))
    assert not list(tmp_path.rglob("*.partial"))


def test_nan_is_nan_whatever_its_bits(tmp_path: Path) -> None:
    store = created(tmp_path)
    shard = LATTICE.shards()[0]
    pixels = shard_pixels(shard)
    payload = np.full(shard.window.shape, 0xFFC00001, dtype=np.uint32).view(np.float32)
    pixels["vh"].values[...] = payload
    write_shard(store, shard, pixels)
    assert np.isnan(store.open()["vh"].values).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([16, 32, 64]))
def test_every_shape_of_lattice_round_trips(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, side: int
) -> None:
    geobox: GeoBox = LATTICE.window_geobox(Window(0, 0, height, width))
    lattice = Lattice(geobox, side)
    store = created(tmp_path_factory.mktemp("store"), lattice)
    write_all(store, lattice)
    assert store.written_shards() == {(shard.row, shard.col) for shard in lattice.shards()}
    red = store.open()["red"].values
    for shard in lattice.shards():
        assert same(red[shard.window.slices], shard_pixels(shard)["red"])


def test_faulty_storage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = created(tmp_path)
    shard = LATTICE.shards()[0]
    write = zarr.Array.__setitem__

    def flip_a_bit(array: zarr.Array, selection: Any, values: np.ndarray) -> None:
        damaged = values.copy()
        damaged.view(np.uint8)[-1, -1] ^= 1
        write(array, selection, damaged)

    monkeypatch.setattr(zarr.Array, "__setitem__", flip_a_bit)
    with pytest.raises(StoreError, match=r"shard 0\.0 of red .* does not read back as written"):
        write_shard(store, shard, shard_pixels(shard))
    assert store.written_shards() == set()


def test_wrong_shards_are_refused(tmp_path: Path) -> None:
    store = created(tmp_path)
    shard = LATTICE.shards()[0]
    pixels = shard_pixels(shard)
    with pytest.raises(ArgumentError, match="needs the variables"):
        write_shard(store, shard, pixels[["red"]])
    with pytest.raises(ArgumentError, match=r"red has shape \(1, 1\)"):
        write_shard(store, shard, pixels.isel(y=slice(1), x=slice(1)))
    with pytest.raises(ArgumentError, match="vh is float64, but float32 in the store"):
        write_shard(store, shard, pixels.assign(vh=pixels["vh"].astype(float)))
    with pytest.raises(StoreError, match="cannot open"):
        write_shard(slot_store(tmp_path, generation="other"), shard, pixels)
    assert store.written_shards() == set()
