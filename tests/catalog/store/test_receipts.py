"""A chunk that is lost is an error to whoever reads it; one of nothing but no data never was."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import catalog
from catalog import objects
from catalog.cube.update import update_cube
from catalog.errors import StoreError
from catalog.store.publish import publish
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from catalog.store.upkeep import verify
from tests.support.object_store import Swift, aws_environment, new_bucket
from tests.support.slots import (
    FEW_CHUNKS,
    FIRST,
    created,
    pair_of_day,
    shard_pixels,
    write_overviews,
)

SHARDS = FEW_CHUNKS.shards()  # of which the last is touched by nothing


def day_with_gaps(folder: Path | str) -> SlotStore:
    """A published day whose first shard has no radar, and whose last has nothing at all."""
    slot = created(folder, FEW_CHUNKS, generation=FIRST)
    for shard in SHARDS[:-1]:
        pixels = shard_pixels(shard)
        if shard == SHARDS[0]:
            pixels["vh"].values[...] = np.nan
        write_shard(slot, shard, pixels)
    write_overviews(slot, FEW_CHUNKS)
    publish(slot, FEW_CHUNKS, [pair_of_day()], {})
    return slot


@pytest.fixture
def day(tmp_path: Path) -> SlotStore:
    slot = day_with_gaps(tmp_path)
    assert not Path(slot.url, "vh/0/0").exists()
    assert verify(slot).faults == ()
    return slot


@pytest.mark.parametrize(
    ("chunk", "overview"), [("vh/0/1", None), ("quality/1/0", None), ("overviews/4/red/0/0", 4)]
)
def test_a_lost_chunk_is_an_error_and_the_rest_is_read(
    day: SlotStore, chunk: str, overview: int | None
) -> None:
    whole = catalog.open_mosaic(day.region_url, overview=overview).compute()
    Path(day.url, chunk).unlink()
    name = chunk.split("/")[-3]
    mosaic = catalog.open_mosaic(day.region_url, overview=overview)
    for read in (mosaic, pickle.loads(pickle.dumps(mosaic))):
        with pytest.raises(StoreError, match=f"{chunk} is missing") as raised:
            read[name].compute()
        assert "--remake" in str(raised.value)
    xr.testing.assert_identical(mosaic.drop_vars(name).compute(), whole.drop_vars(name))


def test_a_lost_receipt_is_no_proof_that_nothing_was_written(day: SlotStore) -> None:
    Path(day.url, "vh/0/1").unlink()
    objects.remove(f"{day.parts[0]}/0.1.json")
    with pytest.raises(StoreError, match="vh/0/1 is missing"):
        catalog.open_mosaic(day.region_url)["vh"].compute()


def test_who_reads_what_is_there_reads_no_receipt(day: SlotStore) -> None:
    """Nor the list of shards: only what is not there costs a look."""
    rows, columns = SHARDS[1].window.slices
    there = catalog.open_mosaic(day.region_url).isel(y=rows, x=columns)
    receipts, *_, shards = day.parts
    shutil.rmtree(receipts)
    Path(shards).unlink()
    assert bool(np.isfinite(there.vh.compute()).any())


def test_a_day_that_is_still_written_reads_as_no_data_where_nothing_is(tmp_path: Path) -> None:
    slot = created(tmp_path, FEW_CHUNKS, generation=FIRST)
    write_shard(slot, SHARDS[1], shard_pixels(SHARDS[1]))
    read = slot.open()["vh"].compute()
    assert bool(np.isnan(read[SHARDS[0].window.slices]).all())
    assert bool(np.isfinite(read[SHARDS[1].window.slices]).any())


@pytest.mark.parametrize("before", [True, False])
def test_the_cube_has_an_error_there_whenever_it_was_lost(day: SlotStore, before: bool) -> None:
    if not before:
        update_cube(day.store_url, day.region)
    Path(day.url, "vh/0/1").unlink()
    if before:
        update_cube(day.store_url, day.region)
    cube = catalog.open_cube(day.region_url)
    rows, columns = SHARDS[1].window.slices
    with pytest.raises(Exception, match="vh/0/1"):
        cube["vh"].isel(y=rows, x=columns).compute()
    assert bool(np.isfinite(cube["red"].compute()).any())
    assert bool(np.isnan(cube["vh"].isel(y=slice(0, 64), x=slice(0, 64)).compute()).all())


@pytest.mark.faults
def test_so_it_is_in_a_bucket(swift: Swift) -> None:
    with aws_environment(swift.environment()):
        day = day_with_gaps(new_bucket())
        update_cube(day.store_url, day.region)
        objects.remove(f"{day.url}/vh/0/1")
        mosaic, cube = catalog.open_mosaic(day.region_url), catalog.open_cube(day.region_url)
        for opened in (mosaic, cube):
            rows, columns = SHARDS[0].window.slices
            assert bool(np.isnan(opened["vh"].isel(y=rows, x=columns).compute()).all())
            with pytest.raises(Exception, match=r"vh/(c/0/)?0/1"):
                opened["vh"].compute()
