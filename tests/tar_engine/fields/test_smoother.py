"""The smooth field is the least-squares one, in one part or in many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tar_engine.config import FitConfig
from tar_engine.fields.matches import Matches
from tar_engine.fields.smoother import Smoother, Span
from tests.support.matches import grid_xy, noisy_matches, terrain

CONFIG, STIFFNESS = FitConfig(), 0.1


def matches(side: int) -> Matches:
    """Terrain with noise, and a stripe that nothing is known of."""
    xy = grid_xy(side)
    confidence = np.random.default_rng(0).random(len(xy)) * (abs(xy[:, 0] - side / 2) > 100)
    return replace(noisy_matches(xy, terrain(xy), 0.0), confidence=confidence)


def test_a_solve_is_the_dense_least_squares_solution() -> None:
    seen = matches(256)
    found = Smoother(seen, np.eye(2, 3), CONFIG)
    weight = (seen.confidence + 0.01) / (seen.confidence + 0.01).mean()
    basis, bending = found.basis.toarray(), found.lattice.bending().toarray()
    density = len(seen) / basis.shape[1]
    system = (basis.T * weight) @ basis + density * STIFFNESS * bending.T @ bending
    system += 1e-6 * density * np.eye(len(system))
    wanted = (basis.T * weight) @ (seen.sar_xy - seen.optical_xy)
    solved = found.solve(weight, STIFFNESS)
    assert solved.field.control is not None
    control = solved.field.control.reshape(2, -1).T
    assert np.allclose(control, np.linalg.solve(system, wanted), atol=1e-8)
    assert np.allclose(solved.displacement, solved.field.at(seen.optical_xy), atol=1e-9)


def test_a_field_of_many_parts_is_that_of_one() -> None:
    seen = matches(1600)
    weight = seen.confidence + 0.01

    def solved(core: int) -> np.ndarray:
        found = Smoother(seen, np.eye(2, 3), replace(CONFIG, core_points=core))
        assert (len(found.parts) > 1) == (core < 50)
        return found.solve(weight, STIFFNESS).field.displacement(0, 0, 1600, 1600)

    assert np.abs(solved(8) - solved(100)).max() < 0.01


@given(count=st.integers(1, 1000))
def test_spans_keep_every_control_point_once(count: int) -> None:
    spans = Span.of(count, CONFIG)
    kept = [point for span in spans for point in range(span.first_kept, span.end_kept)]
    assert kept == list(range(count))
    assert all(0 <= s.start <= s.first_kept < s.end_kept <= s.stop <= count for s in spans)
    assert all(s.size <= CONFIG.core_points + 2 * CONFIG.overlap_points for s in spans)
