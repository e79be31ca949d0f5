"""A memory in the store: versions written once, the one in use named last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Window
from catalog.memory.encoding import VARIABLES
from catalog.memory.geometry import Geometry
from catalog.memory.layout import reference_lattice
from catalog.memory.store import MemoryStore, memory_names
from tests.support.memories import (
    DAYS,
    FIRST_VERSION,
    SECOND_VERSION,
    committed,
    made_field,
    made_reference,
    memory_store,
    reference_shards,
    write_version,
)
from tests.support.object_store import contents
from tests.support.slots import FEW_CHUNKS, LATTICE, rioxarray_is_older_than_affine


def test_what_is_remembered_comes_back_wherever_the_store_is(store: str) -> None:
    memory = memory_store(store)
    assert memory.head() is None
    codes = write_version(memory, FIRST_VERSION)
    assert memory.head() is None  # nothing is in use before it is committed
    memory.commit(FIRST_VERSION, DAYS[:2])
    head = memory.head()
    assert head is not None
    assert (head.version, head.slots) == (FIRST_VERSION, DAYS[:2])
    assert memory_names(store, "la") == [memory.name]
    whole = memory.read_reference(FIRST_VERSION, reference_lattice(LATTICE).window)
    assert np.array_equal(whole, codes)

    field, made = memory.load_field(FIRST_VERSION), made_field()
    assert field["day"].values.tolist() == list(DAYS)
    for name in ("day", "generation", "node_y", "node_x"):
        assert np.array_equal(field[name].values, made[name].values), name
    assert set(field.data_vars) == set(VARIABLES)
    for name in VARIABLES:
        np.testing.assert_allclose(field[name].values, made[name].values, atol=0.0051)
    rows, columns = np.meshgrid(field["node_y"], field["node_x"], indexing="ij")
    x, y = LATTICE.crs_from_px(np.stack([columns, rows]))
    assert np.array_equal(field["x"].values, x[0])
    assert np.array_equal(field["y"].values, y[:, 0])


def test_what_was_read_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    """The next night starts from what was read: rounding it again must not move it."""
    first, again = memory_store(tmp_path / "first"), memory_store(tmp_path / "again")
    first.create(FIRST_VERSION, made_field(), LATTICE, {})
    again.create(FIRST_VERSION, first.load_field(FIRST_VERSION), LATTICE, {})
    assert contents(str(tmp_path / "first")) == contents(str(tmp_path / "again"))


def test_a_version_is_the_same_bytes_whoever_writes_it_and_however_often(tmp_path: Path) -> None:
    once, twice = committed(tmp_path / "once"), committed(tmp_path / "twice")
    group = Path(twice.version_url(FIRST_VERSION))
    for leftover in (group / "zarr.json", group / "dx/zarr.json", group / "reference/sar/c"):
        if leftover.is_dir():
            for chunk in leftover.rglob("*"):
                chunk.is_file() and chunk.unlink()
        else:
            leftover.unlink()
    write_version(twice, FIRST_VERSION)
    assert contents(once.store_url) == contents(twice.store_url)
    write_version(twice, FIRST_VERSION)
    assert contents(once.store_url) == contents(twice.store_url)


@settings(max_examples=60)
@given(st.integers(-70, 70), st.integers(-70, 70), st.integers(1, 90), st.integers(1, 90))
def test_a_window_may_leave_the_reference(
    remembered: MemoryStore, y0: int, x0: int, height: int, width: int
) -> None:
    window = Window(y0, x0, height, width)
    codes = remembered.read_reference(FIRST_VERSION, window)
    padded = np.pad(made_reference(LATTICE), 200)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, padded[200 + y0 :, 200 + x0 :][:height, :width])


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    return committed(tmp_path_factory.mktemp("store"))


def test_shards_that_were_never_written_are_no_data(tmp_path: Path) -> None:
    lattice = replace(LATTICE, shard_px=32)
    store = memory_store(tmp_path, lattice=lattice)
    codes = write_version(store, FIRST_VERSION, lattice, shards=1)
    first, *others = reference_shards(lattice)
    assert len(others) == 3
    assert np.array_equal(store.read_reference(FIRST_VERSION, first.window),
                          codes[first.window.slices])  # fmt: skip
    for shard in others:
        assert not store.read_reference(FIRST_VERSION, shard.window).any()


def test_regions_geometries_and_lattices_share_nothing(tmp_path: Path) -> None:
    here = committed(tmp_path)
    before = contents(here.url)
    others = (
        memory_store(tmp_path, region="bolzano"),
        memory_store(tmp_path, geometry=Geometry("descending", 64, "grd")),
        memory_store(tmp_path, geometry=Geometry("ascending", 64, "rtc")),
        memory_store(tmp_path, lattice=FEW_CHUNKS),
    )
    for other in others:
        assert other.head() is None
        other.create(FIRST_VERSION, made_field(seed=1), LATTICE, {})
        other.commit(FIRST_VERSION, DAYS)
    assert contents(here.url) == before
    assert memory_names(str(tmp_path), "bolzano") == [others[0].name]
    assert len(memory_names(str(tmp_path), "la")) == 4


@pytest.mark.parametrize(
    "damaged",
    [b"", b"[]", b"{}", b'{"version": "../../x", "slots": [], "chunks": 1}',
     b'{"version": "1111111111111111", "slots": ["yesterday"], "chunks": 1}'],
)  # fmt: skip
def test_a_damaged_head_is_an_error_that_names_it(tmp_path: Path, damaged: bytes) -> None:
    store = committed(tmp_path)
    objects.put(f"{store.url}/current.json", damaged)
    with pytest.raises(StoreError, match=r"current\.json"):
        store.head()


def test_only_a_version_that_is_there_is_committed(tmp_path: Path) -> None:
    store = committed(tmp_path)
    with pytest.raises(StoreError, match="was not created"):
        store.commit(SECOND_VERSION, DAYS)
    with pytest.raises(ArgumentError, match="slots"):
        store.commit(FIRST_VERSION, ["yesterday"])
    head = store.head()
    assert head is not None
    assert head.slots == DAYS[:1]


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="named like"):
        MemoryStore(str(tmp_path), "la", "../elsewhere")
    store = memory_store(tmp_path)
    with pytest.raises(ArgumentError, match="16 hexadecimal digits"):
        store.load_field("newest")
    with pytest.raises(StoreError, match=FIRST_VERSION):
        store.load_field(FIRST_VERSION)
    store.create(FIRST_VERSION, made_field(), LATTICE, {})
    shard = reference_shards(LATTICE)[0]
    with pytest.raises(ArgumentError, match="not float64"):
        store.write_reference(FIRST_VERSION, shard, np.zeros(shard.window.shape))  # type: ignore[arg-type]


def test_a_version_takes_little_beside_a_mosaic(tmp_path: Path) -> None:
    """At most a hundredth of a day's 24 bytes a pixel, with eight days and the noise of one."""
    lattice = replace(LATTICE, geobox=LATTICE.geobox.expand((2048, 2048)), shard_px=1024)
    store = memory_store(tmp_path, lattice=lattice)
    store.create(FIRST_VERSION, made_field(lattice, days=8), lattice, {})
    codes = made_reference(lattice, passes=1)
    for shard in reference_shards(lattice):
        store.write_reference(FIRST_VERSION, shard, codes[shard.window.slices])
    height, width = lattice.shape
    size = sum(entry.bytes for entry in objects.entries(store.url))
    assert size <= 0.01 * 24 * height * width


@rioxarray_is_older_than_affine
def test_plain_xarray_understands_a_version(remembered: MemoryStore) -> None:
    url = remembered.version_url(FIRST_VERSION)
    field = xr.open_zarr(url, decode_coords="all")
    reference = xr.open_zarr(url, group="reference", decode_coords="all")
    known = remembered.load_field(FIRST_VERSION)
    assert np.array_equal(field["day_dx"].values, known["day_dx"].values, equal_nan=True)
    assert reference["sar"].attrs["units"] == "dB"
    assert reference.rio.crs == field.rio.crs
    assert reference.rio.transform()[:6] == reference_lattice(LATTICE).transform
    for name, variable in {**field.data_vars, **reference.data_vars}.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"], name
