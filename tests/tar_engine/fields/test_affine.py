"""An affine is that of least squares; where little is seen it is held to a similarity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_engine.config import FitConfig
from tar_engine.fields.affine import extrapolation_error, weighted_affine
from tar_engine.fields.matches import Matches
from tests.support.matches import grid_xy

LOOSE = FitConfig(extrapolation_px=1.0, cells_a_window=1.0)
HELD = FitConfig(extrapolation_px=1.0, cells_a_window=1.0, beyond_similarity=0.01)
IDENTITY = np.eye(2, 3)


def matched(xy: np.ndarray, sar_xy: np.ndarray) -> Matches:
    return Matches(xy, sar_xy, np.ones(len(xy)), np.ones(len(xy)))


def along_a_line() -> np.ndarray:
    return np.column_stack([np.linspace(10, 240, 20), np.linspace(100, 103, 20)])


def test_the_error_of_what_is_extrapolated_is_that_of_least_squares() -> None:
    """Against many fits to noisy matches."""
    random, xy = np.random.default_rng(3), grid_xy(256)
    some, everywhere = xy[(xy < 130).all(axis=1)], xy
    design, wide = (np.column_stack([at, np.ones(len(at))]) for at in (some, everywhere))
    noise = random.normal(0, 1, (len(some), 4000))
    errors = wide @ np.linalg.lstsq(design, noise, rcond=None)[0]
    expected = np.sqrt((errors**2).mean() - 3 / len(some))
    told = extrapolation_error(matched(some, some), IDENTITY, everywhere, LOOSE)
    assert told == pytest.approx(expected, rel=0.02)
    all_over = extrapolation_error(matched(xy, xy), IDENTITY, everywhere, LOOSE)
    assert all_over == pytest.approx(0, abs=1e-4)


def test_held_to_a_similarity_it_is_as_far_off_as_is_told() -> None:
    """Over affines that depart from one as is expected, and noisy matches along a line."""
    random, line, everywhere = np.random.default_rng(4), along_a_line(), grid_xy(256)
    squares = []
    for _ in range(400):
        stretch, shear = random.normal(0, HELD.beyond_similarity, 2)
        true = np.array([[1 + stretch / 2, shear / 2, 3.0], [shear / 2, 1 - stretch / 2, -2.0]])
        sar_xy = line @ true[:, :2].T + true[:, 2] + random.normal(0, 1, line.shape)
        found, _ = weighted_affine(matched(line, sar_xy), np.ones(len(line)), (), HELD)
        off = everywhere @ (found - true)[:, :2].T + (found - true)[:, 2]
        squares.append((off**2).mean())
    told = extrapolation_error(matched(line, line), IDENTITY, everywhere, HELD)
    assert math.hypot(told, (3 / len(line)) ** 0.5) == pytest.approx(
        np.mean(squares) ** 0.5, rel=0.1
    )
    assert told < 0.2 * extrapolation_error(matched(line, line), IDENTITY, everywhere, LOOSE)


@given(angle=st.floats(-3, 3), scale=st.floats(0.5, 2), shift=st.floats(-50, 50))
def test_a_similarity_is_found_from_a_line(angle: float, scale: float, shift: float) -> None:
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    true = np.array([[cosine, -sine, shift], [sine, cosine, -shift]])
    line = along_a_line()
    seen = matched(line, line @ true[:, :2].T + true[:, 2])
    found, _ = weighted_affine(seen, np.ones(len(line)), (), HELD)
    np.testing.assert_allclose(found, true, atol=1e-4)


def test_what_is_surely_sheared_is_not_held() -> None:
    xy = grid_xy(256)
    true = np.array([[1.0, 0.17, 5.0], [0.0, 1.0, -3.0]])
    seen = matched(xy, xy @ true[:, :2].T + true[:, 2])
    found, _ = weighted_affine(seen, np.ones(len(xy)), (), HELD)
    off = xy @ (found - true)[:, :2].T + (found - true)[:, 2]
    assert np.hypot(*off.T).max() < 0.05
    assert extrapolation_error(seen, found, xy, HELD) == pytest.approx(0, abs=1e-4)


@given(turn_deg=st.floats(-180, 180), seed=st.integers(0, 1000))
def test_a_turned_sar_image_turns_the_affine_alone(turn_deg: float, seed: int) -> None:
    """Whether it is stretched or sheared says only how it lies."""
    random, xy = np.random.default_rng(seed), along_a_line()
    skewed = np.eye(2) + random.normal(0, 0.05, (2, 2))
    sar_xy = xy @ skewed.T + random.normal(0, 1, xy.shape)
    cosine, sine = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    weight = random.uniform(0.1, 1, len(xy))
    found, _ = weighted_affine(matched(xy, sar_xy), weight, (), HELD)
    turned, _ = weighted_affine(matched(xy, sar_xy @ turn.T), weight, (), HELD)
    np.testing.assert_allclose(turned, turn @ found, atol=1e-4)
    told, told_turned = (
        extrapolation_error(matched(xy, xy), affine, grid_xy(256), HELD)
        for affine in (found, turned)
    )
    assert told_turned == pytest.approx(told, rel=1e-4)
