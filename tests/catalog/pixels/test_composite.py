"""The image of all scenes: one rule of which scene shows a pixel, now and lazily alike."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import catalog
from catalog.archives.items import Asset, Mask, Scene
from catalog.errors import ArgumentError, SceneReadError
from catalog.grid import Lattice, Window, lattice_for
from catalog.pixels import clearest, composite
from catalog.pixels.clearest import NONE_SHOWN, show_clearest
from catalog.pixels.composite import read_composite
from catalog.pixels.masks import CLASSES, CLEAR, CLOUD, GROUND, UNKNOWN, hiding
from tests.support.scenes import (
    UTM,
    aligned_lattice,
    noise,
    same,
    scene,
    scene_of,
    write_raster,
)

RGB = ("red", "green", "blue")
SHAPE = (5, 6)
MASK = Mask(Asset("scl", "/nowhere.tif", ("scl",)), "scene classes")
VALUES = arrays(np.float32, (2, *SHAPE), elements=st.sampled_from([np.nan, 1.0, 2.0]))
CLASS_OF_PIXELS = arrays(np.uint8, SHAPE, elements=st.integers(0, len(CLASSES) - 1))
DRAWN = st.lists(st.tuples(VALUES, st.none() | CLASS_OF_PIXELS), max_size=4)


@settings(max_examples=150, deadline=None)
@given(drawn=DRAWN)
def test_the_clearest_scene_with_all_bands_shows_a_pixel_and_of_equals_the_first(
    drawn: list[tuple[NDArray[np.float32], NDArray[np.uint8] | None]],
) -> None:
    """Against the rule pixel by pixel, in words; and no scene is read in vain."""
    scenes = [scene(str(n), mask=None if c is None else MASK) for n, (_, c) in enumerate(drawn)]
    asked: list[int] = []

    def read(found: Scene, *_: Any) -> NDArray[np.float32]:
        asked.append(int(found.id))
        return drawn[int(found.id)][0].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clearest, "optical_classes", lambda found, *_: drawn[int(found.id)][1])
        lattice = aligned_lattice(*SHAPE)
        got = show_clearest(scenes, lattice, lattice.window, ("vv", "vh"), read)

    for row, column in np.ndindex(SHAPE):
        at = (row, column)
        classes = [UNKNOWN if c is None else int(c[at]) for _, c in drawn]
        able = [n for n, (v, _) in enumerate(drawn) if np.isfinite(v[:, row, column]).all()]
        best = min(able, key=lambda n: (hiding(np.uint8(classes[n])), n), default=NONE_SHOWN)
        assert got.scene[at] == best
        expected = drawn[best][0][:, row, column] if able else np.full(2, np.nan)
        assert np.array_equal(got.values[:, row, column], expected, equal_nan=True)
        assert got.optical_class[at] == (classes[best] if able else UNKNOWN)
    clear = np.zeros(SHAPE, bool)
    needed = 0
    for values, classes in drawn:
        if clear.all():
            break
        hidden = False if classes is None else hiding(classes) != CLEAR
        clear |= np.isfinite(values).all(axis=0) & ~np.asarray(hidden)
        needed += 1
    assert asked == list(range(needed))


def test_scenes_that_can_show_nothing_here_are_not_opened(tmp_path: Path) -> None:
    lattice = aligned_lattice()
    lost = (Asset("visual", "/nowhere.tif", RGB),)
    values, box = noise((3, 64, 64)), lattice.lonlat_extent().bounds
    empty = write_raster(tmp_path / "0.tif", np.zeros((3, 64, 64), np.uint8), nodata=0)
    scenes = [
        scene("elsewhere", (10.0, 50.0, 10.1, 50.1), assets=lost, mask=MASK),
        scene_of(empty, RGB, "without data, so its mask is not needed", mask=MASK),
        scene_of(write_raster(tmp_path / "1.tif", values), RGB, "clear"),
        scene("too late", box, assets=lost, mask=MASK),
    ]
    got = read_composite(scenes, lattice, lattice.window, RGB)
    assert same(got.values, values.astype("float32"))
    assert (got.scene == 2).all()
    nothing = read_composite(scenes[:2], lattice, lattice.window, RGB)
    assert np.isnan(nothing.values).all()
    assert (nothing.scene == NONE_SHOWN).all()


def two_scenes(folder: Path, masked: bool = True) -> list[Scene]:
    """Two scenes that overlap in part, the first under cloud in its lower half."""
    first, second = noise((3, 90, 60), seed=1), noise((3, 90, 90), seed=2)
    first[:, :, :10] = 0
    classes = np.full((1, 90, 60), 4, np.uint8)
    classes[:, 45:] = 9
    scl = Asset("scl", str(write_raster(folder / "scl.tif", classes)), ("scl",))
    mask = Mask(scl, "scene classes") if masked else None
    return [
        scene_of(write_raster(folder / "1.tif", first, nodata=0), RGB, "first", mask=mask),
        scene_of(write_raster(folder / "2.tif", second), RGB, "second"),
    ]


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # in rioxarray
def test_the_lazy_image_is_what_an_analyst_expects(tmp_path: Path) -> None:
    lattice = aligned_lattice(100, 80, shift=3)
    image = catalog.composite(two_scenes(tmp_path), lattice, RGB)
    assert list(image.data_vars) == [*RGB, "scene", "optical_class"]
    assert [str(image[name].dtype) for name in image] == ["float32"] * 3 + ["int16", "uint8"]
    assert image.chunksizes == {"y": (32, 32, 32, 4), "x": (32, 32, 16)}
    assert image.rio.crs == rasterio.crs.CRS.from_user_input(UTM)
    assert image.rio.transform().almost_equals(lattice.geobox.affine)
    assert image.scene.attrs["scenes"] == ["first", "second"]
    assert image.optical_class.attrs["flag_meanings"].split()[CLOUD] == "cloud"
    bare = catalog.composite(two_scenes(tmp_path, masked=False), lattice, ("blue",))
    assert list(bare.data_vars) == ["blue", "scene"]
    with pytest.raises(ArgumentError, match="no band nir; it has: red, green, blue"):
        catalog.composite(two_scenes(tmp_path), lattice, ("nir",))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    return two_scenes(tmp_path_factory.mktemp("scenes"))


@settings(max_examples=25, deadline=None)
@given(
    y=st.integers(0, 99), x=st.integers(0, 79), height=st.integers(1, 70), width=st.integers(1, 70)
)
def test_a_window_cut_from_the_lazy_image_is_the_window_read_at_once(
    scenes: list[Scene], y: int, x: int, height: int, width: int
) -> None:
    """As a notebook does it, and as the pipeline does; to the bit, on the scenes' own pixels."""
    lattice = aligned_lattice(100, 80, shift=3)
    image = catalog.composite(scenes, lattice, RGB)
    window = Window(y, x, height, width).clip(lattice.shape)
    assert window is not None
    rows, columns = window.slices
    cut = image.isel(y=rows, x=columns).compute(scheduler="synchronous")
    read = read_composite(scenes, lattice, window, RGB)
    assert same(np.stack([cut[band].values for band in RGB]), read.values)
    assert same(cut["scene"].values, read.scene)
    assert same(cut["optical_class"].values, read.optical_class)
    easting, northing = lattice.centres(window)
    assert np.array_equal(cut.x, easting)
    assert np.array_equal(cut.y, northing)


def test_the_whole_image_on_workers_is_its_windows(scenes: list[Scene], client: Client) -> None:
    lattice = aligned_lattice(100, 80, shift=3)
    image = catalog.composite(scenes, lattice, RGB)
    whole = client.compute(image).result()
    read = read_composite(scenes, lattice, lattice.window, RGB)
    assert same(np.stack([whole[band].values for band in RGB]), read.values)
    assert same(whole["scene"].values, read.scene)
    assert set(np.unique(whole["scene"])) == {NONE_SHOWN, 0, 1}
    assert set(np.unique(whole["optical_class"])) == {UNKNOWN, GROUND}


def test_resampled_windows_agree_with_chunks_to_a_hundredth_of_a_pixel(tmp_path: Path) -> None:
    ramp = np.stack(np.meshgrid(np.arange(300), np.arange(300))).astype("float32")
    found = scene_of(write_raster(tmp_path / "x.tif", ramp, crs="EPSG:32612"), ("vv", "vh"))
    lattice = lattice_for(found.footprint.bounds, UTM, 10.0, shard_px=64)
    window = Window(90, 80, 100, 110)
    rows, columns = window.slices
    cut = catalog.composite([found], lattice, ("vv", "vh")).isel(y=rows, x=columns)
    read = read_composite([found], lattice, window, ("vv", "vh")).values
    assert np.isfinite(read).all()
    assert np.abs(cut[["vv", "vh"]].to_dataarray().values - read).max() < 0.1


def test_the_variables_of_a_chunk_come_of_one_read(
    scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    lattice, windows = aligned_lattice(100, 80, shift=3), []
    genuine = composite.read_composite

    def read(scenes: Any, lattice: Lattice, window: Window, bands: Any) -> Any:
        windows.append(window)
        return genuine(scenes, lattice, window, bands)

    monkeypatch.setattr(composite, "read_composite", read)
    image = catalog.composite(scenes, lattice, RGB)
    for scheduler in ("synchronous", "threads"):
        windows.clear()
        image.compute(scheduler=scheduler)
        by_place = sorted(windows, key=lambda window: (window.y0, window.x0))
        assert by_place == [shard.window for shard in lattice.shards()]
    windows.clear()
    image.isel(y=slice(40, 50), x=slice(5, 60)).compute()
    assert len(windows) == 2  # the shards that the window touches


def test_a_task_carries_nothing_but_its_place(scenes: list[Scene]) -> None:
    many = [replace(each, id=f"{each.id}-{number}") for each in scenes for number in range(50)]
    image = catalog.composite(many, aligned_lattice(100, 80), RGB)
    (optimised,) = dask.optimize(image)
    graph = dict(optimised.__dask_graph__())
    sizes = [len(pickle.dumps(task)) for task in graph.values()]
    assert len([size for size in sizes if size > 3000]) == 1  # the scenes, once


def test_what_cannot_be_read_is_named_when_it_is_computed(tmp_path: Path) -> None:
    found = two_scenes(tmp_path)
    image = catalog.composite(found, aligned_lattice(100, 80, shift=3), RGB)
    Path(found[1].assets[0].href).unlink()
    with pytest.raises(SceneReadError, match="second cannot be read"):
        image.compute(scheduler="synchronous")
