"""From matches to one displacement field, or a refusal with its reason.

The ladder is shift, affine, smooth field. Every rung is fitted to some blocks of the image and
judged on the others; the simplest rung that predicts the unseen blocks as well as the best is
taken. Blocks are wider than the windows that made the matches, so that a match's overlapping
neighbours do not give its answer away. But matches were smoothed together, where little is seen
over more than a block; so a smooth field also has to bend by more than chance. The same unseen
residuals decide acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from tar_engine.config import FitConfig
from tar_engine.fields.affine import count_windows, extrapolation_error
from tar_engine.fields.consensus import draw_similarities, msac_support, polish_affine
from tar_engine.fields.field import Field
from tar_engine.fields.matches import Matches
from tar_engine.fields.parts import Parts, SolveParts, bend_most, one_by_one
from tar_engine.fields.rungs import (
    Rung,
    assign_folds,
    fit_rung,
    solve_affine,
    solve_affine_and_relief,
    solve_shift,
)
from tar_engine.fields.smoother import one_blas_thread

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """Whether the evidence carries the field, and how well."""

    accepted: bool
    reason: str
    expected_error_px: float  # infinite when refused
    matches: int  # with any confidence
    agreeing: float  # share of them that the field predicts
    median_displacement_px: float
    rival_px: float = float("nan")  # how far off SAR fits as well, if nothing else is against it


@dataclass(frozen=True)
class Fit:
    """A displacement and whether to use it.

    unseen_px: (N,) float64, how far each match lies from a field of this kind that was fitted
    without the match's block; NaN where that was not tried.
    """

    field: Field
    verdict: Verdict
    unseen_px: Float64


@one_blas_thread()
def fit(matches: Matches, config: FitConfig | None = None, solve: SolveParts = one_by_one) -> Fit:
    """Fit the ladder to a pair's matches.

    Args:
        matches: any number, in one pixel frame; those of infinite error are ignored.
        solve: applies a function to the parts of a large field, here or elsewhere; to the bit the
            same, wherever that is.

    A refusal is a `Verdict` with its reason, never an exception.
    """
    config = config or FitConfig()
    used = np.isfinite(matches.error_px)
    unseen_px = np.full(len(matches), np.nan)
    seen = matches.select(used)
    if (too_few := _too_few(seen, config)) is not None:
        return Fit(Field("shift", np.eye(2, 3)), too_few, unseen_px)
    sure = _above_chance(seen, config)
    px_per_m = find_relief(sure, config)
    level = sure if px_per_m is None else sure.levelled(px_per_m)
    rung = fit_ladder(level, robust_affine(level, config), config, solve)
    field = replace(rung.field, px_per_m=px_per_m)
    unseen_px[used] = rung.unseen_px
    verdict = _verdict(seen, field, rung.unseen_px, config)
    if verdict.accepted and config.extrapolation_px:
        verdict = _extrapolated(verdict, sure, field.affine, matches.optical_xy, config)
    return Fit(field, verdict, unseen_px)


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


def refuse(reason: str, matches: int = 0, agreeing: float = 0.0) -> Verdict:
    """A verdict that refuses."""
    return Verdict(False, reason, float("inf"), matches, agreeing, float("nan"))


def _too_few(seen: Matches, config: FitConfig) -> Verdict | None:
    count = int((seen.confidence > 0).sum())
    if count >= config.min_matches:
        return None
    if (doubt := _doubt(seen, config)) is not None:
        return replace(doubt, rival_px=float("nan"))  # the pair might not be believed without it
    return refuse(f"only {count} matches, at least {config.min_matches} are needed", count)


def _doubt(seen: Matches, config: FitConfig, agreeing: float = 0.0) -> Verdict | None:
    """Refuses what SAR fits as well elsewhere, or only by what is burnt into both images."""
    rivals = seen.rivals()
    if np.isfinite(rivals).sum() <= config.doubted_share * len(seen):
        return None
    rival_px = float(np.nanmedian(rivals))
    reason = f"the ground repeats itself: SAR fits as well some {rival_px:.0f} px off"
    if rival_px == 0:
        reason = "both images share one pattern at the same pixels, which is no ground"
    return replace(refuse(reason, len(seen), agreeing), rival_px=rival_px)


def _above_chance(seen: Matches, config: FitConfig) -> Matches:
    """With the confidence that they have beyond chance."""
    best = seen.best(config.best_share, config.min_matches)
    by_chance = config.chance_share * float(seen.confidence[best].mean())
    return seen.above(min(by_chance, config.chance_confidence))


def _extrapolated(
    verdict: Verdict, sure: Matches, affine: Float64, everywhere_xy: Float64, config: FitConfig
) -> Verdict:
    """Accepted with the error that comes from what is not seen, or refused for it."""
    beyond_px = extrapolation_error(sure, affine, everywhere_xy, config)
    error_px = float(np.hypot(verdict.expected_error_px, beyond_px))
    if error_px <= config.largest_error_px:
        return replace(verdict, expected_error_px=error_px)
    reason = (
        f"what is seen is too little of the image to tell where the rest lies: an error of "
        f"{error_px:.1f} px is to be expected, {config.largest_error_px:g} px at most is taken"
    )
    return refuse(reason, verdict.matches, verdict.agreeing)


def robust_affine(matches: Matches, config: FitConfig) -> Float64:
    """(2, 3) affine that most of the confidence agrees with."""
    optical = torch.from_numpy(matches.optical_xy)[None]
    sar = torch.from_numpy(matches.sar_xy)[None]
    weight = torch.from_numpy(matches.confidence)[None]
    hypotheses = draw_similarities(optical, sar, weight, config.hypotheses)
    tolerance_px = config.start_tolerance_px
    step = max(1, len(matches) // config.voters)
    voters = optical[:, ::step], sar[:, ::step], weight[:, ::step]
    votes = msac_support(hypotheses, *voters, tolerance_px)
    best = hypotheses[0, votes.argmax()][None]
    return np.asarray(polish_affine(best, optical, sar, weight, tolerance_px)[0].numpy())


def find_relief(seen: Matches, config: FitConfig) -> Float64 | None:
    """(2,) displacement by a metre of the matches' relief; None if without it unseen matches are
    predicted as well."""
    if (relief_m := seen.relief()) is None:
        return None
    start, fold = robust_affine(seen, config), assign_folds(seen.optical_xy, config)
    kinds = (
        partial(solve_affine, seen, config),
        partial(solve_affine_and_relief, seen, relief_m, config),
    )
    rungs = [fit_rung(kind, seen, fold, start, config) for kind in kinds]
    chosen = simplest_sufficient([rung.unseen_px for rung in rungs], seen.confidence, config)
    return rungs[chosen].field.px_per_m


def fit_ladder(seen: Matches, start: Float64, config: FitConfig, solve: SolveParts) -> Rung:
    """The simplest rung that is good enough; of smooth fields, as stiff as is good enough."""
    fold = assign_folds(seen.optical_xy, config)
    kinds = partial(solve_shift, seen), partial(solve_affine, seen, config)
    rungs = [fit_rung(kind, seen, fold, start, config) for kind in kinds]
    unseen_px = [rung.unseen_px for rung in rungs]
    stiff = rungs[simplest_sufficient(unseen_px, seen.confidence, config)]
    if not config.stiffness:
        return stiff
    parts = Parts(seen, fold, rungs[1].field.affine, config)
    # Stiffer ones bend less than the loosest. Without a window's error chance bends none.
    told_by_loosest = config.extrapolation_px > 0 and parts.are_one
    if told_by_loosest and bends_by_chance(bend_most(parts.cut(0)), seen, config):
        return stiff
    tried = parts.try_stiffness(solve)
    unseen_px += parts.unseen_by_stiffness(tried)
    chosen = simplest_sufficient(unseen_px, seen.confidence, config)
    if chosen < len(rungs):
        return rungs[chosen]
    smooth = parts.solve(tried, chosen - len(rungs), solve)
    return stiff if bends_by_chance(smooth.field, seen, config) else smooth


def bends_by_chance(field: Field, seen: Matches, config: FitConfig) -> bool:
    """Whether a smooth field lies so close to the affine beneath it, where matches are, that their
    errors alone may have bent it.

    The fewer windows there are beyond what the field takes up, the further they do.
    """
    beyond = field.at(seen.optical_xy) - Field("affine", field.affine).at(seen.optical_xy)
    squared = (beyond**2).sum(axis=1)
    bend_px = np.sqrt(np.average(squared, weights=seen.confidence + 1e-12))
    spare = max(0.0, count_windows(seen.confidence, config) - config.bend_windows)
    return bool(bend_px**2 * spare < (config.least_bend * config.extrapolation_px) ** 2)


def simplest_sufficient(
    unseen_px: Sequence[Float64], confidence: Float64, config: FitConfig
) -> int:
    """The first rung whose cost on unseen matches, (N,) each, is within `gain` of the least.

    By the matches on which all were tried.
    """
    known = np.isfinite(unseen_px).all(axis=0)
    if not confidence[known].any():
        return 0
    penalty = np.minimum(np.stack(unseen_px)[:, known], config.far_px)
    costs = np.average(penalty, axis=1, weights=confidence[known])
    return int(np.argmax(costs <= costs.min() * (1 + config.gain)))


def _verdict(seen: Matches, field: Field, residual: Float64, config: FitConfig) -> Verdict:
    """Decide on residuals of matches that the field was not fitted to.

    Both measures lean on the confident matches, so that flat ground and water, which match
    nothing, do not vote against.
    """
    counted = np.isfinite(residual)
    known, weight = residual[counted], seen.confidence[counted]
    if not weight.any():
        return refuse("no match could be held out to test the fit", len(seen))
    agrees = known < config.agree_px
    agreeing = float(np.average(agrees, weights=weight))
    best = seen.select(counted).best(config.best_share, config.min_matches)
    strength = float((weight * agrees)[best].mean())
    scale = float(np.sqrt(abs(np.linalg.det(field.affine[:, :2]))))
    if not 1 / config.max_scale < scale < config.max_scale:
        return refuse(f"the fit would scale the image by {scale:.2f}", len(seen), agreeing)
    stands_out = seen.stands_out(config.outstanding)
    share = config.outstanding_share if stands_out else 1.0
    needed = share * (config.min_evidence + config.chance_evidence / len(seen) ** 0.5)
    if agreeing * strength < needed:
        reason = (
            f"weak evidence: {agreeing:.0%} of {len(seen)} matches agree on one field, with "
            f"strength {strength:.3f}; the product is {agreeing * strength:.3f}, "
            f"{needed:.3f} is needed"
        )
        return refuse(reason, len(seen), agreeing)
    lost = np.isfinite(seen.rivals()) & (seen.confidence == 0)  # counts neither way
    confirmed = seen.select(~lost).confirmed_share
    if confirmed < config.min_confirmed and not stands_out:
        reason = (
            f"windows confirm {confirmed:.0%} of {len(seen)} matches, "
            f"{config.min_confirmed:.0%} are needed"
        )
        return refuse(reason, len(seen), agreeing)
    amount = float((weight * agrees).sum())
    if amount < share * config.min_amount:
        reason = (
            f"too little evidence: the confidence of {int(agrees.sum())} matches that agree sums "
            f"to {amount:.2f}, {share * config.min_amount:g} is needed"
        )
        return refuse(reason, len(seen), agreeing)
    if (doubt := _doubt(seen, config, agreeing)) is not None:
        return doubt
    close = known[known < config.far_px]
    factor = config.error_factor if field.kind == "smooth" else config.error_factor_stiff
    expected = float(np.hypot(config.error_floor_px, factor * np.median(close)))
    displacement = float(np.median(np.hypot(*field.at(seen.optical_xy, seen.relief()).T)))
    reason = f"{agreeing:.0%} of {len(seen)} matches agree on one {field.kind} field"
    return Verdict(True, reason, expected, len(seen), agreeing, displacement)
