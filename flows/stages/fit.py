"""From a group's matches to one displacement field, and a verdict for each of its pairs.

Pairs of one group look at the ground from the same two orbits, so they share a field: that is why
no border between scenes shows. Each pair answers for its own matches, though, and one that does
not belong is refused and taken out before the field is fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from catalog.archives.pairs import Pair
from catalog.grid import Lattice
from flows.cluster.peers import among_peers
from flows.plan.groups import Group
from flows.stages.estimate import GroupEstimate, PairVerdict
from flows.stages.group_matches import GroupMatches
from flows.stages.shown import find_shown
from flows.stages.slices import find_slice_shifts, without_slice_shifts
from tar_engine.config import FitConfig
from tar_engine.fields.fit import Verdict, fit, judge
from tar_engine.fields.ground import continued
from tar_engine.fields.matches import Matches
from tar_engine.fields.nodes import NodeGrid, expected_error, measure_nodes
from tar_engine.fields.parts import SolveParts, one_by_one

Mask = npt.NDArray[np.bool_]

LEAST_TILES_SHARED = 64  # of full tiles; the field of fewer has few parts


def fit_found(group: Group, found: GroupMatches, lattice: Lattice) -> GroupEstimate:
    """Runs on a worker: `fit_group` for matches as they came from the tiles, slice by slice.

    The parts of a large field are shared with the other workers.
    """
    matches = found.matches()
    shifts = find_slice_shifts(group.sar, matches, lattice)
    level = without_slice_shifts(group.sar, matches, shifts, lattice)
    estimate = fit_group(
        group, level, lattice, failed_tiles=len(found.failed), solve=whoever_solves(found.tiles)
    )
    return replace(estimate, slice_shifts=shifts)


def whoever_solves(tiles: int) -> SolveParts:
    """The other workers too for the field of that many tiles, or this one alone; on a worker."""
    if tiles >= LEAST_TILES_SHARED:
        return among_peers
    return one_by_one


def fit_group(
    group: Group,
    matches: Matches,
    lattice: Lattice,
    *,
    failed_tiles: int = 0,
    config: FitConfig | None = None,
    solve: SolveParts = one_by_one,
) -> GroupEstimate:
    """Fit one field to a group, judge each pair on its own matches, drop the refused, fit again.

    `matches` are in lattice pixels; of two pairs that see the same ground, a match belongs to the
    one that the mosaic shows. `failed_tiles` only explains why a pair may have no match. `solve`
    says who solves the parts of a large field; the answer is the same. Without any accepted pair
    the estimate has no field.
    """
    own = split_by_pair(group, matches, lattice)
    no_match = "the engine found no match on its ground"
    if failed_tiles:
        no_match += f", and {failed_tiles} tiles of its passes failed"
    verdicts = [_refuse(*ids, no_match) for ids in group.judged]
    candidates = [index for index, mine in enumerate(own) if mine.any()]
    while candidates:
        fitted = np.logical_or.reduce([own[index] for index in candidates])
        shared = fit(matches.select(fitted), config, solve)
        unseen_px = np.full(len(matches), np.nan)
        unseen_px[fitted] = shared.unseen_px
        for index in candidates:
            mine = own[index]
            verdict = judge(matches.select(mine), shared.field, unseen_px[mine])
            verdicts[index] = _verdict_of(group.pairs[index], verdict)
        accepted = [index for index in candidates if verdicts[index].accepted]
        if accepted == candidates and shared.verdict.accepted:
            evidence = measure_nodes(
                shared.field, matches.select(fitted), shared.unseen_px, node_grid(lattice)
            )
            error_px = expected_error(continued(evidence).error)
            return GroupEstimate(
                shared.field,
                state_errors(verdicts, own, matches, error_px),
                error_px=error_px,
                evidence=evidence,
            )
        if accepted == candidates:  # they agree with the field, but it fails on unseen matches
            for index in candidates:
                verdicts[index] = _verdict_of(group.pairs[index], shared.verdict)
            accepted = []
        candidates = accepted
    return GroupEstimate(None, tuple(verdicts))


def abstain_without_optical(group: Group) -> GroupEstimate:
    """What is said of SAR scenes over ground that no optical scene shows."""
    reason = "no memory of its viewing geometry yet"
    return GroupEstimate(None, tuple(_refuse(*ids, reason) for ids in group.judged))


def node_grid(lattice: Lattice) -> NodeGrid:
    """The nodes of a region's lattice."""
    height, width = lattice.shape
    return NodeGrid.over(width, height)


def state_errors(
    verdicts: Sequence[PairVerdict],
    own: Sequence[Mask],
    matches: Matches,
    error_px: npt.NDArray[np.float32],
) -> tuple[PairVerdict, ...]:
    """The verdicts, with the median of the error map where the accepted pairs have matches."""
    grid = NodeGrid(*error_px.shape)
    at_matches = grid.at(error_px.astype(np.float64), matches.optical_xy)
    return tuple(
        replace(verdict, expected_error_px=float(np.median(at_matches[mine])))
        if verdict.accepted and mine.any()
        else verdict
        for verdict, mine in zip(verdicts, own, strict=True)
    )


def split_by_pair(group: Group, matches: Matches, lattice: Lattice) -> list[Mask]:
    """For each pair, which matches lie where the mosaic shows its optical and its SAR scene."""
    optical = find_shown(group.optical, matches.optical_xy, lattice)
    sar = find_shown(group.sar, matches.optical_xy, lattice)
    return [
        (optical == group.optical.index(pair.optical)) & (sar == group.sar.index(pair.sar))
        for pair in group.pairs
    ]


def _verdict_of(pair: Pair, verdict: Verdict) -> PairVerdict:
    return PairVerdict(
        optical=pair.optical.id,
        sar=pair.sar.id,
        accepted=verdict.accepted,
        reason=verdict.reason,
        expected_error_px=float(verdict.expected_error_px),
        median_displacement_px=float(verdict.median_displacement_px),
        matches=verdict.matches,
    )


def _refuse(optical: str, sar: str, reason: str) -> PairVerdict:
    return PairVerdict(optical, sar, False, reason, np.nan, np.nan, 0)
