"""The Zarr store on a local path: written once, verified, and opened by plain xarray."""

from __future__ import annotations

import hashlib
import os
import pickle
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import catalog
from catalog import objects
from catalog.archives.pairs import Pair
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice, Shard, Window, lattice_for
from catalog.store.layout import QUALITY
from catalog.store.mosaic import SlotStore, check_writable
from catalog.store.open import open_mosaic
from catalog.store.publish import publish
from tests.support.scenes import NOON, noise, same, scene

BOX = (-118.0, 33.75, -117.99, 33.758)
LATTICE = lattice_for(BOX, shard_px=64, chunk_px=16)
RGB, SAR = ("red", "green", "blue"), ("vh",)
VARIABLES = (*RGB, *SAR, "dx", "dy", "expected_error", "quality", "sar_scene")
SCENES = {"s": NOON, "s-2": NOON + timedelta(seconds=25)}

# rioxarray multiplies affine transforms the way affine 3.1 is about to deprecate.
rioxarray_is_older_than_affine = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning"
)


def slot_store(folder: Path, slot: str = "2020-11-04", generation: str = "abc") -> SlotStore:
    return SlotStore(str(folder), "la", slot, generation)


def created(
    folder: Path,
    lattice: Lattice = LATTICE,
    sar_scenes: dict[str, datetime] | None = None,
    **names: str,
) -> SlotStore:
    store = slot_store(folder, **names)
    store.create(lattice, RGB, SAR, sar_scenes or SCENES, {"weights_sha256": "f00"})
    return store


def shard_arrays(shard: Shard, seed: int = 0) -> dict[str, np.ndarray]:
    height, width = shard.window.shape
    floats = noise((len(VARIABLES) - 2, height, width), "float32", seed)
    floats[:, : height // 3] = np.nan
    quality = (noise((height, width), seed=seed) % len(QUALITY)).astype("uint8")
    sar_scene = (noise((height, width), seed=seed + 1) % (len(SCENES) + 1)).astype("uint16")
    return dict(zip(VARIABLES, [*floats, quality, sar_scene], strict=True))


def write_all(store: SlotStore, lattice: Lattice = LATTICE, seed: int = 0) -> None:
    for shard in lattice.shards():
        store.write_shard(shard, shard_arrays(shard, seed))


def published(
    folder: Path,
    lattice: Lattice = LATTICE,
    seed: int = 0,
    sar_scenes: dict[str, datetime] | None = None,
    **names: str,
) -> SlotStore:
    store = created(folder, lattice, sar_scenes, **names)
    write_all(store, lattice, seed)
    scenes = scene("o", BOX), scene("s", BOX)
    publish(store, lattice, [Pair(*scenes, 1.0, scenes[0].datetime - scenes[1].datetime)], {})
    return store


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = created(tmp_path)
    write_all(store)
    slot = store.open()
    assert set(slot.data_vars) == set(VARIABLES)
    for shard in LATTICE.shards():
        rows, cols = shard.window.slices
        for name, values in shard_arrays(shard).items():
            assert same(slot[name][rows, cols].values, values)


def test_unwritten_shards_have_no_data(tmp_path: Path) -> None:
    slot = created(tmp_path).open()
    assert np.isnan(slot["red"].values).all()
    assert (slot["quality"].values == QUALITY.index("no_optical")).all()


def test_receipts_tell_what_is_done(tmp_path: Path) -> None:
    store = created(tmp_path)
    assert store.written_shards() == set()
    first, second, *_ = LATTICE.shards()
    receipt = store.write_shard(first, shard_arrays(first))
    assert set(receipt.checksums) == set(VARIABLES)
    assert store.written_shards() == {(0, 0)}
    # What a killed run leaves beside the receipts is none.
    (tmp_path / "la/slots/2020-11-04/abc.receipts/.0.1.json.123.partial").write_text("{}")
    assert store.written_shards() == {(0, 0)}
    store.write_shard(second, shard_arrays(second))
    assert store.written_shards() == {(0, 0), (0, 1)}


def test_a_shard_can_be_written_again(tmp_path: Path) -> None:
    """As after a kill between the pixels and the receipt: the last write stands, whole."""
    store = created(tmp_path)
    shard = LATTICE.shards()[-1]
    store.write_shard(shard, shard_arrays(shard, seed=1))
    blank = {
        name: np.full_like(values, 0 if values.dtype.kind == "u" else np.nan)
        for name, values in shard_arrays(shard).items()
    }
    for arrays in (shard_arrays(shard, seed=2), blank):
        store.write_shard(shard, arrays)
        slot = store.open()
        for name, values in arrays.items():
            assert same(slot[name][shard.window.slices].values, values)


def test_create_is_idempotent_and_finishes_what_was_begun(tmp_path: Path) -> None:
    store = created(tmp_path / "once")
    shard = LATTICE.shards()[0]
    store.write_shard(shard, shard_arrays(shard))
    before = digests(tmp_path / "once")
    created(tmp_path / "once")
    assert digests(tmp_path / "once") == before

    begun = tmp_path / "begun"
    created(begun)
    group = begun / "la/slots/2020-11-04/abc.zarr"
    complete = digests(group)
    for leftover in (group / "zarr.json", group / "vh/zarr.json", group / "time/c"):
        leftover.unlink()
    created(begun)
    assert digests(group) == complete


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        published(tmp_path / name)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert not list(tmp_path.rglob("*.partial"))


def test_nan_is_nan_whatever_its_bits(tmp_path: Path) -> None:
    store = created(tmp_path)
    shard = LATTICE.shards()[0]
    arrays = shard_arrays(shard)
    payload = np.full(shard.window.shape, 0xFFC00001, dtype=np.uint32).view(np.float32)
    store.write_shard(shard, {**arrays, "vh": payload})
    assert np.isnan(store.open()["vh"].values).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([(16, 16), (32, 8), (64, 32)]))
def test_every_shape_of_lattice_round_trips(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, sides: tuple[int, int]
) -> None:
    geobox: GeoBox = LATTICE.window_geobox(Window(0, 0, height, width))
    lattice = Lattice(geobox, *sides)
    store = created(tmp_path_factory.mktemp("store"), lattice)
    write_all(store, lattice)
    assert store.written_shards() == {(shard.row, shard.col) for shard in lattice.shards()}
    red = store.open()["red"].values
    for shard in lattice.shards():
        assert same(red[shard.window.slices], shard_arrays(shard)["red"])


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
        store.write_shard(shard, shard_arrays(shard))
    assert store.written_shards() == set()


def test_wrong_shards_are_refused(tmp_path: Path) -> None:
    store = created(tmp_path)
    shard = LATTICE.shards()[0]
    arrays = shard_arrays(shard)
    with pytest.raises(ArgumentError, match="needs the variables"):
        store.write_shard(shard, {"red": arrays["red"]})
    with pytest.raises(ArgumentError, match=r"red has shape \(1, 1\)"):
        store.write_shard(shard, {**arrays, "red": np.zeros((1, 1), np.float32)})
    with pytest.raises(StoreError, match="cannot open"):
        slot_store(tmp_path, generation="other").write_shard(shard, arrays)


@rioxarray_is_older_than_affine
def test_plain_xarray_opens_a_slot_with_crs_and_coordinates(tmp_path: Path) -> None:
    store = published(tmp_path)
    for options in ({}, {"consolidated": False}):
        slot = xr.open_zarr(store.url, decode_coords="all", **options)
        assert slot.rio.crs == rasterio.crs.CRS.from_epsg(32611)
        assert slot.rio.transform().almost_equals(LATTICE.geobox.affine)
        assert slot["time"].values == np.datetime64("2020-11-04")
        assert slot["red"].dims == ("y", "x")
        assert slot["red"].dtype == np.float32
        assert slot["quality"].dtype == np.uint8
        assert slot["quality"].attrs["flag_meanings"].split() == [
            "no_optical",
            "registered",
            "abstained",
            "no_sar",
            "cloud",
        ]
        assert slot["quality"].attrs["flag_values"] == [0, 1, 2, 3, 4]
        assert slot.attrs["weights_sha256"] == "f00"
    # A tenth of a pixel is a metre; these agree to a micrometre.
    x, y = rasterio.transform.xy(LATTICE.geobox.affine, [0, 80], [0, 90])
    np.testing.assert_allclose(slot["x"].values[[0, 90]], x, atol=1e-6)
    np.testing.assert_allclose(slot["y"].values[[0, 80]], y, atol=1e-6)


def test_the_group_follows_the_conventions(tmp_path: Path) -> None:
    group = zarr.open_group(created(tmp_path).url, mode="r")
    assert group.attrs["proj:code"] == "EPSG:32611"
    assert group.attrs["spatial:transform"] == list(LATTICE.transform)
    assert group.attrs["spatial:shape"] == list(LATTICE.shape)
    names = {convention["name"] for convention in group.attrs["zarr_conventions"]}
    assert names == {"proj", "spatial", "multiscales"}
    assert group["red"].shards == (64, 64)
    assert group["red"].chunks == (16, 16)
    assert group["red"].attrs["grid_mapping"] == "spatial_ref"
    assert group["x"].attrs["standard_name"] == "projection_x_coordinate"
    assert group["x"].attrs["units"] == "metre"


@rioxarray_is_older_than_affine
def test_a_mosaic_is_its_published_slots_in_time(tmp_path: Path) -> None:
    published(tmp_path, seed=2, slot="2020-11-09")
    published(tmp_path, seed=1, slot="2020-11-04")
    created(tmp_path, slot="2020-11-20")  # never published
    mosaic = catalog.open_mosaic(f"{tmp_path}/la")
    assert (mosaic.sizes["time"], mosaic.sizes["y"], mosaic.sizes["x"]) == (2, *LATTICE.shape)
    assert [str(day)[:10] for day in mosaic["time"].values] == ["2020-11-04", "2020-11-09"]
    assert mosaic.rio.crs == rasterio.crs.CRS.from_epsg(32611)
    assert mosaic["red"].rio.transform().almost_equals(LATTICE.geobox.affine)
    assert mosaic["red"].chunks is not None
    shard = LATTICE.shards()[0]
    for number, seed in enumerate((1, 2)):
        for name, values in shard_arrays(shard, seed).items():
            assert same(mosaic[name][(number, *shard.window.slices)].values, values)


def test_slots_of_different_extent_share_their_pixels(tmp_path: Path) -> None:
    published(tmp_path, seed=1)
    wider = lattice_for((-118.002, 33.749, -117.995, 33.759), shard_px=64, chunk_px=16)
    published(tmp_path, wider, seed=2, slot="2020-11-09")
    mosaic = open_mosaic(f"{tmp_path}/la")
    assert mosaic["quality"].dtype == np.uint8
    assert (np.diff(mosaic["y"].values) == -10).all()
    assert (np.diff(mosaic["x"].values) == 10).all()
    x, y = LATTICE.centres(LATTICE.window)
    first = mosaic.isel(time=0).sel(x=x, y=y)
    for shard in LATTICE.shards():
        assert same(first["dx"].values[shard.window.slices], shard_arrays(shard, 1)["dx"])
    outside = mosaic.isel(time=0, y=0)
    assert np.isnan(outside["red"].values).all()
    assert (outside["quality"].values == 0).all()


@pytest.mark.parametrize("change", [{"resolution": 20.0}, {"crs": "EPSG:3395"}])
def test_slots_on_other_grids_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    published(tmp_path)
    published(tmp_path, lattice_for(BOX, shard_px=64, chunk_px=16, **change), slot="2020-11-09")
    with pytest.raises(StoreError, match="different pixel grids"):
        open_mosaic(f"{tmp_path}/la")


def test_what_is_no_mosaic_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no mosaic is published"):
        open_mosaic(str(tmp_path / "nothing"))
    created(tmp_path)
    with pytest.raises(StoreError, match="no mosaic is published"):
        open_mosaic(f"{tmp_path}/la")
    objects.put(f"{tmp_path}/la/items/2020-11-04.json", b'{"assets": {}}')
    with pytest.raises(StoreError, match="not the item of a mosaic: KeyError: 'mosaic'"):
        open_mosaic(f"{tmp_path}/la")


def test_an_estimate_is_kept(tmp_path: Path) -> None:
    store = slot_store(tmp_path)
    assert store.load_estimate() is None
    store.save_estimate(b"first")
    store.save_estimate(b"second")
    assert store.load_estimate() == b"second"
    assert pickle.loads(pickle.dumps(store)).load_estimate() == b"second"
    assert slot_store(tmp_path, generation="other").load_estimate() is None


@pytest.mark.parametrize("region", ["", "a/b", "..", "../a", "A", "-a", "a b", "a\n"])
def test_bad_region_names_are_refused(region: str) -> None:
    with pytest.raises(ArgumentError, match="usable name") as caught:
        SlotStore("/tmp", region, "2020-11-04", "abc")
    assert caught.value.argument == "region"


def test_bad_slots_are_refused() -> None:
    with pytest.raises(ArgumentError, match="a day like 2020-11-04"):
        SlotStore("/tmp", "la", "../2020", "abc")


def test_a_writable_store_is_left_as_it_was(tmp_path: Path) -> None:
    for store in (tmp_path, tmp_path / "not" / "there"):
        check_writable(str(store))
        check_writable(f"file://{store}")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_store_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for store, words in [
        (f"{file}/below", "is not a folder"),
        ("", "needs a path"),
        ("nope://bucket", "nope"),
        ("/proc/nothing", "cannot be written"),
    ]:
        with pytest.raises(StoreError, match=words) as caught:
            check_writable(store)
        assert caught.value.url == store
    assert file.read_text() == ""
    with pytest.raises(StoreError, match="file is not a folder"):
        check_writable(str(file))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        check_writable(str(tmp_path / "store"))


def test_small_objects_replace_each_other_whole(tmp_path: Path) -> None:
    url = f"{tmp_path}/a/b.json"
    assert objects.get(url) is None
    assert objects.names(f"{tmp_path}/a") == []
    objects.put(url, b"one")
    objects.put(url, b"two")
    assert objects.get(url) == b"two"
    assert objects.names(f"{tmp_path}/a") == ["b.json"]
    objects.remove(url)
    assert objects.get(url) is None


def test_hrefs_resolve_against_their_object() -> None:
    cases = [
        ("/s/la/items/x.json", "../slots/y.zarr", "/s/la/slots/y.zarr"),
        ("s3://b/la/items/x.json", "../slots/y.zarr", "s3://b/la/slots/y.zarr"),
        ("/s/la/items/x.json", "s3://other/y.zarr", "s3://other/y.zarr"),
    ]
    for base, href, expected in cases:
        assert objects.resolve(base, href) == expected
