"""Matches of one pair, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Where points of the optical image were found in the SAR image.

    optical_xy, sar_xy: (N, 2) float64 pixels. confidence: (N,) float64 in [0, 1]; 0 = no match.
    """

    optical_xy: Float64
    sar_xy: Float64
    confidence: Float64

    def __len__(self) -> int:
        return len(self.confidence)

    @classmethod
    def concatenate(cls, parts: Sequence[Matches]) -> Matches:
        """All matches of several parts, in their order."""
        if not parts:
            return cls(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))
        return cls(
            np.concatenate([part.optical_xy for part in parts]),
            np.concatenate([part.sar_xy for part in parts]),
            np.concatenate([part.confidence for part in parts]),
        )

    def select(self, chosen: npt.NDArray[np.bool_]) -> Matches:
        """The matches where `chosen` (N,) is true."""
        return Matches(self.optical_xy[chosen], self.sar_xy[chosen], self.confidence[chosen])

    def shifted(self, dx: float, dy: float) -> Matches:
        """Both coordinates moved, as when a tile's pixels become its region's."""
        move = np.array([dx, dy], float)
        return Matches(self.optical_xy + move, self.sar_xy + move, self.confidence)
