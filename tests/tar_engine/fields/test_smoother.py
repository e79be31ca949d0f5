"""The smooth field is the least-squares one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tar_engine.fields.field import ControlLattice
from tar_engine.fields.smoother import Smoother
from tests.support.matches import grid_xy, noisy_matches, terrain

STIFFNESS, RIDGE, USUAL = 0.1, 1e-6, 1.3


@pytest.mark.parametrize(("width", "height"), [(256, 256), (20, 256), (256, 20), (9, 9)])
def test_a_solve_is_the_dense_least_squares_solution(width: int, height: int) -> None:
    xy = grid_xy(256)
    xy = xy[(xy[:, 0] < width) & (xy[:, 1] < height)]
    seen = noisy_matches(xy, terrain(xy), 0.0)
    lattice = ControlLattice.over(xy, 24.0)
    found = Smoother(seen, np.eye(2, 3), lattice)
    weight = np.random.default_rng(0).random(len(xy))
    basis, bending = lattice.basis(xy).toarray(), lattice.bending().toarray()
    system = (basis.T * weight) @ basis + USUAL * STIFFNESS * bending.T @ bending
    system += USUAL * RIDGE * np.eye(len(system))
    wanted = (basis.T * weight) @ (seen.sar_xy - seen.optical_xy)
    solved = found.solve(weight, STIFFNESS, RIDGE, USUAL)
    assert solved.field.control is not None
    control = solved.field.control.reshape(2, -1).T
    assert np.allclose(control, np.linalg.solve(system, wanted), atol=1e-7)
    assert np.allclose(solved.displacement, solved.field.at(seen.optical_xy), atol=1e-9)


def test_what_weighs_nothing_tells_nothing() -> None:
    xy = grid_xy(256)
    seen = noisy_matches(xy, terrain(xy), 0.0)
    moved = replace(seen, sar_xy=seen.sar_xy + 9.0 * (xy[:, :1] > 128))
    weight = np.where(xy[:, 0] > 128, 0.0, 1.0)
    lattice = ControlLattice.over(xy, 24.0)
    one, other = (
        Smoother(matches, np.eye(2, 3), lattice).solve(weight, STIFFNESS, RIDGE, USUAL).displacement
        for matches in (seen, moved)
    )
    assert np.allclose(one, other)
