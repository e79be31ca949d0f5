"""A displacement field: an affine, and where terrain asks for it a smooth spline on top.

The spline is a uniform cubic B-spline on a lattice of control points: compact enough to send to
every worker, cheap to evaluate on any window, the same wherever it is evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

Float64 = npt.NDArray[np.float64]
MARGIN = 2  # control points beyond the matches on each side, so that every cell has its 4 x 4


@dataclass(frozen=True)
class ControlLattice:
    """Where the control points lie: point (i, j) is at origin + spacing * (j, i)."""

    origin_x: float
    origin_y: float
    spacing_px: float
    rows: int
    columns: int

    @classmethod
    def over(cls, xy: Float64, spacing_px: float) -> ControlLattice:
        """The lattice that covers points (N, 2), its phase fixed by multiples of the spacing."""
        low = np.floor(xy.min(axis=0) / spacing_px) - MARGIN
        high = np.ceil(xy.max(axis=0) / spacing_px) + MARGIN
        columns, rows = (high - low).astype(int) + 1
        x, y = (low * spacing_px).tolist()
        return cls(x, y, spacing_px, int(rows), int(columns))

    def basis_1d(
        self, position: Float64, origin: float, count: int
    ) -> tuple[npt.NDArray[np.int64], Float64]:
        """First of four control points, and the four weights, for positions along one axis.

        Beyond the lattice the position is held at its border: a spline must not extrapolate.
        """
        u = np.clip((position - origin) / self.spacing_px, 1.0, count - 2 - 1e-9)
        first = np.floor(u).astype(np.int64)
        t = u - first
        weights = np.stack(
            [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1
        )
        return first - 1, weights / 6

    def basis(self, xy: Float64) -> sparse.csr_matrix:
        """(N, rows * columns) sparse weights of the control points at points (N, 2)."""
        first_x, weights_x = self.basis_1d(xy[:, 0], self.origin_x, self.columns)
        first_y, weights_y = self.basis_1d(xy[:, 1], self.origin_y, self.rows)
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
    """

    kind: str  # "shift", "affine" or "smooth"
    affine: Float64
    lattice: ControlLattice | None = None
    control: Float64 | None = None

    def at(self, xy: Float64) -> Float64:
        """Displacement (N, 2) float64 pixels at optical positions (N, 2)."""
        displacement = xy @ self.affine[:, :2].T + self.affine[:, 2] - xy
        if self.lattice is not None and self.control is not None:
            displacement = displacement + self.lattice.basis(xy) @ self.control.reshape(2, -1).T
        return displacement

    def displacement(self, x0: int, y0: int, width: int, height: int) -> npt.NDArray[np.float32]:
        """(2, height, width) float32 (dx, dy) at every pixel of a window of the optical grid."""
        x, y = np.arange(x0, x0 + width, dtype=float), np.arange(y0, y0 + height, dtype=float)
        linear = self.affine[:, :2] - np.eye(2)
        dense = (
            linear[:, 0, None, None] * x[None, None, :]
            + linear[:, 1, None, None] * y[None, :, None]
            + self.affine[:, 2, None, None]
        )
        if self.lattice is not None and self.control is not None:
            across = _dense_basis(
                *self.lattice.basis_1d(x, self.lattice.origin_x, self.lattice.columns),
                self.lattice.columns,
            )
            down = _dense_basis(
                *self.lattice.basis_1d(y, self.lattice.origin_y, self.lattice.rows),
                self.lattice.rows,
            )
            dense = dense + down @ self.control @ across.T
        return dense.astype(np.float32)

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
            arrays["lattice"] = np.array([lattice.origin_x, lattice.origin_y, lattice.spacing_px])
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
        return cls(kind, affine, ControlLattice(x, y, spacing, *control.shape[1:]), control)


def _difference(count: int, order: int) -> sparse.csr_matrix:
    matrix = np.diff(np.eye(count), n=order, axis=0)
    return sparse.csr_matrix(matrix)


def _dense_basis(first: npt.NDArray[np.int64], weights: Float64, count: int) -> Float64:
    dense = np.zeros((len(first), count))
    np.put_along_axis(dense, first[:, None] + np.arange(4), weights, axis=1)
    return dense
