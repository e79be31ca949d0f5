"""Which part of a grid positions fall on, and where."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from affine import Affine

from catalog.errors import ArgumentError
from catalog.grid import Window, lattice_for
from catalog.pixels.positions import raster_from_lattice, window_around
from catalog.pixels.rasters import RasterGrid
from tests.support.grd import region


def test_the_window_of_positions_passes_over_unknown_ones() -> None:
    positions = Window(4, -2, 3, 5).positions() + 0.25
    positions[:, 0, 0] = np.nan
    assert window_around(positions) == Window(4, -2, 4, 6)
    assert window_around(np.full((2, 3, 3), np.nan)) is None
    with pytest.raises(ArgumentError, match="infinite"):
        window_around(np.full((2, 3, 3), np.inf))


def test_a_window_is_placed_as_its_positions_are_in_any_order() -> None:
    """Whole windows are interpolated axis by axis, other positions one by one."""
    lattice = lattice_for(region(4))
    grid = RasterGrid(pyproj.CRS("EPSG:3857"), Affine(14, 0, 1.1e6, 0, -14, 5.9e6), (900, 900))
    positions = Window(30, -20, 300, 420).positions()
    whole = raster_from_lattice(lattice, grid, positions)
    order = np.random.default_rng(0).permutation(positions[0].size)
    shuffled = positions.reshape(2, -1)[:, order].reshape(positions.shape)
    others = raster_from_lattice(lattice, grid, shuffled)
    np.testing.assert_allclose(others.reshape(2, -1), whole.reshape(2, -1)[:, order], atol=1e-7)
    shuffled[:, 3, 4] = np.nan
    unknown = raster_from_lattice(lattice, grid, shuffled)
    assert np.isnan(unknown).sum() == 2
    assert np.isnan(unknown[:, 3, 4]).all()


def test_rasters_in_degrees_go_on_across_the_antimeridian() -> None:
    """One raster across it, and one on each side of it, as the tiles of a DEM."""
    lattice = lattice_for((179.9, 50.0, -179.9, 50.1), resolution=100.0)
    longitudes = pyproj.Transformer.from_crs(lattice.crs, "EPSG:4326", always_xy=True).transform(
        *lattice.crs_from_px(lattice.window.positions())
    )[0]
    whole, west, east = (
        raster_from_lattice(lattice, grid_in_degrees(corner), lattice.window.positions())[0]
        for corner in (179.5, 179.0, -180.0)
    )
    expected = np.where(longitudes < 0, longitudes + 360, longitudes)
    np.testing.assert_allclose((whole + 0.5) / 100 + 179.5, expected, atol=1e-4)
    on_west, on_east = ((x > -0.5) & (x < 99.5) for x in (west, east))
    assert np.array_equal(on_west, ~on_east)
    assert np.array_equal(on_east, longitudes < 0)


def grid_in_degrees(west: float) -> RasterGrid:
    """A degree squared, a hundredth of a degree a pixel."""
    transform = Affine(0.01, 0, west, 0, -0.01, 50.5)
    return RasterGrid(pyproj.CRS.from_epsg(4326), transform, (100, 100))
