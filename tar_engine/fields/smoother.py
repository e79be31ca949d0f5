"""The smooth field: a spline through uncertain matches, as stiff as is asked for.

A cubic B-spline on a lattice, penalised by its differences (P-splines, Eilers and Marx 1996).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import solveh_banded

from tar_engine.config import FitConfig
from tar_engine.fields.field import ControlLattice, Field
from tar_engine.fields.matches import Matches

Float64 = npt.NDArray[np.float64]


class Solved(NamedTuple):
    """A field, and its displacement (N, 2) at the matches."""

    field: Field
    displacement: Float64


class Smoother:
    """Penalised least squares on one lattice of control points, for changing weights.

    A large lattice is solved in overlapping parts: what a control point is told by matches further
    off than `config.overlap_points` cannot be seen, and work and memory then grow with the area
    alone.
    """

    def __init__(self, matches: Matches, start: Float64, config: FitConfig):
        self.start = Field("affine", start)
        self.from_start = self.start.at(matches.optical_xy)
        self.beyond = matches.sar_xy - matches.optical_xy - self.from_start
        self.lattice = ControlLattice.over(matches.optical_xy, config.spacing_px)
        self.basis = self.lattice.basis(matches.optical_xy)
        place = self.basis.indices.reshape(-1, 16)[:, 0].astype(np.int64)
        row, column = np.divmod(place, self.lattice.columns)  # of the first of a match's 4 x 4
        self.parts = [
            Part(down, across, np.flatnonzero(down.holds(row) & across.holds(column)))
            for down in Span.of(self.lattice.rows, config)
            for across in Span.of(self.lattice.columns, config)
        ]

    def solve(self, weight: Float64, stiffness: float) -> Solved:
        """The field beyond the start for matches of weight (N,), float64.

        stiffness: the bending penalty, relative to the matches' mean weight; not 0.
        """
        weight = weight / max(float(weight.mean()), 1e-12)
        # Stiffness is per match, so that it means the same at every density of matches.
        density = len(weight) / self.basis.shape[1]
        control = np.empty((self.lattice.rows, self.lattice.columns, 2))
        for part in self.parts:
            found = self._solve_part(part, weight, stiffness * density, 1e-6 * density)
            control[part.down.core, part.across.core] = found
        at_matches = self.from_start + self.basis @ control.reshape(-1, 2)
        control = np.ascontiguousarray(control.transpose(2, 0, 1))
        return Solved(Field("smooth", self.start.affine, self.lattice, control), at_matches)

    def _solve_part(self, part: Part, weight: Float64, bend: float, ridge: float) -> Float64:
        """(rows, columns, 2) control values of a part's core."""
        count, columns = part.down.size * part.across.size, part.across.size
        value = self.basis.data.reshape(-1, 16)[part.matches]
        place = self.basis.indices.reshape(-1, 16)[part.matches].astype(np.int64)
        row, column = np.divmod(place, self.lattice.columns)
        place = (row - part.down.start) * columns + column - part.across.start
        first, second = np.tril_indices(16)
        bands = bend * bending_bands(part.down.size, columns)
        # Entry (i, j) of the symmetric system, i >= j, lies at [i - j, j].
        at = (place[:, first] - place[:, second]) * count + place[:, second]
        product = value[:, first] * value[:, second] * weight[part.matches, None]
        bands += np.bincount(at.ravel(), product.ravel(), minlength=bands.size).reshape(bands.shape)
        bands[0] += ridge
        pulled = value * weight[part.matches, None]
        wanted = np.stack(
            [
                np.bincount(place.ravel(), (pulled * beyond[:, None]).ravel(), minlength=count)
                for beyond in self.beyond[part.matches].T
            ],
            axis=-1,
        )
        found = solveh_banded(bands, wanted, lower=True, check_finite=False)
        return np.asarray(found.reshape(part.down.size, columns, 2)[part.down.own, part.across.own])


@dataclass(frozen=True)
class Span:
    """Control points along one axis that are solved together, and those of them that are kept."""

    start: int
    stop: int
    first_kept: int
    end_kept: int

    @classmethod
    def of(cls, count: int, config: FitConfig) -> list[Span]:
        """Spans that keep each of `count` points once."""
        core, overlap = config.core_points, config.overlap_points
        if count <= core + 2 * overlap:
            return [cls(0, count, 0, count)]
        ends = [(first, min(first + core, count)) for first in range(0, count, core)]
        return [cls(max(0, a - overlap), min(count, b + overlap), a, b) for a, b in ends]

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def core(self) -> slice:
        """Of all points, those that are kept."""
        return slice(self.first_kept, self.end_kept)

    @property
    def own(self) -> slice:
        """The same, counted from the start."""
        return slice(self.first_kept - self.start, self.end_kept - self.start)

    def holds(self, first: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether four points from `first` on all lie in it."""
        return (first >= self.start) & (first + 4 <= self.stop)


@dataclass(frozen=True)
class Part:
    """A part of the lattice, and the matches (their indexes) that tell it something."""

    down: Span
    across: Span
    matches: npt.NDArray[np.intp]


@functools.lru_cache(maxsize=8)
def bending_bands(rows: int, columns: int) -> Float64:
    """Bending energy of a lattice as a lower banded matrix, (3 * columns + 4, rows * columns)."""
    bending = ControlLattice(0.0, 0.0, 1.0, rows, columns).bending()
    lower = sparse.tril(bending.T @ bending).tocoo()
    bands = np.zeros((3 * columns + 4, rows * columns))  # a match's 4 x 4 points lie that far apart
    bands[lower.row - lower.col, lower.col] = lower.data
    bands.setflags(write=False)
    return bands
