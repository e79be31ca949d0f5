"""From matches to one displacement field, or a refusal with its reason.

The ladder is shift, affine, smooth field. Every rung is fitted to some blocks of the image and
judged on the others; the simplest rung that predicts the unseen blocks as well as the best is
taken. Blocks are wider than the windows that made the matches, so that a match's overlapping
neighbours do not give its answer away. The same unseen residuals decide acceptance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.sparse.linalg import splu

from tar_engine.consensus import hypothesise, polish, support
from tar_engine.field import ControlLattice, Field
from tar_engine.matches import Matches

DENSE_CONTROLS = 400  # up to here a dense solve is faster than a sparse one
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FitConfig:
    """How a field is fitted and when it is believed."""

    start_tolerance_px: float = 8.0  # matches this far from an affine may still be terrain
    tolerance_px: float = 1.5  # scale of a good match's residual in the final weights
    agree_px: float = 2.0  # an unseen match this close to the field agrees with it
    block_px: float = 80.0  # side of the blocks held out; the width of a window
    folds: int = 4
    large_folds: int = 1  # of them, how many choose the rung when matches are many
    large: int = 8000
    spacing_px: float = 24.0  # between control points of the smooth field
    unconfirmed: float = 0.01  # weight of a match that nothing around it confirms; 0 = off
    stiffness: tuple[float, ...] = (1.0, 0.1, 0.01)  # bending penalties tried; () = no smooth rung
    gain: float = 0.1  # a richer rung must predict unseen matches better by this share
    min_matches: int = 12  # with fewer there is no evidence
    # Evidence is the share of the confidence on unseen matches that agrees, times the mean
    # confidence of the most confident quarter, where what does not agree counts nothing. In the
    # confidence of `Registrar`. Chosen, like the numbers below, on 24 places of patches/train under
    # every protocol.
    min_evidence: float = 0.028
    # More is needed of few matches, divided by the root of their number: chance averages out.
    chance_evidence: float = 0.45
    # And of all matches, those that windows confirm at all: of unrelated images about 0.45 are, by
    # chance; a street grid confirms the wrong street strongly, but not what lies around it.
    min_confirmed: float = 0.6
    # And the confidence that agrees, summed over the unseen: a smooth field can follow a few.
    min_amount: float = 3.0
    # The stated error is the root of the squares of a floor, which all matches of a pair may share
    # and none can tell, and of so many times the median unseen residual; 98 % of the true errors
    # were below twice that.
    error_floor_px: float = 0.7
    error_factor: float = 2.5
    max_scale: float = 2.2  # of the affine, either way; more is no satellite pair


@dataclass(frozen=True)
class Verdict:
    """Whether the evidence carries the field, and how well."""

    accepted: bool
    reason: str
    expected_error_px: float  # infinite when refused
    matches: int  # with any confidence
    agreeing: float  # share of them that the field predicts
    median_displacement_px: float


@dataclass(frozen=True)
class Fit:
    """A displacement and whether to use it.

    unseen_px: (N,) float64, how far each match lies from a field of this kind that was fitted
    without the match's block; NaN where that was not tried.
    """

    field: Field
    verdict: Verdict
    unseen_px: Float64


def fit(matches: Matches, config: FitConfig | None = None) -> Fit:
    """Fit the ladder to a pair's matches.

    Args:
        matches: any number, in one pixel frame; those of infinite error are ignored.
    """
    config = config or FitConfig()
    used = np.isfinite(matches.error_px)
    unseen_px = np.full(len(matches), np.nan)
    seen = matches.select(used)
    if (too_few := _too_few(seen, config)) is not None:
        return Fit(Field("shift", np.eye(2, 3)), too_few, unseen_px)
    start = robust_affine(seen, config.start_tolerance_px)
    rungs: list[Rung] = [Rung("shift"), Rung("affine")]
    rungs += [Rung("smooth", stiffness) for stiffness in config.stiffness]
    some = range(config.folds if len(seen) < config.large else config.large_folds)
    tried = {rung: held_out_residuals(seen, start, rung, some, config) for rung in rungs}
    rung = simplest_sufficient(tried, seen.confidence, config)
    field = fit_rung(seen, start, rung, config)
    rest = range(len(some), config.folds)
    others = held_out_residuals(seen, start, rung, rest, config)
    residual = np.where(np.isfinite(others), others, tried[rung])
    unseen_px[used] = residual
    return Fit(field, _verdict(seen, field, residual, config), unseen_px)


def judge(
    matches: Matches, field: Field, unseen_px: Float64, config: FitConfig | None = None
) -> Verdict:
    """Judge one pair by its own matches, against the field of its whole neighbourhood.

    `unseen_px` are those of `matches` (N,) out of the neighbourhood's `Fit`: a field can be bent to
    pass through a few matches that it was fitted to, but not through those it has not seen.
    """
    config = config or FitConfig()
    used = np.isfinite(matches.error_px)
    seen = matches.select(used)
    too_few = _too_few(seen, config)
    return _verdict(seen, field, unseen_px[used], config) if too_few is None else too_few


def refusal(reason: str, matches: int = 0, agreeing: float = 0.0) -> Verdict:
    """A verdict that refuses."""
    return Verdict(False, reason, float("inf"), matches, agreeing, float("nan"))


def _too_few(seen: Matches, config: FitConfig) -> Verdict | None:
    count = int((seen.confidence > 0).sum())
    if count >= config.min_matches:
        return None
    return refusal(f"only {count} matches, at least {config.min_matches} are needed", count)


@dataclass(frozen=True)
class Rung:
    """One step of the ladder; stiffness counts for the smooth rung alone."""

    kind: str
    stiffness: float = 0.0


def robust_affine(matches: Matches, tolerance_px: float) -> Float64:
    """(2, 3) affine that most of the confidence agrees with."""
    optical = torch.from_numpy(matches.optical_xy)[None]
    sar = torch.from_numpy(matches.sar_xy)[None]
    weight = torch.from_numpy(matches.confidence)[None]
    hypotheses = hypothesise(optical, sar, weight, 192)
    voters = slice(None, None, max(1, len(matches) // 4000))
    votes = support(hypotheses, optical[:, voters], sar[:, voters], weight[:, voters], tolerance_px)
    best = hypotheses[0, votes.argmax()][None]
    return np.asarray(polish(best, optical, sar, weight, tolerance_px)[0].numpy())


def held_out_residuals(
    seen: Matches, start: Float64, rung: Rung, numbers: Iterable[int], config: FitConfig
) -> Float64:
    """(N,) distance of each match to a field fitted without its fold; NaN in folds not asked for.

    A fold is every fourth block, numbered so that no two neighbours share one.
    """
    block = np.floor(seen.optical_xy / config.block_px).astype(int)
    fold = (block[:, 0] + 2 * block[:, 1]) % config.folds
    if len(np.unique(fold)) < 2:
        fold = np.arange(len(seen)) % config.folds
    residual = np.full(len(seen), np.nan)
    for number in numbers:
        out = fold == number
        if out.any() and (~out).sum() >= config.min_matches // 2:
            held, rest = seen.select(out), seen.select(~out)
            field = fit_rung(rest, start, rung, config)
            residual[out] = np.hypot(*(held.sar_xy - held.optical_xy - field.at(held.optical_xy)).T)
    return residual


def simplest_sufficient(
    unseen: dict[Rung, Float64], confidence: Float64, config: FitConfig
) -> Rung:
    """The first rung whose cost on unseen matches is within `gain` of the least."""
    cost = {}
    for rung, residual in unseen.items():
        known = np.isfinite(residual)
        penalty = np.minimum(residual[known], 2 * config.agree_px)
        cost[rung] = (
            float(np.average(penalty, weights=confidence[known])) if known.any() else np.inf
        )
    least = min(cost.values())
    return next(rung for rung, value in cost.items() if value <= least * (1 + config.gain))


def fit_rung(seen: Matches, start: Float64, rung: Rung, config: FitConfig) -> Field:
    """Fit one rung by reweighted least squares whose tolerance falls step by step."""
    displacement = seen.sar_xy - seen.optical_xy
    field = Field("affine", start)
    predicted = from_start = field.at(seen.optical_xy)
    fitter = Smoother(seen.optical_xy, config.spacing_px) if rung.kind == "smooth" else None
    for tolerance in np.geomspace(config.start_tolerance_px / 2, config.tolerance_px, 5):
        residual = displacement - predicted
        trust = 1 / (1 + (residual**2).sum(axis=1) / tolerance**2) ** 2
        weight = (seen.confidence + config.unconfirmed) * trust
        if fitter is not None:
            control = fitter.solve(displacement - from_start, weight, rung.stiffness)
            field = Field("smooth", start, fitter.lattice, control)
            predicted = from_start + fitter.basis @ control.reshape(2, -1).T
        else:
            if rung.kind == "affine":
                field = Field("affine", _weighted_affine(seen, weight))
            else:
                shift = np.average(displacement, axis=0, weights=weight + 1e-12)
                field = Field("shift", np.column_stack([np.eye(2), shift]))
            predicted = field.at(seen.optical_xy)
    return field


class Smoother:
    """Penalised least squares on one lattice of control points, for changing weights."""

    def __init__(self, xy: Float64, spacing_px: float):
        self.lattice = ControlLattice.over(xy, spacing_px)
        self.basis = self.lattice.basis(xy)
        bending = self.lattice.bending()
        self.bending = (bending.T @ bending).tocsc()
        self.dense = self.basis.shape[1] <= DENSE_CONTROLS
        if self.dense:
            self.basis, self.bending = self.basis.toarray(), self.bending.toarray()

    def solve(self, displacement: Float64, weight: Float64, stiffness: float) -> Float64:
        """(2, rows, columns) control values for displacement (N, 2) with weight (N,)."""
        weight = weight / max(float(weight.mean()), 1e-12)
        # Stiffness is per match, so that it means the same at every density of matches.
        count = self.basis.shape[1]
        density = len(weight) / count
        wanted = self.basis.T @ (weight[:, None] * displacement)
        penalty = density * stiffness * self.bending
        if self.dense:
            data = (self.basis.T * weight) @ self.basis
            control = np.linalg.solve(data + penalty + 1e-6 * density * np.eye(count), wanted)
        else:
            data = self.basis.T @ sparse.diags(weight) @ self.basis
            system = (data + penalty + 1e-6 * density * sparse.eye(count)).tocsc()
            options = {"SymmetricMode": True}
            control = splu(system, permc_spec="MMD_AT_PLUS_A", options=options).solve(wanted)
        return np.asarray(control.T.reshape(2, self.lattice.rows, self.lattice.columns))


def _weighted_affine(seen: Matches, weight: Float64) -> Float64:
    centre = np.average(seen.optical_xy, axis=0, weights=weight + 1e-12)
    design = np.column_stack([seen.optical_xy - centre, np.ones(len(seen))])
    root = np.sqrt(weight)[:, None]
    solution = np.linalg.lstsq(design * root, seen.sar_xy * root, rcond=None)[0].T
    return np.column_stack([solution[:, :2], solution[:, 2] - solution[:, :2] @ centre])


def _verdict(seen: Matches, field: Field, residual: Float64, config: FitConfig) -> Verdict:
    """Decide on residuals of matches that the field was not fitted to.

    Both measures lean on the confident matches, so that flat ground and water, which match
    nothing, do not vote against.
    """
    counted = np.isfinite(residual)
    known, weight = residual[counted], seen.confidence[counted]
    if known.size == 0:
        return refusal("no match could be held out to test the fit", len(seen))
    agrees = known < config.agree_px
    agreeing = float(np.average(agrees, weights=weight))
    best = np.argsort(-weight, kind="stable")[: max(config.min_matches, len(weight) // 4)]
    strength = float((weight * agrees)[best].mean())
    scale = float(np.sqrt(abs(np.linalg.det(field.affine[:, :2]))))
    if not 1 / config.max_scale < scale < config.max_scale:
        return refusal(f"the fit would scale the image by {scale:.2f}", len(seen), agreeing)
    needed = config.min_evidence + config.chance_evidence / len(seen) ** 0.5
    if agreeing * strength < needed:
        reason = (
            f"weak evidence: {agreeing:.0%} of {len(seen)} matches agree on one field, with "
            f"strength {strength:.3f}; the product is {agreeing * strength:.3f}, "
            f"{needed:.3f} is needed"
        )
        return refusal(reason, len(seen), agreeing)
    if seen.confirmed_share < config.min_confirmed:
        reason = (
            f"windows confirm {seen.confirmed_share:.0%} of {len(seen)} matches, "
            f"{config.min_confirmed:.0%} are needed"
        )
        return refusal(reason, len(seen), agreeing)
    amount = float((weight * agrees).sum())
    if amount < config.min_amount:
        reason = (
            f"too little evidence: the confidence of {int(agrees.sum())} matches that agree sums "
            f"to {amount:.2f}, {config.min_amount:g} is needed"
        )
        return refusal(reason, len(seen), agreeing)
    close = known[known < 2 * config.agree_px]
    expected = float(np.hypot(config.error_floor_px, config.error_factor * np.median(close)))
    displacement = float(np.median(np.hypot(*field.at(seen.optical_xy).T)))
    reason = f"{agreeing:.0%} of {len(seen)} matches agree on one {field.kind} field"
    return Verdict(True, reason, expected, len(seen), agreeing, displacement)
