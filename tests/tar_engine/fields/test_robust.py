"""Robust weights fall with the residual as their papers say, in torch as in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tar_engine.fields.robust import msac_vote, robust_weight

residuals = st.floats(0, 1e3)
tolerances = st.floats(0.1, 100)


@given(residual=residuals, tolerance=tolerances)
def test_the_weight_is_the_derivative_of_geman_and_mcclure_s_loss(
    residual: float, tolerance: float
) -> None:
    """Of rho = r²/t² / (1 + r²/t²), by r² / t²; autograd is the judge."""
    scaled = torch.tensor((residual / tolerance) ** 2, dtype=torch.float64, requires_grad=True)
    (scaled / (1 + scaled)).backward()
    assert scaled.grad is not None
    squared = torch.tensor(residual**2, dtype=torch.float64)
    assert float(robust_weight(squared, tolerance)) == pytest.approx(float(scaled.grad), rel=1e-9)


@given(st.lists(residuals, min_size=1, max_size=20), tolerances)
def test_torch_and_numpy_weigh_alike(values: list[float], tolerance: float) -> None:
    squared = np.square(np.array(values))
    by_torch = robust_weight(torch.from_numpy(squared), tolerance, 0.7)
    assert np.allclose(by_torch.numpy(), robust_weight(squared, tolerance, 0.7), rtol=1e-12)


@given(tolerance=tolerances)
def test_a_match_at_the_tolerance_keeps_a_quarter_and_has_no_vote(tolerance: float) -> None:
    squared = torch.tensor([0.0, tolerance**2, (2 * tolerance) ** 2], dtype=torch.float64)
    assert robust_weight(squared, tolerance).tolist() == pytest.approx([1, 1 / 4, 1 / 25])
    assert msac_vote(squared, tolerance).tolist() == pytest.approx([1, 0, 0])
