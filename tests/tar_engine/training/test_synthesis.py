"""Synthetic ground is repeatable, and the two sensors see it as they should."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from tar_engine.training.synthesis import WATER, draw_ground, sar_image, synthetic_pair

SUBPIXEL = (0.4, 0.3)


def test_one_seed_draws_one_ground() -> None:
    one, again, other = (synthetic_pair(seed, 128) for seed in (5, 5, 6))
    assert np.array_equal(one.optical, again.optical)
    assert np.array_equal(one.sar, again.sar)
    assert not np.array_equal(one.optical, other.optical)


def test_a_drawn_pair_is_uint8_of_one_size_without_nodata() -> None:
    pair = synthetic_pair(1, 128)
    assert pair.optical.shape == (3, 128, 128)
    assert pair.sar.shape == (1, 128, 128)
    assert pair.optical.dtype == pair.sar.dtype == np.uint8
    assert pair.sar.min() >= 1


def test_water_is_dark_to_the_radar() -> None:
    pair = synthetic_pair(7, 256)
    water = pair.ground.cover == WATER
    assert pair.sar[0][water].mean() < 0.5 * pair.sar[0][~water].mean()


def test_speckle_has_the_asked_for_looks() -> None:
    """On even ground the variance of the intensity over its squared mean is one over the looks."""
    pair = synthetic_pair(7, 256, looks=4.0)
    interior = ndimage.binary_erosion(pair.ground.cover == WATER, iterations=4)
    decibels = (pair.sar[0].astype(float) - 1) / 254 * 28 - 30
    intensity = 10 ** (decibels / 10)
    ratio = intensity[interior].var() / intensity[interior].mean() ** 2
    assert 0.15 < ratio < 0.45


def test_the_truth_says_where_the_radar_shows_each_piece_of_ground() -> None:
    ground = draw_ground(360, seed=5)
    sar = sar_image(ground, SUBPIXEL)[0].astype(float)
    rows, columns = np.indices(ground.cover.shape)
    dx, dy = ground.displacement

    def contrast_at(x: np.ndarray, y: np.ndarray) -> float:
        """Share of the radar's variance that the land cover explains when read at (x, y)."""
        seen = ndimage.map_coordinates(sar, (y, x), order=1, mode="nearest")
        kind = ground.cover * 10 + ground.crop
        _, label = np.unique(kind, return_inverse=True)
        means = ndimage.mean(seen, label.reshape(seen.shape), np.arange(label.max() + 1))
        return float(np.var(means[label.ravel()]) / np.var(seen))

    true = contrast_at(columns + dx - SUBPIXEL[0], rows + dy - SUBPIXEL[1])
    assert true > 0.6
    assert true > 1.05 * contrast_at(columns - SUBPIXEL[0], rows - SUBPIXEL[1])
    for wrong_x, wrong_y in ((1.5, 0), (-1.5, 0), (0, 1.5), (0, -1.5)):
        wrong = (columns + dx - SUBPIXEL[0] + wrong_x, rows + dy - SUBPIXEL[1] + wrong_y)
        assert contrast_at(*wrong) < true


def test_misregistration_is_smooth_and_worth_removing() -> None:
    dx, dy = draw_ground(1328, seed=7).displacement
    length = np.hypot(dx, dy)
    assert 3.0 <= np.median(length) <= 6.0
    assert length.max() < 16.0
    assert max(np.abs(np.gradient(axis)).max() for axis in (dx, dy)) < 0.1
