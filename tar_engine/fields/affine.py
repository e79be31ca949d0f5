"""An affine by least squares, and how far off it is where nothing was seen.

Satellite images of one ground hardly stretch or shear against each other. Where matches lie all
over the image that need not be known; where they lie along a line, or in a corner, it tells how the
image goes on across it. So an affine may be held to a similarity, by a normal prior.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tar_engine.config import FitConfig
from tar_engine.fields.matches import Matches

Float64 = npt.NDArray[np.float64]
SURE = 2.0  # times what is by chance


def weighted_affine(
    seen: Matches, weight: Float64, beside: tuple[Float64, ...], config: FitConfig
) -> tuple[Float64, Float64]:
    """(2, 3) affine of matches of weight (N,), and the coefficients (2, K) of K regressors (N,)
    beside it."""
    centre = np.average(seen.optical_xy, axis=0, weights=weight + 1e-12)
    design = np.column_stack([seen.optical_xy - centre, np.ones(len(seen)), *beside])
    root = np.sqrt(weight)[:, None]
    if math.isinf(config.beyond_similarity):
        solution = np.linalg.lstsq(design * root, seen.sar_xy * root, rcond=None)[0].T
    else:
        solution = _held_to_similarity(design, seen.sar_xy, weight, config)
    linear, shift = solution[:, :2], solution[:, 2]
    return np.column_stack([linear, shift - linear @ centre]), solution[:, 3:]


def extrapolation_error(
    matches: Matches, affine: Float64, everywhere_xy: Float64, config: FitConfig
) -> float:
    """Root mean square error of an axis, over places (N, 2), of an affine (2, 3) by the matches,
    beyond what as many matches all over the places would leave; pixels.

    Each counts as much as it has confidence (effective number: Kish 1965). 0 where they lie as the
    places do, or further apart.
    """
    weight = matches.confidence
    centre = np.average(matches.optical_xy, axis=0, weights=weight)
    seen, everywhere = (
        np.column_stack([xy - centre, np.ones(len(xy))])
        for xy in (matches.optical_xy, everywhere_xy)
    )
    of_seen = (seen * (weight / weight.sum())[:, None]).T @ seen
    of_everywhere = everywhere.T @ everywhere / len(everywhere)
    departure = _departures(3) @ affine.ravel()
    prior = _precision(np.full(2, (departure**2).mean()), 3, config)
    variances = []
    for moments in (of_seen, of_everywhere):
        known = _known(moments * count_windows(weight, config), config)
        covariance = np.linalg.inv(known + prior)
        both_axes = covariance[:3, :3] + covariance[3:, 3:]
        variances.append(float(np.trace(both_axes @ of_everywhere)) / 2)
    return math.sqrt(max(0.0, variances[0] - variances[1]))


def _held_to_similarity(
    design: Float64, wanted: Float64, weight: Float64, config: FitConfig
) -> Float64:
    """(2, K) coefficients of (N, K) for (N, 2) with the prior, which gives way to what is surely
    otherwise: it is as wide as they depart from a similarity beyond chance (empirical Bayes).

    Each window is taken to be as far off as is extrapolated by.
    """
    told = (design * (weight / max(float(weight.sum()), 1e-12))[:, None]).T
    windows, columns = count_windows(weight, config), design.shape[1]
    known = _known(told @ design * windows, config)
    right = (told @ wanted).T.ravel() * windows / config.extrapolation_px**2
    covariance, departures = np.linalg.inv(known), _departures(columns)
    departure = departures @ covariance @ right
    by_chance = np.einsum("ij,jk,ik->i", departures, covariance, departures)
    # Both alike: which is which of them only says how the image lies.
    beyond = np.full(2, max(0.0, float((departure**2 - SURE**2 * by_chance).mean())))
    solution = np.linalg.solve(known + _precision(beyond, columns, config), right)
    return np.asarray(solution.reshape(2, columns), np.float64)


def _known(moments: Float64, config: FitConfig) -> Float64:
    """(2K, 2K) what windows tell of both axes' coefficients, by sums (K, K) of their squares."""
    regular = moments / config.extrapolation_px**2 + 1e-9 * np.eye(len(moments))
    return np.asarray(np.kron(np.eye(2), regular), np.float64)


def count_windows(weight: Float64, config: FitConfig) -> float:
    """How many independent windows matches of that weight stand for."""
    return float(weight.sum() ** 2 / max((weight**2).sum(), 1e-24)) / config.cells_a_window


def _departures(columns: int) -> Float64:
    """(2, 2K) that take coefficients of x, y and others, axis by axis, to stretch and to shear."""
    both = np.zeros((2, 2, columns))
    both[0, 0, 0], both[0, 1, 1] = 1, -1
    both[1, 0, 1], both[1, 1, 0] = 1, 1
    return both.reshape(2, -1)


def _precision(beyond: Float64, columns: int, config: FitConfig) -> Float64:
    """(2K, 2K) of the prior; `beyond` (2,): squares of stretch and shear that are sure."""
    departures = _departures(columns)
    variance = config.beyond_similarity**2 + beyond
    precision: Float64 = departures.T @ (departures / variance[:, None])
    return precision
