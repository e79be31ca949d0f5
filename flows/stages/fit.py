"""From a group's matches to one displacement field, and a verdict for each of its pairs.

Pairs of one group look at the ground from the same two orbits, so they share a field: that is why
no border between scenes shows. Each pair answers for its own matches, though, and one that does
not belong is refused and taken out before the field is fitted again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Scene
from catalog.archives.pairs import Pair
from catalog.grid import Lattice
from flows.plan.groups import Group
from flows.stages.group_matches import GroupMatches
from tar_engine.fields.field import Field
from tar_engine.fields.fit import Verdict, fit, judge
from tar_engine.fields.matches import Matches

Mask = npt.NDArray[np.bool_]
OUTLINE_STEP_DEGREES = 0.01  # straight lines in lon/lat are not straight on the lattice


@dataclass(frozen=True)
class PairVerdict:
    """What became of one pair, or of a SAR scene alone, whose `optical` is "".

    Distances in lattice pixels; NaN when nothing was measured.
    """

    optical: str
    sar: str
    accepted: bool
    reason: str
    expected_error_px: float
    median_displacement_px: float
    matches: int


@dataclass(frozen=True)
class GroupEstimate:
    """One displacement field for a group, and a verdict for each of its pairs, in their order.

    A group without optical scenes has a verdict for each SAR scene, whose `optical` is "".
    `quality` says by what its pixels are registered: a name of `catalog.store.schema.QUALITY`.
    """

    field: Field | None
    verdicts: tuple[PairVerdict, ...]
    quality: str = "registered"


def fit_found(group: Group, found: GroupMatches, lattice: Lattice) -> GroupEstimate:
    """Runs on a worker: `fit_group` for matches as they came from the tiles."""
    return fit_group(group, found.matches(), lattice, failed_tiles=len(found.failed))


def fit_group(
    group: Group, matches: Matches, lattice: Lattice, *, failed_tiles: int = 0
) -> GroupEstimate:
    """Fit one field to a group, judge each pair on its own matches, drop the refused, fit again.

    `matches` are in lattice pixels; of two pairs that see the same ground, a match belongs to the
    one that the mosaic shows. `failed_tiles` only explains why a pair may have no match. Without
    any accepted pair the estimate has no field.
    """
    own = _split_by_pair(group, matches, lattice)
    no_match = "the engine found no match on its ground"
    if failed_tiles:
        no_match += f", and {failed_tiles} tiles of its passes failed"
    verdicts = [_refuse(*ids, no_match) for ids in group.judged]
    candidates = [index for index, mine in enumerate(own) if mine.any()]
    while candidates:
        fitted = np.logical_or.reduce([own[index] for index in candidates])
        shared = fit(matches.select(fitted))
        unseen_px = np.full(len(matches), np.nan)
        unseen_px[fitted] = shared.unseen_px
        for index in candidates:
            mine = own[index]
            verdict = judge(matches.select(mine), shared.field, unseen_px[mine])
            verdicts[index] = _verdict_of(group.pairs[index], verdict)
        accepted = [index for index in candidates if verdicts[index].accepted]
        if accepted == candidates and shared.verdict.accepted:
            return GroupEstimate(shared.field, tuple(verdicts))
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


def estimates_to_bytes(estimates: Sequence[GroupEstimate]) -> bytes:
    """All groups of a slot as one npz: the same estimates give the same bytes."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for index, estimate in enumerate(estimates):
        verdicts = json.dumps([asdict(verdict) for verdict in estimate.verdicts])
        arrays[f"{index}/verdicts"] = np.array(verdicts)
        arrays[f"{index}/quality"] = np.array(estimate.quality)
        for name, array in (estimate.field.to_arrays() if estimate.field else {}).items():
            arrays[f"{index}/field/{name}"] = array
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def estimates_from_bytes(content: bytes) -> tuple[GroupEstimate, ...]:
    """Inverse of `estimates_to_bytes`."""
    estimates = []
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        count = sum(name.endswith("/verdicts") for name in arrays.files)
        for index in range(count):
            prefix = f"{index}/field/"
            field = {
                n.removeprefix(prefix): arrays[n] for n in arrays.files if n.startswith(prefix)
            }
            verdicts = json.loads(str(arrays[f"{index}/verdicts"]))
            estimates.append(
                GroupEstimate(
                    Field.from_arrays(field) if field else None,
                    tuple(PairVerdict(**verdict) for verdict in verdicts),
                    str(arrays[f"{index}/quality"]),
                )
            )
    return tuple(estimates)


def _split_by_pair(group: Group, matches: Matches, lattice: Lattice) -> list[Mask]:
    """For each pair, which matches lie where the mosaic shows its optical and its SAR scene."""
    optical = _find_shown(group.optical, matches.optical_xy, lattice)
    sar = _find_shown(group.sar, matches.optical_xy, lattice)
    return [
        (optical == group.optical.index(pair.optical)) & (sar == group.sar.index(pair.sar))
        for pair in group.pairs
    ]


def _find_shown(
    scenes: Sequence[Scene], xy: npt.NDArray[np.float64], lattice: Lattice
) -> npt.NDArray[np.intp]:
    """Index of the first scene whose footprint holds each lattice position (N, 2); -1 if none."""
    shown = np.full(len(xy), -1)
    for index, scene in enumerate(scenes):
        outline = _project(lattice, scene.footprint)
        shown[(shown < 0) & shapely.contains_xy(outline, xy[:, 0], xy[:, 1])] = index
    return shown


def _project(lattice: Lattice, footprint: BaseGeometry) -> BaseGeometry:
    """A lon/lat outline in lattice pixels; dense, because straight lines do not stay straight."""
    dense = shapely.segmentize(footprint, OUTLINE_STEP_DEGREES)
    return shapely.transform(dense, lambda lonlat: lattice.px_from_lonlat(lonlat.T).T)


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
