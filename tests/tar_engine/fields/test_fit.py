"""Fields are recovered from noisy matches, and refused where there is nothing to recover."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter

from tar_engine.config import EngineConfig, FitConfig
from tar_engine.fields.field import ControlLattice, Field
from tar_engine.fields.fit import bends_by_chance, fit, judge
from tar_engine.fields.matches import Matches
from tests.support.matches import grid_xy, noisy_matches, terrain


def one(xy: np.ndarray) -> np.ndarray:
    """1 for every match: its confidence, or its error in pixels."""
    return np.ones(len(xy))


def test_a_shift_is_fitted_as_a_shift() -> None:
    xy = grid_xy()
    answer = fit(noisy_matches(xy, np.full_like(xy, 3.0), 0.2))
    assert answer.field.kind == "shift"
    assert answer.verdict.accepted
    assert np.abs(answer.field.at(xy) - 3.0).max() < 0.2
    assert answer.verdict.median_displacement_px == pytest.approx(3 * 2**0.5, abs=0.2)


def test_an_affine_is_fitted_as_an_affine() -> None:
    xy = grid_xy()
    displacement = 0.02 * (xy[:, ::-1] - 256)
    answer = fit(noisy_matches(xy, displacement, 0.2))
    assert answer.field.kind == "affine"
    assert np.abs(answer.field.at(xy) - displacement).max() < 0.3


def test_terrain_is_fitted_as_a_smooth_field() -> None:
    xy = grid_xy()
    answer = fit(noisy_matches(xy, terrain(xy), 0.2))
    assert answer.field.kind == "smooth"
    assert answer.verdict.accepted
    assert np.median(np.hypot(*(answer.field.at(xy) - terrain(xy)).T)) < 0.3
    assert (answer.unseen_px < 2).mean() == pytest.approx(0.8, abs=0.1)


def test_relief_is_fitted_as_two_numbers_where_it_predicts_the_matches() -> None:
    """Sharper than the spline's control points; the field without it stays an affine."""
    xy = grid_xy()
    relief_m = np.random.default_rng(3).normal(0, 20, len(xy))
    matches = noisy_matches(xy, relief_m[:, None] * [0.1, -0.02] + 0.01 * xy, 0.2)
    answer = fit(replace(matches, relief_m=relief_m))
    assert answer.field.kind == "affine"
    assert answer.field.px_per_m == pytest.approx([0.1, -0.02], abs=0.005)
    assert answer.verdict.accepted
    expected = relief_m[:, None] * [0.1, -0.02] + 0.01 * xy
    assert np.abs(answer.field.at(xy, relief_m) - expected).max() < 0.4
    blind = fit(matches)
    assert blind.field.px_per_m is None
    assert np.nanmedian(answer.unseen_px) < np.nanmedian(blind.unseen_px) / 2


def test_relief_that_displaces_nothing_leaves_the_field_as_it_is() -> None:
    xy = grid_xy()
    matches = noisy_matches(xy, terrain(xy), 0.2)
    blind = fit(matches)
    for relief_m in (np.random.default_rng(4).normal(0, 20, len(xy)), np.full(len(xy), np.nan)):
        answer = fit(replace(matches, relief_m=relief_m))
        difference = answer.field.at(xy, np.nan_to_num(relief_m)) - blind.field.at(xy)
        assert np.median(np.hypot(*difference.T)) < 0.1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_random_matches_are_refused_with_a_reason(seed: int) -> None:
    random, xy = np.random.default_rng(seed), grid_xy(256)
    matches = Matches(xy, xy + random.uniform(-8, 8, xy.shape), random.random(len(xy)), one(xy))
    verdict = fit(matches).verdict
    assert not verdict.accepted
    assert "agree" in verdict.reason
    assert verdict.expected_error_px == np.inf


def test_too_few_matches_are_refused() -> None:
    xy = grid_xy(64)[:8]
    verdict = fit(Matches(xy, xy, one(xy), one(xy))).verdict
    assert not verdict.accepted
    assert "8 matches" in verdict.reason


def test_matches_that_say_nothing_where_they_are_held_out_are_refused() -> None:
    """As of a pair that only one corner decides."""
    xy = grid_xy()
    in_corner = (xy < 80).all(axis=1)
    matches = replace(noisy_matches(xy, np.full_like(xy, 3.0), 0.0), confidence=1.0 * in_corner)
    verdict = judge(matches, Field("shift", np.eye(2, 3)), np.where(in_corner, np.nan, 0.5))
    assert not verdict.accepted
    assert "held out" in verdict.reason


def test_what_fits_as_well_elsewhere_is_refused_with_the_period() -> None:
    xy = grid_xy()
    sure = noisy_matches(xy, terrain(xy), 0.1)
    for rival_px, said in ((161.0, "some 161 px off"), (0.0, "one pattern at the same pixels")):
        verdict = fit(replace(sure, rival_px=one(xy) * rival_px)).verdict
        assert not verdict.accepted
        assert said in verdict.reason
        assert verdict.rival_px == rival_px
    some = np.where(xy[:, 0] < np.quantile(xy[:, 0], 0.45), 161.0, np.nan)
    assert fit(replace(sure, rival_px=some).without_doubted()).verdict.accepted


def test_a_pair_that_stands_out_needs_fewer_windows_to_say_so() -> None:
    xy = grid_xy(256)
    sure = noisy_matches(xy, np.full_like(xy, 3.0), 0.3)
    few = replace(sure, confidence=np.where(np.arange(len(xy)) % 2, 0.12, 0.0))
    for prominence, accepted in ((None, False), (9.0, False), (20.0, True)):
        known = None if prominence is None else one(xy) * prominence
        verdict = fit(replace(few, prominence=known)).verdict
        assert verdict.accepted == accepted, verdict.reason
        assert accepted or "windows confirm 50%" in verdict.reason
    elsewhere = replace(few, sar_xy=xy + np.random.default_rng(1).uniform(-8, 8, xy.shape))
    assert not fit(replace(elsewhere, prominence=one(xy) * 20.0)).verdict.accepted


def test_what_one_corner_says_of_a_pair_by_itself_is_doubted_in_the_others() -> None:
    xy, alone = grid_xy(256), EngineConfig().fit
    shift = noisy_matches(xy, np.full_like(xy, 3.0), 0.3)
    stated = []
    for side_px in (256, 130, 60):
        in_corner = (xy < side_px).all(axis=1)
        seen = replace(shift, error_px=np.where(in_corner, shift.error_px, np.inf))
        verdict = fit(seen, alone).verdict
        stated.append(verdict.expected_error_px)
    everywhere = fit(shift, replace(alone, extrapolation_px=0.0, beyond_similarity=math.inf))
    assert stated[0] == pytest.approx(everywhere.verdict.expected_error_px, rel=0.05)
    assert stated[1] > 1.15 * stated[0]
    assert stated[2] == np.inf
    assert "too little of the image" in verdict.reason


def test_errors_that_neighbours_share_bend_no_field_of_a_pair_by_itself() -> None:
    xy, alone = grid_xy(256), EngineConfig().fit
    white = np.random.default_rng(6).normal(size=(2, 16, 16))
    shared = gaussian_filter(white, (0, 2.5, 2.5), mode="wrap").reshape(2, -1).T
    shared *= 0.3 / shared.std()
    matches = Matches(xy, xy + 0.02 * xy + shared, one(xy), one(xy))
    errors = [np.hypot(*(fit(matches, c).field.at(xy) - 0.02 * xy).T) for c in (alone, FitConfig())]
    assert fit(matches).field.kind == "smooth"  # held out blocks do not tell
    assert fit(matches, alone).field.kind == "affine"
    assert errors[0].mean() < 0.6 * errors[1].mean()
    assert fit(noisy_matches(xy, terrain(xy), 0.2), alone).field.kind == "smooth"


@settings(deadline=None)
@given(count=st.integers(1, 400), bend_px=st.floats(0.1, 20))
def test_a_field_has_to_bend_the_more_the_less_is_seen(count: int, bend_px: float) -> None:
    xy, alone = np.random.default_rng(count).uniform(0, 256, (count, 2)), EngineConfig().fit
    seen = Matches(xy, xy, one(xy), one(xy))
    lattice = ControlLattice.over(grid_xy(256), alone.spacing_px)
    control = np.full((2, lattice.rows, lattice.columns), bend_px / 2**0.5)
    everywhere = Field("smooth", np.eye(2, 3), lattice, control)
    spare = count / alone.cells_a_window - alone.bend_windows
    needed_px = alone.least_bend * alone.extrapolation_px / max(1e-9, spare) ** 0.5
    assume(abs(bend_px - needed_px) > 1e-6)
    assert bends_by_chance(everywhere, seen, alone) == (bend_px < needed_px)
    assert not bends_by_chance(everywhere, seen, FitConfig())  # never in a region


def test_a_pair_is_judged_by_its_neighbourhood_s_field() -> None:
    xy = grid_xy()
    right = xy[:, 0] > 384
    foreign_xy = xy + np.random.default_rng(2).uniform(-8, 8, xy.shape)
    good = noisy_matches(xy, terrain(xy), 0.1)
    shared = fit(good)
    assert judge(good.select(right), shared.field, shared.unseen_px[right]).accepted
    mixed = Matches(xy, np.where(right[:, None], foreign_xy, good.sar_xy), one(xy), one(xy))
    shared = fit(mixed)
    assert judge(mixed.select(~right), shared.field, shared.unseen_px[~right]).accepted
    assert not judge(mixed.select(right), shared.field, shared.unseen_px[right]).accepted


def test_a_field_bent_through_a_few_matches_is_no_evidence_for_them() -> None:
    xy = grid_xy(192)
    wrong = np.random.default_rng(5).uniform(-8, 8, xy.shape)
    matches = Matches(xy, xy + wrong, one(xy), one(xy))
    found = fit(matches)
    assert not judge(matches, Field("smooth", np.eye(2, 3)), found.unseen_px).accepted


def test_a_window_of_the_field_equals_its_points() -> None:
    xy = grid_xy()
    field = fit(noisy_matches(xy, terrain(xy), 0.0)).field
    window = field.displacement(100, 37, 60, 40)
    points = np.stack(np.meshgrid(np.arange(100, 160), np.arange(37, 77)), -1).reshape(-1, 2)
    assert np.allclose(window.reshape(2, -1).T, field.at(points.astype(float)), atol=1e-4)


def test_the_best_affine_of_a_smooth_field_is_its_plane() -> None:
    lattice = ControlLattice(-2, -2, 48.0, 16, 16)
    x = -96.0 + 48.0 * np.arange(16)
    control = np.stack([np.tile(0.01 * x, (16, 1)), np.full((16, 16), 2.0)])
    field = Field("smooth", np.eye(2, 3), lattice, control)
    affine = field.best_affine(512, 512)
    assert np.allclose(affine, [[1.01, 0, 0], [0, 1, 2]], atol=1e-9)


def test_a_field_survives_its_arrays() -> None:
    xy = grid_xy()
    field = fit(noisy_matches(xy, terrain(xy), 0.0)).field
    again = Field.from_arrays(field.to_arrays())
    assert np.array_equal(again.at(xy), field.at(xy))


@given(u=st.floats(1.0, 6.9))
def test_the_spline_is_scipy_s(u: float) -> None:
    lattice = ControlLattice(0, 0, 10.0, 10, 10)
    first, weights = lattice.basis_x(np.array([u * 10]))
    dense = np.zeros(10)
    dense[first[0] : first[0] + 4] = weights[0]
    knots = np.arange(-2, 12, dtype=float)
    reference = BSpline.design_matrix(np.array([u]), knots, 3).toarray()[0]
    assert np.allclose(dense, reference, atol=1e-9)
