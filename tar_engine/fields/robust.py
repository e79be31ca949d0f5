"""How much a residual counts: the engine's two robust weights, each defined here alone."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

Values = TypeVar("Values", Tensor, npt.NDArray[np.float64])


def robust_weight(squared_px: Values, tolerance_px: float, weight: Values | float = 1.0) -> Values:
    """`weight` of each match less what its residual takes from it (Geman and McClure 1987).

    1 / (1 + r²/t²)²: soft, never 0, so that reweighted least squares can come back to a match.

    Args:
        squared_px: squared residuals, a tensor or a NumPy array of any shape, square pixels.
        tolerance_px: the residual that leaves a quarter of the weight, pixels.
        weight: of a match without residual; broadcasts with `squared_px`.
    """
    return weight / (1 + squared_px / tolerance_px**2) ** 2


def msac_vote(squared_px: Tensor, tolerance_px: float) -> Tensor:
    """Votes in [0, 1] by squared residuals, 0 from the tolerance on: MSAC's truncated square.

    Torr and Zisserman, MLESAC, 2000 (doi 10.1006/cviu.1999.0832). Beyond the tolerance nothing
    counts, however much of it there is.
    """
    return (1 - squared_px / tolerance_px**2).clamp_min(0.0)
