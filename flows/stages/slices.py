"""Slices of one SAR pass that lie apart: there the field has to break, not bend.

Archives cut a pass into slices and place each by itself. Terrain goes on over the cut, so what the
displacement does there of a sudden is the slices' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from catalog.archives.items import Scene
from catalog.grid import Lattice
from flows.stages.shown import find_shown
from tar_engine.fields.matches import Matches
from tar_engine.fields.robust import robust_weight

Float64 = npt.NDArray[np.float64]
SliceShifts = Mapping[str, tuple[float, float]]
"""How far (dx, dy) slices lie from the first of their pass, by scene id, pixels; if they do."""

NEAREST_PX, FURTHEST_PX = 48.0, 240.0  # from the cut, of matches that count: windows straddle it
LEAST_MATCHES = 40  # of them on either side
LEAST_STEP_PX = 1.0
LEAST_SIGMAS = 5.0
MATCHES_OF_A_WINDOW = 25.0  # that share their pixels: as many count as one
TOLERANCE_PX = 1.5
ROUNDS = 6


def find_slice_shifts(sar: Sequence[Scene], matches: Matches, lattice: Lattice) -> SliceShifts:
    """How far the slices of a pass lie apart, by the matches on either side of each cut.

    Empty where they do not, as far as can be told. `matches` are in lattice pixels.
    """
    if len(sar) < 2:
        return {}
    shown = find_shown(sar, matches.optical_xy, lattice)
    confirmed = matches.confidence > 0
    shifts: dict[int, Float64] = {0: np.zeros(2)}
    steps = {}
    for one, other in combinations(range(len(sar)), 2):
        sides = [matches.select(confirmed & (shown == place)) for place in (one, other)]
        if (step := measure_step(*sides)) is not None:
            steps[one, other] = step
    for _ in sar:  # from slice to slice, as far as they touch
        for (one, other), step in steps.items():
            if one in shifts and other not in shifts:
                shifts[other] = shifts[one] + step
            elif other in shifts and one not in shifts:
                shifts[one] = shifts[other] - step
    return {
        sar[place].id: (float(shift[0]), float(shift[1]))
        for place, shift in sorted(shifts.items())
        if shift.any()
    }


def without_slice_shifts(
    sar: Sequence[Scene], matches: Matches, shifts: SliceShifts, lattice: Lattice
) -> Matches:
    """The matches as they would be if all slices lay where the first does."""
    if not shifts or not len(matches):
        return matches
    shown = find_shown(sar, matches.optical_xy, lattice)
    each = np.array([shifts.get(scene.id, (0.0, 0.0)) for scene in sar] + [(0.0, 0.0)])
    return replace(matches, sar_xy=matches.sar_xy - each[shown])  # -1, of none, is the last


def measure_step(one: Matches, other: Matches) -> Float64 | None:
    """How far (dx, dy) the other side of a cut lies from the one; zero where that is no more than
    chance, None where they do not touch.

    A plane through both sides with a step between them, by reweighted least squares.
    """
    sides = _near(one, other), _near(other, one)
    if min(len(side) for side in sides) < LEAST_MATCHES:
        return None
    both = Matches.concatenate(sides)
    is_other = np.repeat([0.0, 1.0], [len(side) for side in sides])
    centre = both.optical_xy.mean(axis=0)
    plane = (both.optical_xy - centre) / FURTHEST_PX
    design = np.column_stack([np.ones(len(both)), plane, is_other])
    displacement = both.sar_xy - both.optical_xy
    medians = [np.median(displacement[is_other == side], axis=0) for side in (0.0, 1.0)]
    residual = displacement - np.where(is_other[:, None] > 0, medians[1], medians[0])
    solution = np.zeros((4, 2))
    for _ in range(ROUNDS):
        weight = robust_weight((residual**2).sum(axis=1), TOLERANCE_PX, both.confidence)
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(design * root, displacement * root, rcond=None)[0]
        residual = displacement - design @ solution
    step: Float64 = solution[3]
    scatter = float(np.median(np.hypot(*residual.T)))
    sigma = scatter * np.sqrt(sum(MATCHES_OF_A_WINDOW / len(side) for side in sides))
    least_px = max(LEAST_STEP_PX, LEAST_SIGMAS * float(sigma))
    return step if np.hypot(*step) > least_px else np.zeros(2)


def _near(mine: Matches, theirs: Matches) -> Matches:
    """My matches that lie so far from the nearest of theirs that cut and terrain do not matter."""
    if not len(mine) or not len(theirs):
        return mine.select(np.zeros(len(mine), np.bool_))
    distance, _ = cKDTree(theirs.optical_xy).query(
        mine.optical_xy, distance_upper_bound=FURTHEST_PX
    )
    return mine.select((distance > NEAREST_PX) & (distance < FURTHEST_PX))
