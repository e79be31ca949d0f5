"""Resampling keeps what it should keep."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from catalog.grid import Window
from catalog.pixels.resample import keys_weights, resample, resample_bilinear
from tests.support.scenes import same

IMAGE = np.random.default_rng(0).random((2, 40, 50), dtype=np.float32)


def positions(width: int, height: int, dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width) + dx, np.arange(height) + dy))


def test_pixel_centres_return_their_pixels_bit_for_bit() -> None:
    assert np.array_equal(resample(IMAGE, positions(50, 40)), IMAGE)


@given(dx=st.floats(0, 0.99), dy=st.floats(0, 0.99))
def test_a_plane_is_reproduced_between_the_pixels(dx: float, dy: float) -> None:
    plane = (0.5 * positions(50, 40)[0] - 0.25 * positions(50, 40)[1])[None].astype(np.float32)
    out = resample(plane, positions(40, 30, 2 + dx, 2 + dy))
    x, y = positions(40, 30, 2 + dx, 2 + dy)
    assert np.allclose(out[0], 0.5 * x - 0.25 * y, atol=1e-4)


@given(fraction=st.floats(0, 1, exclude_max=True))
def test_the_taps_of_the_kernel_sum_to_one(fraction: float) -> None:
    assert abs(sum(float(tap) for tap in keys_weights(np.array(fraction))) - 1) < 1e-6


def test_nodata_stays_nodata_and_does_not_bleed() -> None:
    image = np.ones((1, 40, 50), np.float32)
    image[:, :, 20:] = np.nan
    out = resample(image, positions(50, 40, 0.3))
    assert np.allclose(out[0, :, :19], 1, atol=1e-6)
    assert np.isnan(out[0, :, 21:]).all()


def test_outside_and_undefined_positions_are_nodata() -> None:
    xy = positions(50, 40, -10.0)
    xy[:, 5, 30] = np.nan
    out = resample(IMAGE, xy)
    assert np.isnan(out[:, :, :9]).all()
    assert np.isnan(out[:, 5, 30]).all()
    assert np.array_equal(out[:, 6, 10:], IMAGE[:, 6, :40])


def test_bilinear_values_are_scipys_and_pixel_centres_keep_their_bits() -> None:
    random = np.random.default_rng(4)
    image = random.normal(size=(2, 40, 50)).astype(np.float32)
    xy = random.uniform(0, 1, (2, 30, 30)) * np.array([49, 39]).reshape(2, 1, 1)
    expected = [map_coordinates(band, xy[::-1], order=1) for band in image]
    np.testing.assert_allclose(resample_bilinear(image, xy), expected, atol=1e-5)
    centres = Window(3, 5, 20, 30).positions()
    assert same(resample_bilinear(image, centres), image[:, 3:23, 5:35])


def test_bilinear_values_beside_nodata_need_half_of_the_kernel() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    image[0, 1, 1] = np.nan
    positions = np.array([[1.0, 1.4, 1.6, 0.4, -0.4, -0.6, np.nan], [1, 1, 1, 1, 0, 0, 0]])
    read = resample_bilinear(image, positions[:, None, :])[0, 0]
    np.testing.assert_array_equal(read, np.array([np.nan, np.nan, 6, 4, 0, np.nan, np.nan], "f4"))
