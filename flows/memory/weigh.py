"""A day's answer where the ground is remembered: memory and the day's matches, by their errors.

    day's matches less the ground's field ─ shift or tilt ─▶ the ground as these passes show it ─┐
    day's matches alone ─ today's field and its error ───────────────────────────────────────────┴▶
        the mean of both, node by node, by their errors

Where the day's optical image tells nothing, its SAR pass is held to the ground by radar; where that
tells nothing either, memory answers alone. Which of these it was is the estimate's quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from catalog.grid import Lattice
from catalog.store.schema import (
    QUALITY,
    REGISTERED_FROM_MEMORY,
    REGISTERED_RADAR_TO_RADAR,
)
from flows.memory.radar import REMAINDER, PassPosition, less
from flows.memory.recall import Remembered
from flows.plan.groups import Group
from flows.stages.estimate import GroupEstimate, PairVerdict
from flows.stages.fit import fit_group, split_by_pair, state_errors, whoever_solves
from flows.stages.group_matches import GroupMatches
from flows.stages.slices import MATCHES_OF_A_WINDOW, find_slice_shifts, without_slice_shifts
from tar_engine.fields.field import Field
from tar_engine.fields.ground import blend, continued, fit_affine
from tar_engine.fields.matches import Matches
from tar_engine.fields.nodes import (
    FULL_CONFIDENCE,
    NodeField,
    expected_error,
    field_through,
)
from tar_engine.fields.parts import SolveParts, one_by_one

Float64 = npt.NDArray[np.float64]

REMAINDER_SIGMA_PX = 0.35  # of what one window tells of a pass's remainder
SHARED_SIGMA_PX = 1.0  # per window, of what a day's matches share: its season and its light
REMAINDER_TOLERANCE_PX = 0.7  # of a match from it
UNTOLD_TILT, TOLD_TILT = 5e-4, 1e-4  # sigma of a pass's, and of what radar leaves of it; px per px
RADAR_SIGMA_PX = 0.1  # of a pass held to the ground by radar
NOTHING_BEYOND = Field("shift", np.eye(2, 3))
SURE_SHIFT_PX = 0.2  # sigma of an optical pass's own shift that is worth remembering
FEW_MATCHES = 200  # tried, of a pair; with fewer, clouds or nodata hide its ground


def weigh_found(
    group: Group,
    found: tuple[GroupMatches | None, Remembered],
    position: PassPosition | None,
    lattice: Lattice,
) -> GroupEstimate:
    """Runs on a worker: `weigh_group` for matches as they came from the tiles, or none; slice by
    slice, where radar or matches show that slices lie apart."""
    matched, remembered = found
    matches = matched.matches() if matched else Matches.concatenate(())
    failed = len(matched.failed) if matched else 0
    if position is not None and position.verdict.accepted:
        shifts = position.slice_shifts
    else:
        shifts = find_slice_shifts(group.sar, less(matches, remembered.field), lattice)
    level = without_slice_shifts(group.sar, matches, shifts, lattice)
    solve = whoever_solves(matched.tiles if matched else 0)
    estimate = weigh_group(
        group, level, lattice, remembered, position, failed_tiles=failed, solve=solve
    )
    return replace(estimate, slice_shifts=shifts)


def weigh_group(
    group: Group,
    matches: Matches,
    lattice: Lattice,
    remembered: Remembered,
    position: PassPosition | None,
    *,
    failed_tiles: int = 0,
    solve: SolveParts = one_by_one,
) -> GroupEstimate:
    """The estimate of a group whose viewing geometry is remembered.

    `matches` are the day's, in lattice pixels, none for ground without optical; `position` is where
    radar shows the SAR pass.
    """
    alone = fit_group(group, matches, lattice, failed_tiles=failed_tiles, solve=solve)
    told = position if position is not None and position.verdict.accepted else None
    # A pass's tilt is best told by radar, which sees all of the ground; optical adds a shift.
    passed = told.beyond if told else NOTHING_BEYOND
    level = less(less(matches, remembered.field), passed)
    beyond = fit_group(group, level, lattice, failed_tiles=failed_tiles, config=REMAINDER)
    if beyond.field is None:
        # The ground is not as it is remembered, or the day tells nothing of it.
        if alone.field is not None:
            return alone
        return by_memory(group, matches, alone, lattice, remembered, position)
    own = split_by_pair(group, matches, lattice)
    accepted = [mine for mine, v in zip(own, beyond.verdicts, strict=True) if v.accepted]
    counted = level.select(np.logical_or.reduce(accepted))
    remainder, windows = _measure_remainder(counted, TOLD_TILT if told else UNTOLD_TILT)
    sigma_px = REMAINDER_SIGMA_PX / windows**0.5
    measured = _at_middle(remainder, lattice)
    shift, worth_keeping = measured, told and sigma_px < SURE_SHIFT_PX
    if told:
        usual, usual_px = remembered.optical_shift("")
        shift = (measured / sigma_px**2 - usual / usual_px**2) / (sigma_px**-2 + usual_px**-2)
        sigma_px = (sigma_px**-2 + usual_px**-2) ** -0.5
    moved = passed.affine - np.eye(2, 3) + remainder
    moved[:, 2] += shift - measured
    before = _carried(remembered.ground, moved, sigma_px)
    answer = blend(before, alone.evidence) if alone.evidence is not None else before
    verdicts = [
        _accept_hidden(verdict, int(mine.sum()))
        for verdict, mine in zip(beyond.verdicts, own, strict=True)
    ]
    return replace(
        _answer(answer, verdicts, own, matches, SHARED_SIGMA_PX / windows**0.5),
        evidence=alone.evidence,
        optical_shift=(-float(measured[0]), -float(measured[1])) if worth_keeping else None,
    )


def by_memory(
    group: Group,
    matches: Matches,
    refused: GroupEstimate,
    lattice: Lattice,
    remembered: Remembered,
    position: PassPosition | None,
) -> GroupEstimate:
    """The estimate of a group of which its optical image tells nothing; by radar if that can tell.

    A pair whose ground is clear, and that was refused all the same, stays refused.
    """
    day = group.optical[0].solar_day.isoformat() if group.optical else ""
    if position is not None and position.verdict.accepted:
        optical_shift, optical_sigma = (
            remembered.optical_shift(day) if day else remembered.ground_shift
        )
        beyond = position.affine - np.column_stack([np.zeros((2, 2)), optical_shift])
        sigma = float(np.hypot(RADAR_SIGMA_PX, optical_sigma))
        quality, how = REGISTERED_RADAR_TO_RADAR, f"by radar alone: {position.verdict.reason}"
    else:
        beyond, sigma = np.zeros((2, 3)), remembered.pass_spread_px
        quality, how = REGISTERED_FROM_MEMORY, "from memory alone"
        if position is not None:
            how += f"; radar: {position.verdict.reason}"
    answer = _carried(remembered.ground, beyond, sigma)
    own = split_by_pair(group, matches, lattice) if group.optical else []
    verdicts = []
    for place, verdict in enumerate(refused.verdicts):
        clear = bool(own) and int(own[place].sum()) >= FEW_MATCHES
        verdicts.append(verdict if clear else replace(verdict, accepted=True, reason=how))
    if not any(verdict.accepted for verdict in verdicts):
        return refused
    return replace(_answer(answer, verdicts, own, matches), quality=QUALITY[quality])


def _carried(ground: NodeField, beyond: Float64, sigma_px: float) -> NodeField:
    """The ground as a pass shows it that lies an affine displacement (2, 3) `beyond` it, known to
    `sigma_px`."""
    moved = ground.moved(-beyond)
    return NodeField(moved.displacement, np.hypot(moved.error, sigma_px))


def _answer(
    nodes: NodeField,
    verdicts: Sequence[PairVerdict],
    own: Sequence[npt.NDArray[np.bool_]],
    matches: Matches,
    shared_px: float = 0.0,
) -> GroupEstimate:
    """The estimate that nodes make, and what verdicts say of it; `shared_px` is the sigma of what
    the nodes are all wrong by."""
    whole = continued(nodes)
    error_px = expected_error(np.hypot(whole.error, shared_px))
    typical_px = float(np.median(np.hypot(*nodes.displacement)[nodes.known]))
    sure_px = float(np.median(error_px[nodes.known]))
    stated = [
        replace(verdict, expected_error_px=sure_px, median_displacement_px=typical_px)
        if verdict.accepted
        else verdict
        for verdict in verdicts
    ]
    if own:
        stated = list(state_errors(stated, own, matches, error_px))
    return GroupEstimate(field_through(whole.displacement), tuple(stated), error_px=error_px)


def _accept_hidden(verdict: PairVerdict, tried: int) -> PairVerdict:
    """A pair of which too little is seen to tell, beside others of its passes that were told."""
    if verdict.accepted or tried >= FEW_MATCHES:
        return verdict
    return replace(
        verdict, accepted=True, reason="by memory, and what other pairs of its passes show"
    )


def _measure_remainder(beyond: Matches, tilt: float) -> tuple[Float64, float]:
    """The affine displacement (2, 3) that matches have beyond what is known, pixels, and how many
    windows tell it."""
    windows = np.minimum(beyond.confidence / FULL_CONFIDENCE, 1.0) / MATCHES_OF_A_WINDOW
    windows = np.maximum(windows, 1e-6)
    weight = windows / REMAINDER_SIGMA_PX**2
    displacement = beyond.sar_xy - beyond.optical_xy
    affine = fit_affine(beyond.optical_xy, displacement, weight, REMAINDER_TOLERANCE_PX, tilt)
    return affine, max(1.0, float(windows.sum()))


def _at_middle(affine: Float64, lattice: Lattice) -> Float64:
    """An affine displacement (dx, dy) at the middle of the lattice."""
    height, width = lattice.shape
    return np.asarray(affine @ [(width - 1) / 2, (height - 1) / 2, 1.0], np.float64)
