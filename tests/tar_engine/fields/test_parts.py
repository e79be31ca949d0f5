"""A large field in parts is the field, whoever solves them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_engine.config import FitConfig
from tar_engine.fields.field import ControlLattice
from tar_engine.fields.fit import fit
from tar_engine.fields.matches import Matches
from tar_engine.fields.parts import LEAST_TRIED, Part, Parts, Result, Span, fit_part
from tests.support.matches import grid_xy, noisy_matches, terrain

SIDE = 1600
IN_PARTS = FitConfig(core_rows=23, core_columns=18)
SMALL_PARTS = FitConfig(core_rows=6, core_columns=5, overlap_points=5)
IN_ONE = FitConfig(core_rows=100, core_columns=100)


@pytest.fixture(scope="module")
def seen() -> Matches:
    """Terrain with noise and outliers, a lake that nothing is known of, and a corner cut off."""
    xy = grid_xy(SIDE)
    xy = xy[xy.sum(axis=1) < 1.7 * SIDE]
    lake = np.hypot(*(xy - SIDE / 2).T) < 250
    confidence = np.random.default_rng(0).random(len(xy)) * ~lake
    return replace(noisy_matches(xy, terrain(xy), 0.3), confidence=confidence)


def parts_of(seen: Matches, config: FitConfig) -> Parts:
    return Parts(seen, np.zeros(len(seen), np.int64), np.eye(2, 3), config)


def test_a_field_of_many_parts_is_that_of_one(seen: Matches) -> None:
    assert len(parts_of(seen, IN_PARTS).spans) > LEAST_TRIED
    assert len(parts_of(seen, IN_ONE).spans) == 1
    many, one = fit(seen, IN_PARTS), fit(seen, IN_ONE)
    assert many.field.kind == one.field.kind == "smooth"
    apart = np.hypot(*(many.field.at(seen.optical_xy) - one.field.at(seen.optical_xy)).T)
    assert np.median(apart) < 0.005
    assert apart.max() < 0.1
    assert np.isfinite(many.unseen_px).all()
    assert np.quantile(abs(many.unseen_px - one.unseen_px), 0.99) < 0.05
    assert many.verdict.expected_error_px == pytest.approx(one.verdict.expected_error_px, rel=0.01)


def test_parts_solved_elsewhere_in_any_order_give_the_same_bits(seen: Matches) -> None:
    calls = 0

    def elsewhere(function: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
        nonlocal calls
        calls += 1
        sent = [pickle.dumps((function, part)) for part in parts]
        found = {}
        for place in np.random.default_rng(calls).permutation(len(sent)):
            there, part = pickle.loads(sent[place])
            found[place] = pickle.loads(pickle.dumps(there(part)))
        return [found[place] for place in range(len(sent))]

    some = seen.select((seen.optical_xy < 400).all(axis=1))
    here, there = fit(some, SMALL_PARTS), fit(some, SMALL_PARTS, elsewhere)
    assert calls == 2
    assert here.field.control is not None
    assert there.field.control is not None
    assert np.array_equal(here.field.control, there.field.control)
    assert np.array_equal(here.unseen_px, there.unseen_px)
    assert here.verdict == there.verdict


def test_a_part_without_matches_keeps_the_start() -> None:
    start = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, -2.0]])
    nothing = Matches.concatenate(())
    part = Part(ControlLattice(0, 0, 24.0, 9, 7), nothing, np.empty(0, int), start, 2.0, IN_PARTS)
    (rung,) = fit_part(part, (0.1,), 0.5)
    assert np.array_equal(rung.field.at(np.array([[70.0, 80.0]])), [[3.0, -2.0]])
    assert rung.unseen_px.shape == (0,)


@given(
    xy=st.lists(st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000)), min_size=1, max_size=30)
)
def test_every_match_is_answered_by_one_part_that_holds_it(xy: list[tuple[float, float]]) -> None:
    places = np.array(xy)
    one = np.ones(len(xy))
    parts = parts_of(Matches(places, places, one, one), FitConfig())
    answered = np.zeros(len(xy), np.int64)
    for held, answers in zip(parts.held, parts.answers, strict=True):
        answered[held[answers]] += 1
    assert (answered == 1).all()


@given(count=st.integers(1, 1000), core=st.integers(1, 200), overlap=st.integers(3, 40))
def test_spans_keep_every_control_point_once(count: int, core: int, overlap: int) -> None:
    spans = Span.of(count, core, overlap)
    kept = [point for span in spans for point in range(span.first_kept, span.end_kept)]
    assert kept == list(range(count))
    assert all(0 <= s.start <= s.first_kept < s.end_kept <= s.stop <= count for s in spans)
    assert all(s.stop - s.start <= core + 2 * overlap for s in spans)
