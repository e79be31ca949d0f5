"""Slices of a pass that lie apart are found, and others are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.grid import lattice_for
from flows.stages.slices import find_slice_shifts, without_slice_shifts
from tar_engine.fields.matches import Matches
from tests.flows.stages.test_fit import BBOX, two_pair_group
from tests.support.matches import grid_xy, terrain

LATTICE = lattice_for(BBOX)
SLICES = two_pair_group().sar  # side by side, cut in the middle


def pass_of_two(step: tuple[float, float], seed: int, relief: float = 1.0) -> Matches:
    """Matches of a pass over relief, whose right slice lies `step` off."""
    random = np.random.default_rng(seed)
    height, width = LATTICE.shape
    xy = grid_xy(max(height, width))
    xy = xy[(xy[:, 0] < width) & (xy[:, 1] < height)]
    displacement = relief * terrain(xy) + random.normal(0, 0.4, xy.shape)
    displacement[xy[:, 0] > width / 2] += step
    wrong = random.random(len(xy)) < 0.1
    displacement[wrong] += random.uniform(-8, 8, (int(wrong.sum()), 2))
    return Matches(xy, xy + displacement, np.ones(len(xy)), np.ones(len(xy)))


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    length=st.floats(3.5, 12),
    angle=st.floats(0, 2 * np.pi),
)
def test_a_step_between_slices_is_found(seed: int, length: float, angle: float) -> None:
    step = length * np.cos(angle), length * np.sin(angle)
    matches = pass_of_two(step, seed, relief=0.5)
    shifts = find_slice_shifts(SLICES, matches, LATTICE)
    assert list(shifts) == ["sar-right"]
    assert np.hypot(*(np.array(shifts["sar-right"]) - step)) < 0.8
    level = without_slice_shifts(SLICES, matches, shifts, LATTICE)
    again = find_slice_shifts(SLICES, level, LATTICE)
    assert again == {}


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_relief_is_no_step(seed: int) -> None:
    assert find_slice_shifts(SLICES, pass_of_two((0.0, 0.0), seed, relief=0.5), LATTICE) == {}


def test_one_slice_or_none_that_touch_have_no_step() -> None:
    matches = pass_of_two((6.0, 0.0), 1)
    assert find_slice_shifts(SLICES[:1], matches, LATTICE) == {}
    left = matches.select(matches.optical_xy[:, 0] < LATTICE.shape[1] / 2)
    assert find_slice_shifts(SLICES, left, LATTICE) == {}
    assert find_slice_shifts(SLICES, Matches.concatenate(()), LATTICE) == {}


def test_matches_that_no_slice_shows_stay() -> None:
    outside = Matches(np.array([[-500.0, 5.0]]), np.array([[-499.0, 5.0]]), np.ones(1), np.ones(1))
    level = without_slice_shifts(SLICES, outside, {"sar-right": (6.0, 0.0)}, LATTICE)
    assert level.sar_xy == pytest.approx(outside.sar_xy)
