"""Matches with a known truth: a grid of points, moved by drawn terrain."""

from __future__ import annotations

import numpy as np

from tar_engine.fields.matches import Float64, Matches


def grid_xy(side_px: int = 512, step_px: int = 16) -> Float64:
    """(N, 2) the centres of cells, row by row."""
    axis = np.arange(step_px / 2, side_px, step_px)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def terrain(xy: Float64) -> Float64:
    """(N, 2) a smooth displacement of up to 5 px, mostly along x."""
    x, y = xy.T * (2 * np.pi / 400)
    return np.stack([4 * np.sin(x) * np.cos(y) + 1, np.sin(y)], axis=-1)


def noisy_matches(xy: Float64, displacement: Float64, outliers: float, seed: int = 0) -> Matches:
    """Sure matches with 0.4 px of noise, a share of them up to 8 px wrong."""
    random = np.random.default_rng(seed)
    sar_xy = xy + displacement + random.normal(0, 0.4, xy.shape)
    wrong = random.random(len(xy)) < outliers
    sar_xy[wrong] = xy[wrong] + random.uniform(-8, 8, (wrong.sum(), 2))
    return Matches(xy, sar_xy, np.ones(len(xy)), np.ones(len(xy)))
