"""Matches of one pair, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Where points of the optical image were found in the SAR image.

    optical_xy, sar_xy: (N, 2) float64 pixels. confidence: (N,) float64 in [0, 1], how clearly the
    images around it confirm the match; 0 = not at all. error_px: (N,) float64, how far they alone
    would move it, pixels; infinite where there is nothing to see.
    """

    optical_xy: Float64
    sar_xy: Float64
    confidence: Float64
    error_px: Float64

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def confirmed_share(self) -> float:
        """Of the matches where there is something to see, those with any confidence; 0 if none."""
        seen = np.isfinite(self.error_px)
        return float((self.confidence[seen] > 0).mean()) if seen.any() else 0.0

    @classmethod
    def concatenate(cls, parts: Sequence[Matches]) -> Matches:
        """All matches of several parts, in their order."""
        if not parts:
            return cls(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), np.empty(0))
        return cls(
            np.concatenate([part.optical_xy for part in parts]),
            np.concatenate([part.sar_xy for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            np.concatenate([part.error_px for part in parts]),
        )

    def select(self, chosen: npt.NDArray[np.bool_]) -> Matches:
        """The matches where `chosen` (N,) is true."""
        return Matches(
            self.optical_xy[chosen],
            self.sar_xy[chosen],
            self.confidence[chosen],
            self.error_px[chosen],
        )

    def shifted(self, dx: float, dy: float) -> Matches:
        """Both coordinates moved, as when a tile's pixels become its region's."""
        move = np.array([dx, dy], float)
        return replace(self, optical_xy=self.optical_xy + move, sar_xy=self.sar_xy + move)
