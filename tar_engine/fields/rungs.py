"""A rung of the ladder, fitted robustly to all matches and tried on those it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tar_engine.config import FitConfig
from tar_engine.fields.affine import weighted_affine
from tar_engine.fields.field import Field
from tar_engine.fields.matches import Matches
from tar_engine.fields.robust import robust_weight
from tar_engine.fields.smoother import Solved

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

Solver = Callable[[Float64], Solved]  # from the weight (N,) of each match


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: its field, and (N,) float64 how far each match lies from the field
    of this kind that the other blocks make. mean_weight: of the matches in the field."""

    field: Field
    unseen_px: Float64
    mean_weight: float


def fit_rung(solve: Solver, seen: Matches, fold: Int64, start: Float64, config: FitConfig) -> Rung:
    """A field of one kind by all matches, and how it predicts those of each fold (N,) unseen."""
    displacement = seen.sar_xy - seen.optical_xy
    field, weight = solve_robustly(solve, seen, start, config)
    unseen_px = np.full(len(seen), np.nan)
    for number in range(config.folds):
        out = fold == number
        if out.any() and (~out).sum() >= config.min_matches // 2:
            # The weights were found with all matches; a fold has no other part in its field.
            predicted = solve(np.where(out, 0.0, weight)).displacement
            unseen_px[out] = np.hypot(*(displacement - predicted)[out].T)
    return Rung(field, unseen_px, float(weight.mean()))


def assign_folds(optical_xy: Float64, config: FitConfig) -> Int64:
    """(N,) which fold each match is held out with.

    Blocks are numbered so that no two neighbours share a fold.
    """
    block = np.floor(optical_xy / config.block_px).astype(np.int64)
    fold = (block[:, 0] + 2 * block[:, 1]) % config.folds
    return fold if len(np.unique(fold)) > 1 else np.arange(len(optical_xy)) % config.folds


def prior_weight(seen: Matches, config: FitConfig) -> Float64:
    """(N,) what each match weighs as long as no residual speaks against it."""
    return seen.confidence + config.unconfirmed


def solve_robustly(
    solve: Solver, seen: Matches, start: Float64, config: FitConfig
) -> tuple[Field, Float64]:
    """A field by reweighted least squares whose tolerance falls step by step; the last weights."""
    displacement = seen.sar_xy - seen.optical_xy
    field = Field("affine", start)
    solved = Solved(field, field.at(seen.optical_xy))
    weight = seen.confidence
    first_px, last_px = config.start_tolerance_px / 2, config.tolerance_px
    for tolerance_px in np.geomspace(first_px, last_px, config.reweightings):
        residual = displacement - solved.displacement
        trust = robust_weight((residual**2).sum(axis=1), tolerance_px)
        weight = prior_weight(seen, config) * trust
        solved = solve(weight)
    return solved.field, weight


def solve_shift(seen: Matches, weight: Float64) -> Solved:
    """The weighted mean displacement."""
    shift = np.average(seen.sar_xy - seen.optical_xy, axis=0, weights=weight + 1e-12)
    field = Field("shift", np.column_stack([np.eye(2), shift]))
    return Solved(field, np.broadcast_to(shift, seen.optical_xy.shape))


def solve_affine(seen: Matches, config: FitConfig, weight: Float64) -> Solved:
    """The affine of least squares."""
    affine, _ = weighted_affine(seen, weight, (), config)
    field = Field("affine", affine)
    return Solved(field, field.at(seen.optical_xy))


def solve_affine_and_relief(
    seen: Matches, relief_m: Float64, config: FitConfig, weight: Float64
) -> Solved:
    """The affine of least squares, and together with it what relief (N,), metres, adds to it."""
    affine, px_per_m = weighted_affine(seen, weight, (relief_m,), config)
    field = Field("affine", affine, px_per_m=px_per_m[:, 0])
    return Solved(field, field.at(seen.optical_xy, relief_m))
