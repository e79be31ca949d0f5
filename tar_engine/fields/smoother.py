"""The smooth field on one lattice: a spline through uncertain matches, as stiff as is asked for.

A cubic B-spline, penalised by its differences (P-splines, Eilers and Marx 1996). What a match says
of its 4 x 4 control points is worked out once: its place stays while weights and stiffness change.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import lapack
from threadpoolctl import ThreadpoolController

from tar_engine.fields.field import ControlLattice, Field
from tar_engine.fields.matches import Matches

Float64 = npt.NDArray[np.float64]

# Of a cell's 16 control points, every two of them once.
PAIRS = [(later, earlier) for later in range(16) for earlier in range(later + 1)]


class Solved(NamedTuple):
    """A field, and its displacement (N, 2) at the matches."""

    field: Field
    displacement: Float64


class Smoother:
    """Penalised least squares on a lattice that holds all matches, for changing weights.

    Work grows with the lattice's area times the square of its columns.
    """

    def __init__(self, matches: Matches, start: Float64, lattice: ControlLattice):
        self.start, self.lattice = Field("affine", start), lattice
        self.from_start = self.start.at(matches.optical_xy)
        self.beyond = matches.sar_xy - matches.optical_xy - self.from_start
        self.basis = lattice.basis(matches.optical_xy)
        self.to_points = self.basis.T
        value = self.basis.data.reshape(-1, 16)
        later, earlier = np.array(PAIRS).T
        products = value.take(later, axis=1) * value.take(earlier, axis=1)
        (y, x), (down, across) = np.divmod(earlier, 4), np.divmod(later, 4)
        self.band_columns = 3 * lattice.columns + 4
        offset = (down - y) * lattice.columns + across - x
        first = self.basis.indices.reshape(-1, 16)[:, :1]
        places = (first + y * lattice.columns + x) * self.band_columns + offset
        size = lattice.rows * lattice.columns * self.band_columns
        ends = np.arange(len(matches) + 1) * len(PAIRS)
        # By match, what it adds to which place of `_system`.
        self.told = sparse.csc_matrix(
            (products.ravel(), places.ravel(), ends), shape=(size, len(matches))
        )

    def solve(self, weight: Float64, stiffness: float, ridge: float, usual: float) -> Solved:
        """The field beyond the start for matches of weight (N,), float64.

        stiffness: the bending penalty, and ridge: what keeps it to the start where nothing is
        known, relative to `usual`, the weight that a control point's matches have together; none
        is 0.
        """
        bands = self._system(weight)
        offsets, bending = bending_bands(self.lattice.rows, self.lattice.columns)
        bands[:, offsets] += (usual * stiffness) * bending
        bands[:, 0] += usual * ridge
        wanted = self.to_points @ (weight[:, None] * self.beyond)
        # What SciPy's `solveh_banded` asks, without its checks: they take a third of the time.
        _, found, failed = lapack.dpbsv(bands.T, wanted, lower=1, overwrite_ab=1, overwrite_b=1)
        if failed:
            raise np.linalg.LinAlgError(f"the smooth field's system is not regular ({failed})")
        shape = self.lattice.rows, self.lattice.columns, 2
        control = np.ascontiguousarray(found.reshape(shape).transpose(2, 0, 1))
        at_matches = self.from_start + self.basis @ found
        return Solved(Field("smooth", self.start.affine, self.lattice, control), at_matches)

    def _system(self, weight: Float64) -> Float64:
        """(points, 3 * columns + 4): what the matches say of control points j and j + offset."""
        system: Float64 = self.told @ weight
        return system.reshape(-1, self.band_columns)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Linear algebra of NumPy and SciPy on one thread: several go on spinning while others need
    the cores, and the last bits depend on how many they are."""
    with _blas_threads().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _blas_threads() -> ThreadpoolController:
    return ThreadpoolController()


@functools.lru_cache(maxsize=8)
def bending_bands(rows: int, columns: int) -> tuple[npt.NDArray[np.int64], Float64]:
    """Bending energy of a lattice: offsets (K,), and (points, K) of control points j and j + offset
    beyond it."""
    bending = ControlLattice(0, 0, 1.0, rows, columns).bending()
    lower = sparse.tril(bending.T @ bending).tocoo()
    offsets, place = np.unique(lower.row - lower.col, return_inverse=True)
    bands = np.zeros((rows * columns, len(offsets)))
    bands[lower.col, place] = lower.data
    return offsets, bands
