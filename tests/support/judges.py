"""An independent judge of registration: windowed mutual information, unlike the matcher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

WINDOW_PX, STEP_PX, REACH_PX, LEVELS = 128, 96, 8, 24
CONFIDENT = 6.0  # how far the best offset stands out, in median absolute deviations


@dataclass(frozen=True)
class Residuals:
    """Of confident windows: centres (N, 2) and offsets (N, 2), both (x, y) in pixels."""

    centre_xy: npt.NDArray[np.float64]
    offset_xy: npt.NDArray[np.float64]

    @property
    def length(self) -> npt.NDArray[np.float64]:
        return np.hypot(*self.offset_xy.T)


def residuals(optical: npt.NDArray[np.float32], sar: npt.NDArray[np.float32]) -> Residuals:
    """Offset of SAR against optical, both (H, W) with NaN nodata, window by window."""
    height, width = optical.shape
    centres, offsets = [], []
    for y in range(REACH_PX, height - WINDOW_PX - REACH_PX + 1, STEP_PX):
        for x in range(REACH_PX, width - WINDOW_PX - REACH_PX + 1, STEP_PX):
            window = optical[y : y + WINDOW_PX, x : x + WINDOW_PX]
            search = sar[y - REACH_PX : y + WINDOW_PX + REACH_PX,
                         x - REACH_PX : x + WINDOW_PX + REACH_PX]  # fmt: skip
            if np.isnan(window).any() or np.isnan(search).any():
                continue
            offset = _best_offset(_levels(window), _levels(search))
            if offset is not None:
                centres.append((x + WINDOW_PX / 2, y + WINDOW_PX / 2))
                offsets.append(offset)
    return Residuals(np.array(centres).reshape(-1, 2), np.array(offsets).reshape(-1, 2))


def _best_offset(
    optical: npt.NDArray[np.intp], sar: npt.NDArray[np.intp]
) -> tuple[float, float] | None:
    lags = 2 * REACH_PX + 1
    score = np.array([
        [_mutual_information(optical, sar[dy : dy + WINDOW_PX, dx : dx + WINDOW_PX])
         for dx in range(lags)]
        for dy in range(lags)
    ])  # fmt: skip
    row, column = np.unravel_index(score.argmax(), score.shape)
    middle = np.median(score)
    spread = np.median(np.abs(score - middle))
    on_edge = row in (0, lags - 1) or column in (0, lags - 1)
    if on_edge or score.max() - middle < CONFIDENT * spread:
        return None
    x = column - REACH_PX + _parabola(*score[row, column - 1 : column + 2])
    y = row - REACH_PX + _parabola(*score[row - 1 : row + 2, column])
    return float(x), float(y)


def _mutual_information(first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> float:
    joint = np.bincount((first * LEVELS + second).ravel(), minlength=LEVELS**2)
    share = joint.reshape(LEVELS, LEVELS) / joint.sum()
    independent = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    seen = share > 0
    return float((share[seen] * np.log(share[seen] / independent[seen])).sum())


def _levels(image: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    smooth = ndimage.gaussian_filter(image, 1.0)
    return np.digitize(smooth, np.quantile(smooth, np.linspace(0, 1, LEVELS + 1)[1:-1]))


def _parabola(before: float, peak: float, after: float) -> float:
    curvature = before - 2 * peak + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature else 0.0
