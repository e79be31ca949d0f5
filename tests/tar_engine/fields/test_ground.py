"""What days know together: in any order the same, and no wrong day moves it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_engine.fields.ground import (
    blend,
    combine_days,
    continued,
    fit_affine,
    fit_remainder,
)
from tar_engine.fields.nodes import NodeField, NodeGrid, affine_at, field_through
from tests.support.matches import terrain

GRID = NodeGrid(24, 30)
SIGMA_PX = 0.3  # of a day's nodes


def true_ground() -> np.ndarray:
    return terrain(GRID.xy).T.reshape(2, *GRID.shape)


def made_days(count: int, seed: int, tilt: float = 2e-4) -> list[NodeField]:
    """Days of one ground: each with a shift and a tilt of its own, noise, and ground unseen."""
    random = np.random.default_rng(seed)
    days = []
    for _ in range(count):
        affine = np.column_stack([random.normal(0, tilt, (2, 2)), random.normal(0, 0.7, 2)])
        noise = random.normal(0, SIGMA_PX / 2**0.5, (2, *GRID.shape))
        error = np.full(GRID.shape, SIGMA_PX)
        error[random.random(GRID.shape) < 0.2] = np.nan
        shown = true_ground() + affine_at(affine, GRID) + noise
        days.append(NodeField(np.where(np.isfinite(error), shown, np.nan), error))
    return days


def pattern(field: NodeField) -> np.ndarray:
    """A field less its mean: what of it is the ground's shape."""
    return field.displacement - np.nanmean(field.displacement, axis=(1, 2), keepdims=True)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(5)))
def test_the_order_of_days_does_not_matter(seed: int, order: list[int]) -> None:
    days = made_days(5, seed)
    forth, back = combine_days(days), combine_days([days[place] for place in order])
    # Sums in another order differ in the last digits; the stated error is ten thousand times that.
    np.testing.assert_allclose(
        back.field.displacement, forth.field.displacement, atol=1e-6, equal_nan=True
    )
    np.testing.assert_allclose(back.remainders, forth.remainders[order], atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    which=st.integers(0, 5),
    dx=st.floats(-20, 20),
    dy=st.floats(-20, 20),
)
def test_a_shifted_day_moves_the_ground_no_further_than_the_other_days_lie_apart(
    seed: int, which: int, dx: float, dy: float
) -> None:
    days = made_days(6, seed)
    sound = combine_days(days)
    day = days[which]
    shift = np.array([dx, dy])[:, None, None]
    days[which] = NodeField(day.displacement + shift, day.error)
    moved = combine_days(days).field.displacement - sound.field.displacement
    # Wherever one of six lies, their median lies between the means of the middle others.
    middle = np.append(GRID.xy.mean(axis=0), 1.0)
    others = np.sort(np.delete(sound.remainders, which, axis=0) @ middle, axis=0)
    room = (others[3] - others[1]) / 2
    assert np.nanmedian(np.hypot(*moved)) <= np.hypot(*room) + 0.1


def test_a_part_that_is_wrong_on_one_day_does_not_show() -> None:
    days = made_days(5, seed=3)
    bent = days[2].displacement.copy()
    bent[:, 5:12, 5:12] += 6.0
    sound = combine_days(days).field.displacement
    days[2] = NodeField(bent, days[2].error)
    moved = combine_days(days).field.displacement - sound
    assert np.nanmax(np.hypot(*moved)[5:12, 5:12]) < 0.35


def test_more_days_make_the_ground_surer_and_say_so() -> None:
    errors, stated = [], []
    for count in (1, 2, 4, 8):
        ground = combine_days(made_days(count, seed=11)).field
        errors.append(np.nanmedian(np.hypot(*(pattern(ground) - pattern(_truth(ground))))))
        stated.append(np.nanmedian(ground.error))
    assert errors[-1] < 0.5 * errors[0]
    assert stated[-1] < 0.5 * stated[0]
    assert stated == sorted(stated, reverse=True)


def _truth(ground: NodeField) -> NodeField:
    return NodeField(np.where(ground.known, true_ground(), np.nan), ground.error)


def test_each_day_has_its_remainder() -> None:
    days = made_days(1, seed=5, tilt=0.0)
    shift = np.column_stack([np.zeros((2, 2)), [1.5, -0.5]])
    moved = NodeField(days[0].displacement + affine_at(shift, GRID), days[0].error)
    remainder = fit_remainder(moved, days[0], 1.0)
    middle = affine_at(remainder, GRID)[:, 12, 15]
    np.testing.assert_allclose(middle, [1.5, -0.5], atol=0.02)
    ground = combine_days([days[0], moved])
    between = affine_at(ground.remainders[1] - ground.remainders[0], GRID)[:, 12, 15]
    np.testing.assert_allclose(between, [1.5, -0.5], atol=0.02)


def test_outliers_do_not_turn_an_affine() -> None:
    random = np.random.default_rng(0)
    xy = random.uniform(0, 500, (300, 2))
    displacement = np.full((300, 2), 2.0) + random.normal(0, 0.2, (300, 2))
    displacement[:60] += random.uniform(3, 20, (60, 2))
    affine = fit_affine(xy, displacement, np.full(300, 25.0), 0.7)
    np.testing.assert_allclose(xy @ affine[:, :2].T + affine[:, 2], 2.0, atol=0.15)


def test_an_answer_lies_between_memory_and_today_by_their_errors() -> None:
    before, today = made_days(2, seed=8, tilt=0.0)
    flat = np.zeros((2, *GRID.shape))
    before = NodeField(flat, np.full(GRID.shape, 0.1))
    today = NodeField(flat + 0.1, np.full(GRID.shape, 0.2))
    answer = blend(before, today)
    # 0.05 px are allowed to the pass, so memory weighs 3.2 times as much, not four.
    np.testing.assert_allclose(answer.displacement, 0.1 / (1 + 3.2), atol=0.005)
    assert (answer.error < before.error).all()


def test_where_the_ground_has_changed_today_is_believed() -> None:
    flat = np.zeros((2, *GRID.shape))
    before = NodeField(flat, np.full(GRID.shape, 0.1))
    changed = flat.copy()
    changed[:, :, 18:] += 3.0
    answer = blend(before, NodeField(changed, np.full(GRID.shape, 0.2)))
    assert np.abs(answer.displacement[:, :, 23:] - 3.0).max() < 0.1
    assert np.abs(answer.displacement[:, :, :12]).max() < 0.1


def test_what_neither_knows_stays_unknown_until_it_is_continued() -> None:
    displacement, error = np.ones((2, *GRID.shape)), np.full(GRID.shape, 0.2)
    displacement[:, :, 10:], error[:, 10:] = np.nan, np.nan
    answer = blend(NodeField(displacement, error), NodeField(displacement, error))
    assert not answer.known[:, 10:].any()
    whole = continued(answer)
    np.testing.assert_allclose(whole.displacement, 1.0, atol=1e-9)
    assert (whole.error[:, 14:] > 2.0).all()
    assert (whole.error[:, :8] < 0.2).all()


@pytest.mark.parametrize("shape", [(24, 30), (4, 4), (3, 9)])
def test_the_field_through_nodes_goes_through_them(shape: tuple[int, int]) -> None:
    grid = NodeGrid(*shape)
    displacement = np.random.default_rng(1).normal(0, 1, (2, *shape))
    there = field_through(displacement).at(grid.xy).T.reshape(2, *shape)
    np.testing.assert_allclose(there, displacement, atol=1e-6)
