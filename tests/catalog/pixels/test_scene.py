"""Reading against rasterio and PROJ: values, no data, coordinates, and what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.archives.items import Asset, Scene
from catalog.archives.search import catalog_api, search
from catalog.errors import ArgumentError, SceneReadError
from catalog.grid import Lattice, Window, lattice_for
from catalog.pixels.scene import probe, source_window
from tests.support.scenes import (
    NOON,
    REAL_ITEMS,
    aligned_lattice,
    needs_real_data,
    noise,
    read_window,
    same,
    scene,
    scene_of,
    write_raster,
)

RGB = ("red", "green", "blue")


def positions_crs(lattice: Lattice, window: Window, crs: str) -> np.ndarray:
    """CRS coordinates of a window's pixel centres by PROJ alone."""
    transformer = pyproj.Transformer.from_crs(lattice.crs, crs, always_xy=True)
    x, y = lattice.crs_from_px(window.positions())
    return np.stack(transformer.transform(x, y))


def test_aligned_pixels_are_the_files_to_the_bit(tmp_path: Path) -> None:
    for dtype in ("uint8", "uint16", "int16", "float32"):
        values = noise((3, 50, 40), dtype)
        found = scene_of(write_raster(tmp_path / f"{dtype}.tif", values), RGB)
        lattice = aligned_lattice(shift=8)
        window = Window(8, 8, 50, 40)
        assert same(read_window([found], lattice, window, RGB), values.astype("float32"))
        whole = read_window([found], lattice, lattice.window, RGB)
        assert np.isfinite(whole).sum() == values.size
        assert same(whole[:, 8:58, 8:48], values.astype("float32"))


def test_bands_come_in_the_order_asked(tmp_path: Path) -> None:
    values = noise((3, 64, 64))
    found = scene_of(write_raster(tmp_path / "x.tif", values), RGB)
    lattice = aligned_lattice()
    read = read_window([found], lattice, lattice.window, ("blue", "red"))
    assert same(read, values[[2, 0]].astype("float32"))
    with pytest.raises(ArgumentError, match="no band nir; it has: red, green, blue"):
        read_window([found], lattice, lattice.window, ("nir",))


def test_no_data_is_nan_however_it_is_said(tmp_path: Path) -> None:
    lattice = aligned_lattice()
    hole = np.zeros((64, 64), dtype=bool)
    hole[10:20, 30:40] = True

    def read(name: str, values: np.ndarray, asset: dict[str, Any], **profile: Any) -> np.ndarray:
        path = write_raster(tmp_path / f"{name}.tif", values, **profile)
        bands = ("vh",) if len(values) == 1 else RGB
        found = scene_of(path, bands, **asset)
        part = source_window(found, lattice, lattice.window.positions())
        assert part is not None
        warped = read_window([found], lattice, lattice.window, bands)
        assert same(part[0], warped)
        return warped

    zeros = np.where(hole, 0, noise((1, 64, 64)))
    assert np.array_equal(np.isnan(read("declared in file", zeros, {}, nodata=0))[0], hole)
    assert np.array_equal(np.isnan(read("declared in item", zeros, {"nodata": 0.0}))[0], hole)
    assert not np.isnan(read("not declared", zeros, {})).any()
    nans = np.where(hole, np.nan, noise((1, 64, 64), "float32")).astype("float32")
    assert np.array_equal(np.isnan(read("nan", nans, {}))[0], hole)
    assert np.array_equal(np.isnan(read("declared nan", nans, {}, nodata=np.nan))[0], hole)

    black_red = noise((3, 64, 64))
    black_red[0, 40:50] = 0
    black_red[:, hole] = 0
    partial = read("zero in one band is data", black_red, {}, nodata=0)
    assert np.array_equal(np.isnan(partial).all(axis=0), hole)
    assert (partial[0, 40:50] == 0).all()


def test_alpha_and_mask_bands_are_respected(tmp_path: Path) -> None:
    lattice = aligned_lattice()
    hole = np.zeros((64, 64), dtype=bool)
    hole[10:20, 30:40] = True
    rgba = np.concatenate([noise((3, 64, 64)), np.where(hole, 0, 255)[None].astype("uint8")])
    with_alpha = scene_of(
        write_raster(tmp_path / "alpha.tif", rgba, photometric="RGB", alpha="YES"), RGB
    )
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_raster(tmp_path / "mask.tif", rgba[:3])
        with rasterio.open(path, "r+") as target:
            target.write_mask(~hole)
    for found in (with_alpha, scene_of(path, RGB)):
        warped = read_window([found], lattice, lattice.window, RGB)
        part = source_window(found, lattice, lattice.window.positions())
        assert part is not None
        for read in (warped, part[0]):
            assert np.array_equal(np.isnan(read).any(axis=0), hole)
            assert np.array_equal(read[:, ~hole], rgba[:3, ~hole].astype("float32"))


def test_values_are_physical(tmp_path: Path) -> None:
    lattice = aligned_lattice()
    stored = noise((1, 64, 64), "int16")
    stored[0, 0, 0] = -999
    path = write_raster(tmp_path / "x.tif", stored, nodata=-999)
    found = scene_of(path, ("vv",), scale=0.5, offset=-10.0)
    expected = np.where(stored == -999, np.nan, stored * 0.5 - 10.0).astype("float32")
    assert same(read_window([found], lattice, lattice.window, ("vv",)), expected)
    part = source_window(found, lattice, lattice.window.positions())
    assert part is not None
    assert same(part[0], expected)


def coordinate_raster(path: Path, crs: str, corner: tuple[float, float], pixel: float) -> Scene:
    """A scene whose two bands hold the x and y of their own pixel centres, less the corner's.

    Bilinear resampling keeps such planes exactly, so a value read anywhere tells its position.
    """
    side = 300
    offset = (np.arange(side) + 0.5) * pixel
    values = np.stack(np.meshgrid(offset, -offset)).astype("float32")
    write_raster(path, values, crs=crs, corner=corner, pixel=pixel)
    return scene_of(path, ("vv", "vh"))


@pytest.mark.parametrize(
    ("crs", "corner", "pixel"),
    [
        ("EPSG:3395", (-13_170_000.0, 4_000_000.0), 10.0),
        ("EPSG:32612", (-55_000.0, 3_780_000.0), 10.0),
        ("EPSG:4326", (-118.3, 33.95), 0.0001),
    ],
)
def test_coordinates_are_right_across_projections(
    tmp_path: Path, crs: str, corner: tuple[float, float], pixel: float
) -> None:
    found = coordinate_raster(tmp_path / "x.tif", crs, corner, pixel)
    lattice = lattice_for(found.footprint.bounds)
    x, y = positions_crs(lattice, lattice.window, crs)
    true_px = np.stack([x - corner[0], y - corner[1]]) / pixel
    warped = read_window([found], lattice, lattice.window, ("vv", "vh")) / pixel
    inside = np.isfinite(warped).all(axis=0)
    # Beyond the centres of the outermost pixels there is nothing to interpolate towards.
    inner = inside & (np.abs(np.abs(true_px).transpose(1, 2, 0) - 150).max(axis=2) < 148)
    assert inner.mean() > 0.5
    # GDAL's bilinear kernel wavers by some hundredths of a pixel around the truth.
    error = (warped - true_px)[:, inner]
    assert np.abs(error).max() < 0.1
    assert np.abs(error.mean(axis=1)).max() < 0.01

    part = source_window(found, lattice, lattice.window.positions())
    assert part is not None
    exact = np.stack([true_px[0], -true_px[1]]) - 0.5
    values, source_xy = part
    offset = np.array([values[0, 0, 0], -values[1, 0, 0]]) / pixel - 0.5
    assert np.abs(source_xy + offset.reshape(2, 1, 1) - exact).max() < 0.015


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(-0.02, 0.02))
def test_source_positions_are_exact_for_displaced_windows(
    tmp_path: Path, dx: float, dy: float, slope: float
) -> None:
    path = tmp_path / "x.tif"
    corner = (-13_170_000.0, 4_000_000.0)
    if not path.exists():
        coordinate_raster(path, "EPSG:3395", corner, 10.0)
    found = scene_of(path, ("vv", "vh"))
    lattice = lattice_for(found.footprint.bounds)
    positions = Window(60, 50, 120, 140).positions()
    positions = positions + np.array([dx, dy]).reshape(2, 1, 1) + slope * positions[::-1]
    part = source_window(found, lattice, positions)
    assert part is not None
    values, source_xy = part
    to_scene = pyproj.Transformer.from_crs(lattice.crs, "EPSG:3395", always_xy=True)
    x, y = to_scene.transform(*lattice.crs_from_px(positions))
    first = values[:, 0, 0] / 10.0
    exact = np.stack([(x - corner[0]) / 10 - first[0], (corner[1] - y) / 10 + first[1]])
    assert np.abs(source_xy - exact).max() < 0.015


def test_source_windows_are_small_and_the_files_own(tmp_path: Path) -> None:
    values = noise((1, 200, 200))
    found = scene_of(write_raster(tmp_path / "x.tif", values), ("vh",))
    lattice = aligned_lattice(200, 200)
    positions = Window(50, 80, 20, 30).positions() + 0.25
    part = source_window(found, lattice, positions)
    assert part is not None
    assert same(part[0], values[:, 46:75, 76:115].astype("float32"))
    np.testing.assert_allclose(part[1][:, 0, 0], [4.25, 4.25], atol=1e-9)


def test_unknown_positions_stay_unknown_and_foreign_ones_find_nothing(tmp_path: Path) -> None:
    found = scene_of(write_raster(tmp_path / "x.tif", noise((1, 50, 50))), ("vh",))
    lattice = lattice_for(found.footprint.bounds, "EPSG:3395", 10.0)
    positions = Window(5, 5, 20, 20).positions()
    positions[:, 3, 4] = np.nan
    part = source_window(found, lattice, positions)
    assert part is not None
    assert np.isnan(part[1][:, 3, 4]).all()
    assert np.isfinite(part[1]).sum() == part[1].size - 2
    assert source_window(found, lattice, positions + 10_000) is None
    assert source_window(found, lattice, np.full((2, 4, 4), np.nan)) is None
    with pytest.raises(ArgumentError, match="infinite"):
        source_window(found, lattice, np.full((2, 4, 4), np.inf))


def test_windows_may_leave_the_lattice(tmp_path: Path) -> None:
    values = noise((1, 40, 40))
    found = scene_of(write_raster(tmp_path / "x.tif", values), ("vh",))
    beside = aligned_lattice(20, 20, shift=20)  # ends where the raster begins
    window = Window(20, 20, 40, 40)
    assert same(read_window([found], beside, window, ("vh",)), values.astype("float32"))
    part = source_window(found, beside, window.positions())
    assert part is not None
    assert same(part[0], values.astype("float32"))


def test_much_finer_sources_are_averaged_down(tmp_path: Path) -> None:
    values = noise((1, 640, 640), "float32")
    found = scene_of(write_raster(tmp_path / "x.tif", values, pixel=1.0), ("vh",))
    lattice = aligned_lattice(64, 64)
    part = source_window(found, lattice, lattice.window.positions())
    assert part is not None
    averaged, source_xy = part
    np.testing.assert_allclose(averaged[0], values[0].reshape(64, 10, 64, 10).mean((1, 3)), 1e-5)
    np.testing.assert_allclose(source_xy, lattice.window.positions(), atol=1e-9)


def test_assets_of_one_scene_must_share_their_grid(tmp_path: Path) -> None:
    paths = [
        write_raster(tmp_path / "vv.tif", noise((1, 64, 64), seed=1)),
        write_raster(tmp_path / "vh.tif", noise((1, 64, 64), seed=2)),
        write_raster(tmp_path / "coarse.tif", noise((1, 32, 32)), pixel=20.0),
    ]
    vv, vh, coarse = (Asset(path.stem, str(path), (path.stem,)) for path in paths)
    box = scene_of(paths[0], ("vv",)).footprint.bounds
    lattice = aligned_lattice()
    part = source_window(scene("x", box, assets=(vv, vh)), lattice, lattice.window.positions())
    assert part is not None
    assert part[0].shape == (2, 64, 64)
    mixed = scene("x", box, assets=(vv, coarse))
    with pytest.raises(SceneReadError, match="vv, coarse are on different pixel grids"):
        source_window(mixed, lattice, lattice.window.positions())
    assert np.isfinite(read_window([mixed], lattice, lattice.window, ("vv", "coarse"))).all()


@needs_real_data
@pytest.mark.real_data
@pytest.mark.parametrize("collection", ["sentinel-2-visual", "sentinel-1-grd-vh"])
def test_real_scenes_lie_where_rasterio_says(collection: str) -> None:
    box = (-118.0, 33.75, -117.95, 33.79)
    with catalog_api(str(REAL_ITEMS)) as url:
        found = search(url, collection, box, NOON.date(), NOON.replace(day=8).date())
    lattice = lattice_for(box)
    real = next(each for each in found if each.footprint.contains(lattice.lonlat_extent().centroid))
    probe(real)
    window = Window(120, 100, 150, 160)
    part = source_window(real, lattice, window.positions())
    assert part is not None
    values, source_xy = part
    with rasterio.open(real.assets[0].href) as source:
        whole = source.read().astype("float32")
        x, y = positions_crs(lattice, window, source.crs.to_wkt())
        left, top = source.transform.c, source.transform.f
        exact = np.stack([(x - left) / source.res[0], (top - y) / source.res[1]]) - 0.5
    # The crop is the file's pixels, found where the coordinates say it was cut.
    corner = np.round(exact[:, 0, 0] - source_xy[:, 0, 0]).astype(int)
    rows = slice(corner[1], corner[1] + values.shape[1])
    assert same(values, whole[:, rows, corner[0] : corner[0] + values.shape[2]])
    assert np.abs(source_xy + corner.reshape(2, 1, 1) - exact).max() < 0.015
    warped = read_window([real], lattice, window, real.bands)
    row, col = (
        np.clip(np.round(axis).astype(int), 0, size - 1)
        for axis, size in zip(exact[::-1], whole.shape[1:], strict=True)
    )
    nearest = whole[:, row, col]
    known = np.isfinite(warped)
    assert known.mean() > 0.5
    assert np.corrcoef(warped[known], nearest[known])[0, 1] > 0.95
