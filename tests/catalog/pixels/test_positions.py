"""Bilinear values at positions: SciPy's where all is known, and what becomes of no data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from catalog.errors import ArgumentError
from catalog.grid import Window
from catalog.pixels.positions import bilinear, window_around
from tests.support.scenes import same

RANDOM = np.random.default_rng(4)


def test_values_are_scipys_and_pixels_their_own() -> None:
    image = RANDOM.normal(size=(2, 40, 50)).astype(np.float32)
    xy = RANDOM.uniform(0, 1, (2, 30, 30)) * np.array([49, 39]).reshape(2, 1, 1)
    expected = [map_coordinates(band, xy[::-1], order=1) for band in image]
    np.testing.assert_allclose(bilinear(image, xy), expected, atol=1e-5)
    centres = Window(3, 5, 20, 30).positions()
    assert same(bilinear(image, centres), image[:, 3:23, 5:35])


def test_beside_no_data_half_of_the_kernel_speaks() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    image[0, 1, 1] = np.nan
    positions = np.array([[1.0, 1.4, 1.6, 0.4, -0.4, -0.6, np.nan], [1, 1, 1, 1, 0, 0, 0]])
    read = bilinear(image, positions[:, None, :])[0, 0]
    np.testing.assert_array_equal(read, np.array([np.nan, np.nan, 6, 4, 0, np.nan, np.nan], "f4"))


def test_the_window_of_positions_passes_over_unknown_ones() -> None:
    positions = Window(4, -2, 3, 5).positions() + 0.25
    positions[:, 0, 0] = np.nan
    assert window_around(positions) == Window(4, -2, 4, 6)
    assert window_around(np.full((2, 3, 3), np.nan)) is None
    with pytest.raises(ArgumentError, match="infinite"):
        window_around(np.full((2, 3, 3), np.inf))
