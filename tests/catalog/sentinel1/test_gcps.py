"""Geocoding from ground control points: against GDAL's thin-plate spline, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer

from catalog.archives.items import Asset
from catalog.errors import SceneReadError
from catalog.grid import Lattice, Window, lattice_for
from catalog.pixels.positions import raster_from_lattice
from catalog.pixels.sanity import Examination, examine
from catalog.pixels.scene import probe, source_window
from catalog.sentinel1.gcps import gcp_fault, gcp_grid_of, metres_per_column, outline_of
from tests.support.grd import Radar, flat, lonlat_of, mountains, region, write_grd
from tests.support.scenes import REAL_PRODUCTS, noise, require_products, scene, write_raster


@pytest.mark.parametrize("relief", [flat, mountains])
def test_positions_are_those_of_gdals_thin_plate_spline(
    tmp_path: Path, relief: Callable[..., NDArray[np.float64]]
) -> None:
    radar = Radar(relief)
    path = write_grd(tmp_path / "x.tif", radar, noise((1, 16, 16)))
    with rasterio.open(path) as source:
        grid = gcp_grid_of(source)
        points = source.gcps[0]
    # The whole scene coarsely, and a part of it at the density at which it is interpolated.
    coarse = lattice_for((8.9, 45.7, 11.9, 47.5), resolution=2_000.0)
    fine = lattice_for(region(3.0))
    for lattice, every in ((coarse, 1), (fine, 37)):
        positions = lattice.window.positions()
        ours = raster_from_lattice(lattice, grid, positions)[:, ::every, ::every].reshape(2, -1)
        lonlat = lonlat_of(lattice, positions[:, ::every, ::every]).reshape(2, -1)
        with GCPTransformer(points, tps=True) as gdal:
            rows, columns = gdal.rowcol(*lonlat, op=np.asarray)
        # GDAL counts from the corner of the first pixel.
        theirs = np.stack([columns, rows]) - 0.5
        worst = np.abs(ours - theirs).max()
        print(f"\n{relief.__name__}, {lattice.resolution:g} m: {worst:.4f} px from GDAL's spline")
        assert worst < 0.05


def test_control_points_are_met_exactly(tmp_path: Path) -> None:
    radar = Radar(mountains)
    with rasterio.open(write_grd(tmp_path / "x.tif", radar, noise((1, 16, 16)))) as source:
        grid = gcp_grid_of(source)
    assert metres_per_column(grid) == pytest.approx(10, rel=5e-3)
    outline = outline_of(grid)
    assert outline.is_valid
    assert outline.area == pytest.approx(shapely.MultiPoint(grid.xy).convex_hull.area, rel=0.01)
    lattice = lattice_for(outline.bounds, resolution=500.0)
    points = lattice.px_from_lonlat(grid.xy.T)[:, None, :]
    placed = raster_from_lattice(lattice, grid, points)[:, 0]
    assert np.abs(placed - np.stack([grid.columns, grid.rows]) + 0.5).max() < 1e-4


def corners(*lonlat: tuple[float, float]) -> list[GroundControlPoint]:
    places = [(0, 0), (0, 19), (19, 0), (19, 19)]
    return [
        GroundControlPoint(row, col, x, y, 100.0)
        for (row, col), (x, y) in zip(places, lonlat, strict=True)
    ]


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (corners((10, 46), (11, 46), (10, 45), (11, 45))[:3], "span no surface"),
        (corners((10, 46), (11, 46), (12, 46), (13, 46)), "span no surface"),
        (corners((10, 46), (10, 46), (10, 45), (11, 45)), "span no surface"),
        (corners((-150, 88), (-50, 88), (50, 88), (150, 88.5)), "around a pole"),
        (corners((46, 110), (46, 111), (45, 110), (45, 111)), "swapped"),
        (corners((10, 46), (11, 46), (10, float("nan")), (11, 45)), "not finite"),
    ],
)
def test_points_that_say_nothing_are_refused_by_name(
    tmp_path: Path, points: list[GroundControlPoint], says: str
) -> None:
    path = write_raster(tmp_path / "x.tif", noise((1, 20, 20)), crs="EPSG:4326", gcps=points)
    with pytest.raises(SceneReadError, match=says) as caught:
        probe(scene("S1", assets=(Asset("vh", str(path), ("vh",)),)))
    assert caught.value.scene_id == "S1"
    assert str(path) in str(caught.value)


def test_a_geometry_that_the_points_contradict_gives_way(tmp_path: Path) -> None:
    """So does the transform that some archives make up for such files."""
    radar = Radar(flat, shape=(600, 600), points=(5, 5))
    asset = Asset(
        "vv",
        str(write_grd(tmp_path / "x.tif", radar, noise((1, 600, 600), "uint16"))),
        ("vv",),
        transform=(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_100_000.0),
    )
    honest = examine(scene("S1", region(2.8), assets=(asset,)))
    assert honest == Examination(footprint=honest.footprint)  # a box does not hold all of it
    west, south, east, north = region(2.8)
    elsewhere = (west + 1, south, east + 1, north)
    found = examine(scene("S1", elsewhere, assets=(asset,)))
    assert found.excluded is None
    assert (
        "its item's geometry lies to 0% on its raster vv; the raster is believed"
        in (found.warnings[0])
    )
    assert found.footprint is not None
    assert found.footprint.buffer(1e-3).contains(shapely.box(*region(2.0)))


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_radar_image_across_the_antimeridian_is_placed_as_elsewhere(
    tmp_path: Path, wrapped: bool
) -> None:
    """The same points, turned so far that the antimeridian runs through them."""
    radar = Radar(mountains, shape=(400, 400), points=(5, 5))
    path = write_grd(tmp_path / "x.tif", radar, noise((1, 400, 400)))
    with rasterio.open(path) as source:
        grid, points = gcp_grid_of(source), source.gcps[0]
    middle = float(grid.xy[:, 0].mean())
    for point in points:
        point.x += 180 - middle
        point.x -= 360 if wrapped and point.x > 180 else 0
    turned = write_raster(
        tmp_path / "turned.tif", noise((1, 400, 400)), crs="EPSG:4326", gcps=points
    )
    with rasterio.open(turned) as source:
        assert gcp_fault(source) is None
        across = gcp_grid_of(source)
    lattices = [
        Lattice(GeoBox((40, 40), Affine(100, 0, -2e3, 0, -100, 5.17e6), f"+proj=tmerc +lon_0={at}"))
        for at in (middle, 180)
    ]
    here, there = (
        raster_from_lattice(lattice, each, lattice.window.positions())
        for lattice, each in zip(lattices, (grid, across), strict=True)
    )
    np.testing.assert_allclose(there, here, atol=1e-4)
    outline = outline_of(across)
    assert outline.is_valid
    assert outline.area == pytest.approx(outline_of(grid).area, rel=1e-6)


def test_positions_far_from_the_raster_are_finite_and_off_it(tmp_path: Path) -> None:
    """A window that leaves the scene has positions that leave the raster, and no error."""
    radar = Radar(flat, shape=(400, 400), points=(3, 3))
    with rasterio.open(write_grd(tmp_path / "x.tif", radar, noise((1, 400, 400)))) as source:
        grid = gcp_grid_of(source)
    lattice = lattice_for(outline_of(grid).bounds)
    far = raster_from_lattice(lattice, grid, Window(-3000, -3000, 20, 20).positions())
    assert np.isfinite(far).all()
    assert (np.abs(far) > 400).any(axis=0).all()


def test_a_real_scene_without_annotation_has_its_points_where_its_file_says() -> None:
    """Real pixels, decimated, with the control points of the product."""
    require_products()
    path = next(REAL_PRODUCTS.glob("*_FD5B/measurement/iw-vv.tiff"))
    with rasterio.open(path) as source:
        grid = gcp_grid_of(source)
        box = outline_of(grid).bounds
    found = scene("real", box, assets=(Asset("vv", str(path), ("vv",)),))
    assert examine(found).excluded is None
    lattice = lattice_for(box, resolution=200.0)
    xy = raster_from_lattice(lattice, grid, lattice.px_from_lonlat(grid.xy.T)[:, None])
    error = np.hypot(*(xy[:, 0] - (np.stack([grid.columns, grid.rows]) - 0.5)))
    print(f"\n{error.size} points: worst {error.max():.2e} px")
    assert error.max() <= 0.1
    part = source_window(found, lattice, Window(400, 500, 90, 80).positions())
    assert part is not None
    assert 20 < np.nanmedian(part[0]) < 500
