"""What several days know together of the ground under one viewing geometry.

Terrain displaces SAR of one orbit the same way on every pass; a pass, and an optical image, add a
small shift or tilt of their own. So the field of a day is the ground's field plus a remainder,

    day (x) = ground (x) + remainder_day (x),    remainder: an affine,

and the ground's field is what most days agree on when their remainders are taken off. Which day
came first does not matter, and one wrong day moves nothing: the values of a node are weighed
robustly, and the remainders' median over the days is where the ground is said to lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tar_engine.fields.nodes import (
    LARGEST_ERROR_PX,
    NodeField,
    NodeGrid,
    affine_at,
    extended,
    smooth,
)
from tar_engine.fields.robust import robust_weight

Float64 = npt.NDArray[np.float64]

ROUNDS = 6  # of taking the remainders off and laying the days together
TOLERANCES_PX = (4.0, 2.0, 1.0, 0.7)  # of a node's disagreement, round by round; then the last
LEAST_COMMON = 30  # nodes that two days must share before one's remainder can be told
TILT_PX_PER_PX = 5e-4  # sigma expected of an affine's linear part: half a pixel over a thousand
LENGTH_NODES = 4.0  # nodes nearer than that say much the same
MEMORY_FLOOR_PX = 0.05  # of a pass from the ground's field, after its remainder: the orbit's tube


@dataclass(frozen=True)
class Ground:
    """The ground's field, and what each day adds to it.

    field: value and error on nodes. count: (rows, columns) int64 days that know each node.
    remainders: (days, 2, 3) float64, the affine displacement of each day beyond the ground's.
    """

    field: NodeField
    count: npt.NDArray[np.int64]
    remainders: Float64


def combine_days(days: Sequence[NodeField]) -> Ground:
    """The ground's field by what each day knows, in whatever order the days are given.

    `days`: at least one, all on the same nodes.
    """
    order = sorted(range(len(days)), key=lambda place: _rank(days[place]))
    displacement = np.stack([days[place].displacement for place in order])
    error = np.stack([days[place].error for place in order])
    grid, known = days[0].grid, np.isfinite(error)
    remainders = np.zeros((len(days), 2, 3))
    ground = NodeField(displacement[0], error[0])
    for round_ in range(ROUNDS if len(days) > 1 else 0):
        tolerance_px = TOLERANCES_PX[min(round_, len(TOLERANCES_PX) - 1)]
        for place in range(len(days)):
            day = NodeField(displacement[place], error[place])
            remainders[place] = fit_remainder(day, ground, tolerance_px)
            if round_ == 0:  # days that share no ground with the first are laid to those that do
                ground = _lay(displacement, error, remainders, grid, range(place + 1), tolerance_px)
        remainders -= np.median(remainders, axis=0)
        ground = _lay(displacement, error, remainders, grid, range(len(days)), tolerance_px)
    back = np.argsort(order)
    return Ground(ground, known.sum(axis=0), remainders[back])


def fit_remainder(day: NodeField, ground: NodeField, tolerance_px: float) -> Float64:
    """The affine displacement (2, 3) of a day beyond the ground's, by the nodes that both know.

    Iteratively reweighted least squares; the linear part is held to what orbits and products do.
    Zero where they share too few nodes.
    """
    common = day.known & ground.known
    if common.sum() < LEAST_COMMON:
        return np.zeros((2, 3))
    xy = day.grid.xy[common.ravel()]
    beyond = (day.displacement - ground.displacement)[:, common].T
    # Neighbouring nodes share their matches: each counts as its part of an independent one.
    variance = (day.error**2 + ground.error**2)[common] * LENGTH_NODES**2
    return fit_affine(xy, beyond, 1 / variance, tolerance_px)


def fit_affine(
    xy: Float64,
    displacement: Float64,
    weight: Float64,
    tolerance_px: float,
    tilt: float = TILT_PX_PER_PX,
) -> Float64:
    """(2, 3) affine displacement of (N, 2) displacements at (N, 2); weight: (N,) inverse variance.

    What lies further off than the tolerance counts little (`robust_weight`). `tilt` is the sigma
    expected of the linear part, pixels per pixel: a corner of the ground alone cannot tell it.
    """
    centre = np.average(xy, axis=0, weights=weight)
    design = np.column_stack([xy - centre, np.ones(len(xy))])
    prior = np.diag([tilt**-2, tilt**-2, 0.0])
    start = np.array([_weighted_median(each, weight) for each in displacement.T])
    residual = displacement - start
    solution = np.zeros((3, 2))
    for _ in range(ROUNDS):
        trust = robust_weight((residual**2).sum(axis=1), tolerance_px, weight)
        normal = (design * trust[:, None]).T @ design + prior
        solution = np.linalg.solve(normal, (design * trust[:, None]).T @ displacement)
        residual = displacement - design @ solution
    linear, shift = solution[:2].T, solution[2]
    return np.column_stack([linear, shift - linear @ centre])


def blend(known_before: NodeField, today: NodeField) -> NodeField:
    """The ground as memory and remainder have it, and as today's matches do, by their errors.

    Where the two differ by more than their errors explain, over a neighbourhood, the ground is not
    as it was remembered, and today counts for more.
    """
    both = known_before.known & today.known
    difference = np.where(both, today.displacement - known_before.displacement, 0.0)
    square = (difference**2).sum(axis=0)
    stated = np.where(both, today.error**2 + known_before.error**2, 0.0)
    share = smooth(both.astype(np.float64)) + 1e-9
    surplus = np.maximum(smooth(square) - 2 * smooth(stated), 0.0) / share
    before = known_before.error**2 + MEMORY_FLOOR_PX**2 + surplus
    weight = np.stack(
        [
            np.where(known_before.known, 1 / np.maximum(before, 1e-6), 0.0),
            np.where(today.known, 1 / np.maximum(today.error, 1e-3) ** 2, 0.0),
        ]
    )
    total = weight.sum(axis=0)
    values = np.stack([known_before.displacement, today.displacement])
    mean = (np.nan_to_num(values) * weight[:, None]).sum(axis=0) / np.maximum(total, 1e-12)
    nothing = total == 0
    error = np.where(nothing, np.nan, 1 / np.sqrt(np.maximum(total, 1e-12)))
    return NodeField(np.where(nothing, np.nan, mean), error)


def continued(field: NodeField) -> NodeField:
    """The field at every node: continued to where nothing is known, at an error that grows."""
    known = field.known
    displacement = extended(field.displacement, known)
    error = extended(field.error, known)
    reach = smooth(known.astype(np.float64))
    grown = error + (1 - np.clip(reach, 0, 1)) * np.where(known, 0.0, 2.0)
    return NodeField(displacement, np.minimum(grown, LARGEST_ERROR_PX))


def _lay(
    displacement: Float64,
    error: Float64,
    remainders: Float64,
    grid: NodeGrid,
    places: range,
    tolerance_px: float,
) -> NodeField:
    """The days' common field, their remainders taken off; a robust mean node by node."""
    chosen = list(places)
    level = displacement[chosen] - np.stack([affine_at(remainders[p], grid) for p in chosen])
    variance = error[chosen] ** 2
    known = np.isfinite(variance)
    weight = np.where(known, 1 / np.maximum(np.nan_to_num(variance, nan=1.0), 1e-6), 0.0)
    centre = _node_median(np.nan_to_num(level), weight)
    trust = weight
    for _ in range(3):
        off = np.where(known, ((level - centre) ** 2).sum(axis=1), 0.0)
        trust = robust_weight(off, tolerance_px, weight)
        total = np.maximum(trust.sum(axis=0), 1e-12)
        centre = (np.nan_to_num(level) * trust[:, None]).sum(axis=0) / total
    nothing = ~known.any(axis=0)
    # Not the robust weights alone: days that disagree make the mean no surer.
    spread = (trust * np.where(known, ((level - centre) ** 2).sum(axis=1), 0.0)).sum(axis=0)
    days = known.sum(axis=0)
    inner = 1 / np.maximum(trust.sum(axis=0), 1e-12)
    outer = spread * inner / np.maximum(days - 1, 1)
    sigma = np.sqrt(np.where(days > 1, np.maximum(inner, outer), inner))
    return NodeField(np.where(nothing, np.nan, centre), np.where(nothing, np.nan, sigma))


def _node_median(values: Float64, weight: Float64) -> Float64:
    """Weighted median over days of (days, 2, rows, columns), node by node and axis by axis."""
    order = np.argsort(values, axis=0, kind="stable")
    sorted_values = np.take_along_axis(values, order, axis=0)
    spread = np.broadcast_to(weight[:, None], values.shape)
    sorted_weight = np.take_along_axis(spread, order, axis=0)
    reached = np.cumsum(sorted_weight, axis=0) >= sorted_weight.sum(axis=0) / 2
    first = reached.argmax(axis=0)[None]
    return np.asarray(np.take_along_axis(sorted_values, first, axis=0)[0])


def _weighted_median(values: Float64, weight: Float64) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _rank(day: NodeField) -> tuple[float, float, float]:
    """The surest first; by content alone, so that the order in which days come does not count."""
    known = day.known
    if not known.any():
        return np.inf, 0.0, 0.0
    mean = day.displacement[:, known].mean(axis=1)
    return -float((1 / day.error[known] ** 2).sum()), float(mean[0]), float(mean[1])
