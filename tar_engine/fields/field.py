"""A displacement field: an affine, and where terrain asks for it a smooth spline on top.

The spline is a uniform cubic B-spline on a lattice of control points: compact enough to send to
every worker, cheap to evaluate on any window, the same wherever it is evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

Float64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
AT_ONCE = 2**16  # positions of which a field is told: each takes 0.7 kB while it is
MARGIN = 2  # control points beyond the matches on each side, so that every cell has its 4 x 4


@dataclass(frozen=True)
class ControlLattice:
    """Where the control points lie: point (i, j) is at spacing * (first_x + j, first_y + i).

    Whole multiples of the spacing, so that a part of a lattice weighs its points to the bit as the
    whole does.
    """

    first_x: int
    first_y: int
    spacing_px: float
    rows: int
    columns: int

    @classmethod
    def over(cls, xy: Float64, spacing_px: float) -> ControlLattice:
        """The lattice that covers points (N, 2)."""
        low = np.floor(xy.min(axis=0) / spacing_px).astype(int) - MARGIN
        high = np.ceil(xy.max(axis=0) / spacing_px).astype(int) + MARGIN
        columns, rows = (high - low + 1).tolist()
        x, y = low.tolist()
        return cls(x, y, spacing_px, rows, columns)

    def cut(self, rows: slice, columns: slice) -> ControlLattice:
        """Some of its rows and columns; slices with both ends, counted from its first point."""
        return ControlLattice(
            self.first_x + columns.start,
            self.first_y + rows.start,
            self.spacing_px,
            rows.stop - rows.start,
            columns.stop - columns.start,
        )

    def basis_x(self, x: Float64) -> tuple[npt.NDArray[np.int64], Float64]:
        """(N,) first of the four columns that tell of each x, and their weights (N, 4)."""
        return self._basis_1d(x, self.first_x, self.columns)

    def basis_y(self, y: Float64) -> tuple[npt.NDArray[np.int64], Float64]:
        """(N,) first of the four rows that tell of each y, and their weights (N, 4)."""
        return self._basis_1d(y, self.first_y, self.rows)

    def _basis_1d(
        self, position: Float64, first: int, count: int
    ) -> tuple[npt.NDArray[np.int64], Float64]:
        # Beyond the lattice it is held at its border: a spline must not extrapolate.
        u = np.clip(position / self.spacing_px, first + 1.0, first + count - 2 - 1e-9)
        cell = np.floor(u).astype(np.int64)
        t = u - cell
        weights = np.stack(
            [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1
        )
        return cell - first - 1, weights / 6

    def basis(self, xy: Float64) -> sparse.csr_matrix:
        """(N, rows * columns) sparse weights of the control points at points (N, 2)."""
        first_x, weights_x = self.basis_x(xy[:, 0])
        first_y, weights_y = self.basis_y(xy[:, 1])
        four = np.arange(4)
        index = (first_y[:, None] + four)[:, :, None] * self.columns
        index = index + (first_x[:, None] + four)[:, None, :]
        weights = weights_y[:, :, None] * weights_x[:, None, :]
        points = np.repeat(np.arange(len(xy)), 16)
        shape = (len(xy), self.rows * self.columns)
        return sparse.csr_matrix((weights.ravel(), (points, index.ravel())), shape=shape)

    def bending(self) -> sparse.csr_matrix:
        """Second differences whose squared norm is the thin-plate bending energy per cell."""
        along_x = sparse.kron(sparse.eye(self.rows), _difference(self.columns, 2))
        along_y = sparse.kron(_difference(self.rows, 2), sparse.eye(self.columns))
        crossed = sparse.kron(_difference(self.rows, 1), _difference(self.columns, 1))
        return sparse.vstack([along_x, along_y, np.sqrt(2) * crossed]).tocsr()


@dataclass(frozen=True)
class Field:
    """sar position minus optical position at any optical position, pixels.

    affine: (2, 3) float64, optical (x, y) -> sar (x, y).
    control: None, or (2, rows, columns) float64 displacement beyond the affine.
    px_per_m: None, or (2,) float64 displacement (dx, dy) by a metre of relief, which is height
        beyond a plane over the image. Of level ground the field is as if there were none.
    """

    kind: str  # "shift", "affine" or "smooth"
    affine: Float64
    lattice: ControlLattice | None = None
    control: Float64 | None = None
    px_per_m: Float64 | None = None

    def at(self, xy: Float64, relief_m: Float64 | None = None) -> Float64:
        """Displacement (N, 2) float64 pixels at optical positions (N, 2), of relief (N,) metres."""
        displacement = xy @ self.affine[:, :2].T + self.affine[:, 2] - xy
        if self.lattice is not None and self.control is not None:
            control = self.control.reshape(2, -1).T
            for first in range(0, len(xy), AT_ONCE):
                some = slice(first, first + AT_ONCE)
                displacement[some] += self.lattice.basis(xy[some]) @ control
        if self.px_per_m is not None and relief_m is not None:
            displacement += relief_m[:, None] * self.px_per_m
        return displacement

    def displacement(
        self, x0: int, y0: int, width: int, height: int, relief_m: Floats | None = None
    ) -> Floats:
        """(2, height, width) float32 (dx, dy) at every pixel of a window of the optical grid.

        relief_m: (height, width) there, metres.
        """
        x, y = np.arange(x0, x0 + width, dtype=float), np.arange(y0, y0 + height, dtype=float)
        linear = self.affine[:, :2] - np.eye(2)
        dense = (
            linear[:, 0, None, None] * x[None, None, :]
            + linear[:, 1, None, None] * y[None, :, None]
            + self.affine[:, 2, None, None]
        )
        if self.lattice is not None and self.control is not None:
            # By the points that are needed alone, so that a part of the field gives the same bits.
            columns, across = _dense_basis(*self.lattice.basis_x(x))
            rows, down = _dense_basis(*self.lattice.basis_y(y))
            control = np.ascontiguousarray(self.control[:, rows, columns])
            dense = dense + down @ control @ across.T
        if self.px_per_m is not None and relief_m is not None:
            dense = dense + self.px_per_m[:, None, None] * relief_m
        return dense.astype(np.float32)

    def within(self, x0: int, y0: int, width: int, height: int) -> Field:
        """The field with the control points alone that a window of the optical grid needs.

        Anywhere in the window it has the bits of the whole.
        """
        if self.lattice is None or self.control is None:
            return self
        first_x, _ = self.lattice.basis_x(np.array([x0, x0 + width - 1], float))
        first_y, _ = self.lattice.basis_y(np.array([y0, y0 + height - 1], float))
        rows = _with_border(first_y, self.lattice.rows)
        columns = _with_border(first_x, self.lattice.columns)
        control = np.ascontiguousarray(self.control[:, rows, columns])
        return replace(self, lattice=self.lattice.cut(rows, columns), control=control)

    def best_affine(self, width: int, height: int) -> Float64:
        """(2, 3) affine, optical (x, y) -> sar (x, y), closest to the field over an image."""
        if self.control is None:
            return self.affine
        x, y = np.meshgrid(np.linspace(0, width - 1, 17), np.linspace(0, height - 1, 17))
        xy = np.stack([x.ravel(), y.ravel()], axis=1)
        design = np.column_stack([xy, np.ones(len(xy))])
        return np.asarray(np.linalg.lstsq(design, xy + self.at(xy), rcond=None)[0].T, np.float64)

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Plain arrays, for an npz file."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "kind": np.array(self.kind),
            "affine": self.affine,
        }
        if self.lattice is not None and self.control is not None:
            lattice = self.lattice
            origin = np.array([lattice.first_x, lattice.first_y]) * lattice.spacing_px
            arrays["lattice"] = np.array([*origin, lattice.spacing_px])
            arrays["control"] = self.control
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Field:
        """Inverse of `to_arrays`."""
        kind, affine = str(arrays["kind"]), np.asarray(arrays["affine"], float)
        if "control" not in arrays:
            return cls(kind, affine)
        control = np.asarray(arrays["control"], float)
        x, y, spacing = np.asarray(arrays["lattice"], float).tolist()
        first = round(x / spacing), round(y / spacing)
        return cls(kind, affine, ControlLattice(*first, spacing, *control.shape[1:]), control)


def _difference(count: int, order: int) -> sparse.csr_matrix:
    matrix = np.diff(np.eye(count), n=order, axis=0)
    return sparse.csr_matrix(matrix)


def _dense_basis(first: npt.NDArray[np.int64], weights: Float64) -> tuple[slice, Float64]:
    """Which control points tell of some positions, and their weights (positions, points)."""
    needed = slice(int(first.min()), int(first.max()) + 4)
    dense = np.zeros((len(first), needed.stop - needed.start))
    np.put_along_axis(dense, first[:, None] - needed.start + np.arange(4), weights, axis=1)
    return needed, dense


def _with_border(first: npt.NDArray[np.int64], count: int) -> slice:
    """Control points for positions whose first ones are between two; one more on either side, so
    that no position is held at a border that the whole lattice has not."""
    return slice(max(0, int(first[0]) - 1), min(count, int(first[1]) + 5))
