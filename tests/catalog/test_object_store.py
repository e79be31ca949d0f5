"""The store and the scenes in a real object store over HTTP: OpenStack Swift, spoken to as S3."""

from __future__ import annotations

import logging
import pickle
import pickletools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from catalog import objects
from catalog.archives.items import Asset, Scene
from catalog.errors import SceneReadError, StoreError
from catalog.grid import Window, lattice_for
from catalog.pixels.scene import probe
from catalog.store.open import open_mosaic
from catalog.store.publish import published_generation
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore, check_writable
from tests.support.object_store import Swift, aws_environment, contents, new_bucket
from tests.support.scenes import noise, read_window, same, scene, scene_of, write_raster
from tests.support.slots import BOX, SCHEMA, created, published, shard_pixels
from tests.support.slots import FEW_CHUNKS as LATTICE


@pytest.fixture(autouse=True)
def environment(swift: Swift) -> Iterator[None]:
    """What leads s3fs and GDAL to the server; each test has its own connections."""
    with aws_environment(swift.environment()):
        yield


@pytest.fixture
def bucket() -> str:
    """The URL of an empty bucket."""
    return new_bucket()


def test_a_bucket_holds_what_a_folder_holds(bucket: str, tmp_path: Path) -> None:
    for store in (bucket, str(tmp_path)):
        slot = published(store, LATTICE)
        assert slot.written_shards() == {(s.row, s.col) for s in LATTICE.shards()}
        assert published_generation(store, "la", "2020-11-04") == "abc"
    assert contents(bucket) == contents(str(tmp_path))
    remote, local = (open_mosaic(f"{store}/la").compute() for store in (bucket, tmp_path))
    assert remote.identical(local)
    shard = LATTICE.shards()[0]
    red = remote["red"].values[(0, *shard.window.slices)]
    assert same(red, shard_pixels(shard)["red"])


def test_receipts_estimates_and_reruns_work_in_a_bucket(bucket: str) -> None:
    store = created(bucket, LATTICE)
    assert store.load_estimate() is None
    store.save_estimate(b"fields")
    shard = LATTICE.shards()[0]
    write_shard(store, shard, shard_pixels(shard))
    before = contents(bucket)
    again = created(bucket, LATTICE)
    assert again.written_shards() == {(0, 0)}
    assert again.load_estimate() == b"fields"
    assert contents(bucket) == before


def test_a_writable_bucket_is_left_empty(bucket: str) -> None:
    check_writable(bucket)
    check_writable(f"{bucket}/deep/below")
    assert contents(bucket) == {}


def test_a_missing_bucket_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="s3://nothing cannot be written"):
        check_writable("s3://nothing")
    with pytest.raises(StoreError, match="s3://nothing"):
        SlotStore("s3://nothing", "la", "2020-11-04", "abc").create(LATTICE, SCHEMA, {})


def in_bucket(bucket: str, folder: Path) -> tuple[Scene, Scene]:
    """One scene twice: its raster on disk, and in a bucket."""
    local = scene_of(write_raster(folder / "x.tif", noise((1, 64, 64))), ("vh",))
    objects.put(f"{bucket}/x.tif", (folder / "x.tif").read_bytes())
    asset = Asset("vh", f"{bucket}/x.tif", ("vh",))
    return local, scene("s", local.footprint.bounds, assets=(asset,))


def test_scenes_are_read_from_a_bucket(bucket: str, tmp_path: Path) -> None:
    local, remote = in_bucket(bucket, tmp_path)
    probe(remote)
    lattice = lattice_for(local.footprint.bounds)
    window = Window(0, 0, 60, 60)
    read = read_window([remote], lattice, window, ("vh",))
    assert np.isfinite(read).any()
    assert same(read, read_window([local], lattice, window, ("vh",)))


def test_what_is_not_there_or_not_allowed_is_told_at_once(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, remote = in_bucket(bucket, tmp_path)
    missing = scene("gone", BOX, assets=(Asset("vh", f"{bucket}/no.tif", ("vh",)),))
    with pytest.raises(SceneReadError, match=f"scene gone cannot be read from {bucket}/no.tif"):
        probe(missing)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SceneReadError, match=r"scene s cannot be read.*signature"):
        probe(remote)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SceneReadError, match=r"scene s cannot be read.*403"):
        probe(remote)
    assert "once more" not in caplog.text


def test_no_filesystem_or_secret_travels_to_a_worker(bucket: str, swift: Swift) -> None:
    store = created(bucket, LATTICE)
    write_shard(store, LATTICE.shards()[0], shard_pixels(LATTICE.shards()[0]))  # it is connected
    pickled = pickle.dumps((store, LATTICE, LATTICE.shards()[0]))
    words = [str(argument) for _, argument, _ in pickletools.genops(pickled)]
    assert not [w for w in words if w.split(".")[0] in ("s3fs", "fsspec", "zarr", "aiobotocore")]
    assert swift.secret.encode() not in pickled
    again, _, _ = pickle.loads(pickled)
    assert again.written_shards() == {(0, 0)}


def test_logs_of_every_level_keep_the_secret(
    bucket: str, swift: Swift, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, remote = in_bucket(bucket, tmp_path)
    probe(remote)
    shard = LATTICE.shards()[0]
    write_shard(created(bucket, LATTICE), shard, shard_pixels(shard))
    assert caplog.text
    assert swift.secret not in caplog.text
