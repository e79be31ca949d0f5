"""The store and the scenes through an S3 endpoint over HTTP, on loopback.

The endpoint is moto's server: a mock of S3 that keeps its objects in memory. The client side is
real: s3fs, aiobotocore and GDAL talk HTTP to it. It shows that the code path is the one of local
paths, not that a real object store behaves.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import fsspec.asyn
import numpy as np
import pytest
import zarr.core.sync
from moto.server import ThreadedMotoServer
from scenes import noise, same, scene, scene_of, write_raster
from test_mosaic import BOX, LATTICE, created, published, shard_arrays

from catalog import objects, rasters
from catalog.errors import SceneReadError, StoreError
from catalog.grid import Window, lattice_for
from catalog.mosaic import SlotStore, check_writable, open_mosaic
from catalog.publish import published as published_generation
from catalog.read import probe, read_window
from catalog.search import Asset


@pytest.fixture(scope="module", autouse=True)
def endpoint() -> Iterator[None]:
    """An S3 server, and the environment that leads s3fs and GDAL to it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",  # botocore's word
        "AWS_S3_ENDPOINT": f"{host}:{port}",  # GDAL's words
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            yield
        finally:
            disconnect()
            server.stop()


def disconnect() -> None:
    """Close what fsspec keeps open for the life of a process: this server ends before it."""
    filesystems = fsspec.get_filesystem_class("s3")
    for fs in filesystems._cache.values():
        if fs._s3 is not None and fs.asynchronous:  # zarr's, on zarr's event loop
            zarr.core.sync.sync(fs._s3.close())
        elif fs._s3 is not None:
            fsspec.asyn.sync(fs.loop, fs._s3.close)
    filesystems.clear_instance_cache()


@pytest.fixture
def bucket() -> str:
    """The URL of an empty bucket."""
    name = f"mosaics-{uuid.uuid4().hex}"
    objects.filesystem("s3://")[0].mkdir(name)
    return f"s3://{name}"


def contents(store: str) -> dict[str, bytes]:
    fs, root = objects.filesystem(store)
    return {path.removeprefix(root).lstrip("/"): fs.cat_file(path) for path in fs.find(root)}


def test_a_bucket_holds_what_a_folder_holds(bucket: str, tmp_path: Path) -> None:
    for store in (bucket, str(tmp_path)):
        slot = published(store)
        assert slot.written_shards() == {(s.row, s.col) for s in LATTICE.shards()}
        assert published_generation(store, "la", "2020-11-04") == "abc"
    assert contents(bucket) == contents(str(tmp_path))
    remote, local = (open_mosaic(f"{store}/la").compute() for store in (bucket, tmp_path))
    assert remote.identical(local)
    shard = LATTICE.shards()[0]
    red = remote["red"].values[(0, *shard.window.slices)]
    assert same(red, shard_arrays(shard)["red"])


def test_receipts_estimates_and_reruns_work_in_a_bucket(bucket: str) -> None:
    store = created(bucket)
    assert store.load_estimate() is None
    store.save_estimate(b"fields")
    shard = LATTICE.shards()[0]
    store.write_shard(shard, shard_arrays(shard))
    before = contents(bucket)
    again = created(bucket)
    assert again.written_shards() == {(0, 0)}
    assert again.load_estimate() == b"fields"
    assert contents(bucket) == before


def test_a_writable_bucket_is_left_empty(bucket: str) -> None:
    check_writable(bucket)
    check_writable(f"{bucket}/deep/below")
    assert contents(bucket) == {}


def test_a_missing_bucket_is_told() -> None:
    with pytest.raises(StoreError, match="s3://nothing cannot be written"):
        check_writable("s3://nothing")
    with pytest.raises(StoreError, match="s3://nothing"):
        SlotStore("s3://nothing", "la", "2020-11-04", "abc").create(LATTICE, ("red",), ("vh",), {})


def test_scenes_are_read_from_a_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasters, "REMOTE_ATTEMPT_DELAYS", (0.0,))
    values = noise((1, 64, 64))
    local = scene_of(write_raster(tmp_path / "x.tif", values), ("vh",))
    objects.put(f"{bucket}/x.tif", (tmp_path / "x.tif").read_bytes())
    remote = scene("s", BOX, assets=(Asset("vh", f"{bucket}/x.tif", ("vh",)),))
    probe(remote)
    lattice = lattice_for(local.footprint.bounds)
    window = Window(0, 0, 60, 60)
    there = scene("s", local.footprint.bounds, assets=remote.assets)
    read = read_window([there], lattice, window, ("vh",))
    assert np.isfinite(read).any()
    assert same(read, read_window([local], lattice, window, ("vh",)))
    missing = scene("gone", BOX, assets=(Asset("vh", f"{bucket}/no.tif", ("vh",)),))
    with pytest.raises(SceneReadError, match=f"scene gone cannot be read from {bucket}/no.tif"):
        probe(missing)
