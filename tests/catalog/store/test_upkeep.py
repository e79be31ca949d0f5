"""Looking after a store: what lies in it, what is damaged, what may go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.store.open import open_mosaic
from catalog.store.publish import publish
from catalog.store.schema import QUALITY
from catalog.store.shards import write_shard
from catalog.store.upkeep import generations, left_over, quality_shares, regions, remove, verify
from tests.support.slots import FEW_CHUNKS as LATTICE
from tests.support.slots import (
    FIRST,
    TWO_DAYS,
    created,
    make_old,
    pair_of_day,
    published,
    shard_pixels,
    with_history,
    write_all,
)

DAY = timedelta(days=1)


def test_a_store_is_listed_and_pruned_wherever_it_is(store: str) -> None:
    old, new, half = with_history(store)
    assert regions(store) == regions(f"{store}/la/") == [(store, "la")]
    found = generations(store, "la")
    assert [(each.store, each.published) for each in found] == [
        (old, False),
        (new, True),
        (half, False),
    ]
    assert sum(each.bytes for each in found) > 0
    assert found[0].objects == found[1].objects
    assert found[0].bytes == found[1].bytes

    assert left_over(found, DAY) == []  # somebody may be writing
    in_two_days = found[0].touched + TWO_DAYS
    assert [each.store for each in left_over(found, DAY, in_two_days)] == [old, half]
    assert not remove(found[0], DAY)
    assert not remove(found[1], timedelta(0))  # published
    before = open_mosaic(f"{store}/la").compute()
    for each in (found[0], found[2]):
        assert remove(each, timedelta(0))
    assert [each.store for each in generations(store, "la")] == [new]
    assert not any(objects.entries(part) for part in (*old.parts, *half.parts))
    assert open_mosaic(f"{store}/la").compute().identical(before)
    assert verify(new).faults == ()


def test_each_damaged_or_missing_shard_is_named(store: str) -> None:
    slot = published(store, LATTICE, generation=FIRST)
    sound = verify(slot)
    assert (sound.shards, sound.faults) == (len(LATTICE.shards()) + 2, ())  # and its overviews
    red = objects.get(f"{slot.url}/red/0/0")
    assert red is not None
    objects.put(f"{slot.url}/red/0/0", red[:40] + bytes([red[40] ^ 255]) + red[41:])
    objects.put(f"{slot.url}/vh/1/0", b"cut")
    objects.remove(f"{slot.url}/dx/0/1")
    receipts, *_, shards = slot.parts
    objects.remove(f"{receipts}/1.1.json")  # and with it all knowledge but the list
    objects.put(f"{receipts}/0.1.json", objects.get(f"{receipts}/0.1.json") or b"")
    found = {(fault.shard, fault.variable): fault.what for fault in verify(slot).faults}
    assert found.keys() == {("0.0", "red"), ("1.0", "vh"), ("0.1", "dx"), ("1.1", None)}
    assert found["0.1", "dx"] == "is missing"
    assert found["1.1", None] == "its receipt is missing"

    objects.put(f"{receipts}/0.0.json", b"{}")
    objects.remove(shards)
    found = {(fault.shard, fault.variable): fault.what for fault in verify(slot).faults}
    assert found[None, None] == "the list of its shards is missing"
    assert "is not a receipt" in found["0.0", None]
    objects.remove(f"{slot.url}/zarr.json")
    (fault,) = verify(slot).faults
    assert fault.shard is None


def test_a_valid_shard_with_other_content_is_found(tmp_path: Path) -> None:
    slot = published(tmp_path, LATTICE, generation=FIRST)
    slot.open_group("r+")["dy"][LATTICE.shards()[1].window.slices] = np.float32(7)
    (fault,) = verify(slot).faults
    assert (fault.shard, fault.variable) == ("0.1", "dy")
    assert fault.what == "differs from what was written"


def test_shares_are_those_of_all_pixels(tmp_path: Path) -> None:
    slot = created(tmp_path, LATTICE, generation=FIRST)
    for shard in LATTICE.shards()[1:]:
        write_shard(slot, shard, shard_pixels(shard))
    quality = slot.open()["quality"].values
    shares = quality_shares(slot)
    assert sum(shares.values()) == pytest.approx(1)
    for value, name in enumerate(QUALITY):
        assert shares[name] == pytest.approx(float((quality == value).mean()))


def test_an_item_that_changed_keeps_what_it_pointed_to(tmp_path: Path) -> None:
    """Readers may have opened the old generation a moment before it was replaced."""
    with_history(tmp_path)
    make_old(tmp_path)
    assert len(left_over(generations(str(tmp_path), "la"), DAY)) == 2
    (tmp_path / "la" / "items" / "2020-11-04.json").touch()
    assert left_over(generations(str(tmp_path), "la"), DAY) == []


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no region in"):
        regions(str(tmp_path))
    with pytest.raises(ArgumentError, match="s3://bucket/x") as caught:
        regions("s3://key:S3CRET@bucket/x")
    assert "S3CRET" not in str(caught.value)


def test_publishing_again_seals_the_same_shards(tmp_path: Path) -> None:
    slot = created(tmp_path, LATTICE, generation=FIRST)
    assert slot.sealed_shards() is None
    write_all(slot, LATTICE)
    publish(slot, LATTICE, [pair_of_day()], {})
    assert slot.sealed_shards() == {(s.row, s.col) for s in LATTICE.shards()}
