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
