"""The smooth field is the least-squares one, in one part or in many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_engine.fields import smoother
from tar_engine.fields.matches import Matches
from tar_engine.fields.smoother import Smoother, Span

SPACING_PX, STIFFNESS = 24.0, 0.1


def matches(side: int) -> Matches:
    """Terrain with noise, and a stripe that nothing is known of."""
    random, axis = np.random.default_rng(0), np.arange(8.0, side, 16.0)
    xy = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    x, y = xy.T * (2 * np.pi / 400)
    move = np.stack([4 * np.sin(x) * np.cos(y), np.sin(y)], -1) + random.normal(0, 0.4, xy.shape)
    confidence = random.random(len(xy)) * (abs(xy[:, 0] - side / 2) > 100)
    return Matches(xy, xy + move, confidence, np.ones(len(xy)))


def test_a_solve_is_the_dense_least_squares_solution() -> None:
    seen = matches(256)
    found = Smoother(seen, np.eye(2, 3), SPACING_PX)
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


def test_a_field_of_many_parts_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = matches(1600)
    weight = seen.confidence + 0.01

    def solved(core: int) -> np.ndarray:
        monkeypatch.setattr(smoother, "CORE", core)
        found = Smoother(seen, np.eye(2, 3), SPACING_PX)
        assert (len(found.parts) > 1) == (core < 50)
        return found.solve(weight, STIFFNESS).field.displacement(0, 0, 1600, 1600)

    assert np.abs(solved(8) - solved(100)).max() < 0.01


@given(count=st.integers(1, 1000))
def test_spans_keep_every_control_point_once(count: int) -> None:
    spans = Span.of(count)
    kept = [point for span in spans for point in range(span.first_kept, span.end_kept)]
    assert kept == list(range(count))
    assert all(0 <= s.start <= s.first_kept < s.end_kept <= s.stop <= count for s in spans)
    assert all(s.size <= smoother.CORE + 2 * smoother.OVERLAP for s in spans)
