"""Matches of SAR to optical points: of one pair as arrays, of a batch of pairs as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Float64 = npt.NDArray[np.float64]

TRACE = 1e-5  # of confidence: where there is no more, it still tells where matches lie


@dataclass(frozen=True)
class Matches:
    """Where points of the optical image were found in the SAR image.

    optical_xy, sar_xy: (N, 2) float64 pixels. confidence: (N,) float64 in [0, 1], how clearly the
    images around it confirm the match; 0 = not at all. error_px: (N,) float64, how far they alone
    would move it, pixels; infinite where there is nothing to see. rival_px: (N,) float64, how far
    off the images around it would fit as well, pixels; 0 where they share a pattern at the same
    pixels that may be all that fits; NaN where nowhere, None where no match has such a rival.
    relief_m: (N,) float64, height beyond a plane over the image, metres; None where no one knows.
    prominence: (N,) float64, how many times its spread over all shifts the images around it
    correlate as a whole where they are; None where that was not asked.
    """

    optical_xy: Float64
    sar_xy: Float64
    confidence: Float64
    error_px: Float64
    rival_px: Float64 | None = None
    relief_m: Float64 | None = None
    prominence: Float64 | None = None

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def confirmed_share(self) -> float:
        """Of the matches where there is something to see, those with any confidence; 0 if none."""
        seen = np.isfinite(self.error_px)
        return float((self.confidence[seen] > 0).mean()) if seen.any() else 0.0

    def rivals(self) -> Float64:
        """(N,) `rival_px`, NaN where there is none."""
        return np.full(len(self), np.nan) if self.rival_px is None else self.rival_px

    def stands_out(self, prominence: float) -> bool:
        """Whether most of them lie where a pair as a whole does."""
        if self.prominence is None:
            return False
        return bool((self.prominence >= prominence).mean() > 0.5)

    def relief(self) -> Float64 | None:
        """(N,) `relief_m`, 0 where unknown; None where it is of all."""
        if self.relief_m is None or not np.isfinite(self.relief_m).any():
            return None
        return np.nan_to_num(self.relief_m)

    def levelled(self, px_per_m: Float64) -> Matches:
        """As SAR would show the ground without its relief, by (2,) what a metre displaces it."""
        relief_m = self.relief()
        assert relief_m is not None
        return replace(self, sar_xy=self.sar_xy - relief_m[:, None] * px_per_m)

    def best(self, share: float, least: int) -> npt.NDArray[np.intp]:
        """Indexes of the most confident `share` of them, at least so many."""
        count = max(least, int(share * len(self)))
        return np.argsort(-self.confidence, kind="stable")[:count]

    def above(self, confidence: float) -> Matches:
        """What of their confidence is above that; what has less keeps a trace."""
        trace = np.minimum(self.confidence, TRACE)
        return replace(self, confidence=np.maximum(self.confidence - confidence, trace))

    def without_doubted(self) -> Matches:
        """Those with a rival lose their confidence."""
        return replace(self, confidence=np.where(np.isnan(self.rivals()), self.confidence, 0.0))

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
            np.concatenate([part.rivals() for part in parts]),
        )

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Matches:
        """The matches where `chosen` (N,) is true, or of these indexes."""
        return Matches(
            self.optical_xy[chosen],
            self.sar_xy[chosen],
            self.confidence[chosen],
            self.error_px[chosen],
            self.rivals()[chosen],
            None if self.relief_m is None else self.relief_m[chosen],
            None if self.prominence is None else self.prominence[chosen],
        )

    def shifted(self, dx: float, dy: float) -> Matches:
        """Both coordinates moved, as when a tile's pixels become its region's."""
        move = np.array([dx, dy], float)
        return replace(self, optical_xy=self.optical_xy + move, sar_xy=self.sar_xy + move)


class BatchMatches(NamedTuple):
    """`Matches` of a batch of pairs on the device that found them, cell by cell, row by row.

    optical_xy, sar_xy: (B, N, 2) float32 pixels. confidence, error_px, rival_px, relief_m,
    prominence: (B, N) float32; the last three NaN where there is no rival, without heights, and
    where radar is held to radar.
    """

    optical_xy: Tensor
    sar_xy: Tensor
    confidence: Tensor
    error_px: Tensor
    rival_px: Tensor
    relief_m: Tensor
    prominence: Tensor

    def of_pair(self, index: int) -> Matches:
        """One pair's matches as arrays on the host."""
        # All at once: each copy would wait for the device.
        columns = [part[index].reshape(len(self.confidence[index]), -1) for part in self]
        stacked = torch.cat(columns, dim=1).cpu().double().numpy()
        return Matches(stacked[:, :2], stacked[:, 2:4], *stacked[:, 4:].T)

    def first_cells(self, shape: tuple[int, int], rows: int, columns: int) -> BatchMatches:
        """Of cells in `shape` (rows, columns), those in the first `rows` and `columns`.

        Cut off by shape: a mask would wait for the device.
        """
        return BatchMatches(
            *(part.unflatten(1, shape)[:, :rows, :columns].flatten(1, 2) for part in self)
        )

    def within(self, max_offset_px: float, expected_xy: Tensor) -> BatchMatches:
        """Without confidence where SAR lies further from (B, N, 2) than that, however alike."""
        offset_px = (self.sar_xy - expected_xy).norm(dim=-1)
        return self._replace(confidence=self.confidence.masked_fill(offset_px > max_offset_px, 0.0))

    def doubted_still(self, shared: Tensor, still_px: float) -> BatchMatches:
        """With a rival at 0 px where most of SAR lies so close to the same pixels of a pair.

        (B,) `shared` says which pairs share a pattern there.
        """
        is_still = (self.sar_xy - self.optical_xy).norm(dim=-1) < still_px
        doubted = shared & (2 * is_still.sum(dim=1) > is_still.shape[1])
        return self._replace(rival_px=self.rival_px.masked_fill(doubted[:, None], 0.0))
