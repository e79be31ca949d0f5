"""What one day knows of a displacement, node by node: value and error, or nothing.

Nodes lie on a fixed lattice of the region, so what several days know can be laid side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tar_engine.fields.field import MARGIN, ControlLattice, Field
from tar_engine.fields.matches import Matches

Float64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

MATCH_SPACING_PX = 16.0  # of the engine's matches
NODE_PX = 24.0  # between nodes; the smooth field's control points lie as far apart
REACH_NODES = 1.4  # sigma of the neighbourhood that tells a node something: the windows' own width
SEEN_SHARE = 0.2  # of the matches that a neighbourhood can hold; with fewer nothing is known there
FAR_PX = 4.0  # an unseen residual beyond that counts as that
RESIDUAL_FACTOR = 0.5  # error over the residual of unseen matches, at full confidence
ERROR_FLOOR_PX = 0.2  # of what the matches of a place share on every day, so that none can tell
FULL_CONFIDENCE = 0.1  # mean over a neighbourhood's matches; more does not lessen the error much
LARGEST_ERROR_PX = 4.0  # of ground that was looked at


@dataclass(frozen=True)
class NodeGrid:
    """Node (i, j) lies at x = j * NODE_PX, y = i * NODE_PX of a region's lattice, pixels."""

    rows: int
    columns: int

    @classmethod
    def over(cls, width: int, height: int) -> NodeGrid:
        """The nodes of a lattice of that size: the last ones lie at its far edge or beyond."""
        rows, columns = (1 + math.ceil((side - 1) / NODE_PX) for side in (height, width))
        return cls(rows, columns)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def xy(self) -> Float64:
        """(rows * columns, 2) positions, row by row."""
        y, x = np.indices(self.shape) * NODE_PX
        return np.stack([x.ravel(), y.ravel()], axis=1)

    def count(self, xy: Float64, weight: Float64) -> Float64:
        """(rows, columns) weight (N,) in the neighbourhood of each node, per match it can hold."""
        column, row = np.rint(xy / NODE_PX).astype(np.int64).T
        inside = (row >= 0) & (row < self.rows) & (column >= 0) & (column < self.columns)
        place = row[inside] * self.columns + column[inside]
        binned = np.bincount(place, weight[inside], self.rows * self.columns).astype(np.float64)
        full = (NODE_PX / MATCH_SPACING_PX) ** 2
        return np.asarray(smooth(binned.reshape(self.shape)) / full, np.float64)

    def at(self, values: Floats, xy: Float64) -> Float64:
        """Values (rows, columns) at positions (N, 2), bilinear; beyond the nodes, the nearest."""
        places = xy.T[::-1] / NODE_PX
        return np.asarray(ndimage.map_coordinates(values, places, order=1, mode="nearest"))


@dataclass(frozen=True)
class NodeMap:
    """Values (rows, columns) on nodes of a region's lattice, or on some of its rows and columns."""

    values: Floats
    first_row: int = 0
    first_column: int = 0

    def on_window(self, x0: int, y0: int, width: int, height: int) -> Floats:
        """At every pixel of a window, (height, width), bilinear; beyond the nodes, the nearest."""
        rows = np.arange(y0, y0 + height) / NODE_PX - self.first_row
        columns = np.arange(x0, x0 + width) / NODE_PX - self.first_column
        places = np.meshgrid(rows, columns, indexing="ij")
        return np.asarray(ndimage.map_coordinates(self.values, places, order=1, mode="nearest"))

    def within(self, x0: int, y0: int, width: int, height: int) -> NodeMap:
        """No more of them than a window needs; anywhere in it the same, to the bit.

        The window begins at no less than 0, and meets the nodes.
        """
        rows = _nodes_around(y0 / NODE_PX - self.first_row, height)
        columns = _nodes_around(x0 / NODE_PX - self.first_column, width)
        values = np.ascontiguousarray(self.values[rows, columns])
        return NodeMap(values, self.first_row + rows.start, self.first_column + columns.start)


@dataclass(frozen=True)
class NodeField:
    """A displacement on nodes.

    displacement: (2, rows, columns) float64, SAR position minus optical position, pixels; NaN where
    nothing is known. error: (rows, columns) float64, one sigma of its length, pixels, NaN likewise.
    """

    displacement: Float64
    error: Float64

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(rows, columns) where something is known."""
        return np.isfinite(self.error)

    @property
    def grid(self) -> NodeGrid:
        return NodeGrid(*self.error.shape)

    def moved(self, affine: Float64) -> NodeField:
        """Less what an affine displacement (2, 3) says at each node."""
        return NodeField(self.displacement - affine_at(affine, self.grid), self.error)


def expected_error(error: Float64) -> npt.NDArray[np.float32]:
    """What is stated of one sigma (rows, columns): what all matches may share is added to it."""
    return np.hypot(error, ERROR_FLOOR_PX).astype(np.float32)


def smooth(values: Float64) -> Float64:
    """A Gaussian mean over nodes (…, rows, columns); beyond the edges there is nothing."""
    sigma = (0,) * (values.ndim - 2) + (REACH_NODES, REACH_NODES)
    return np.asarray(ndimage.gaussian_filter(values, sigma, mode="constant"), np.float64)


def measure_nodes(field: Field, matches: Matches, unseen_px: Float64, grid: NodeGrid) -> NodeField:
    """What a day's matches, and the field fitted to them, tell of each node.

    `unseen_px` (N,) is that of the day's `Fit`. The error falls with the residuals of the matches
    around a node and with their confidence; where no match was tried, nothing is known.
    """
    tried = np.isfinite(matches.error_px) & np.isfinite(unseen_px)
    xy, confidence = matches.optical_xy[tried], matches.confidence[tried]
    residual_px = np.minimum(unseen_px[tried], FAR_PX)
    seen = grid.count(xy, np.ones(len(xy)))
    trust = grid.count(xy, confidence)
    squares = grid.count(xy, confidence * residual_px**2)
    mean_square = (squares + 1e-9) / (trust + 1e-9)
    # A neighbourhood at the edge of what was seen holds fewer matches, and knows less.
    error = RESIDUAL_FACTOR * np.sqrt(mean_square * FULL_CONFIDENCE / np.maximum(trust, 1e-6))
    error = np.minimum(error, LARGEST_ERROR_PX)
    error[seen < SEEN_SHARE] = np.nan
    displacement = field.at(grid.xy).T.reshape(2, *grid.shape)
    return NodeField(np.where(np.isfinite(error), displacement, np.nan), error)


def field_through(displacement: Float64) -> Field:
    """The cubic spline through a displacement (2, rows, columns) known at every node."""
    control = np.stack(
        [ndimage.spline_filter(each, order=3, mode="mirror") for each in displacement]
    )
    control = np.pad(control, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="reflect")
    lattice = ControlLattice(-MARGIN, -MARGIN, NODE_PX, *control.shape[1:])
    return Field("smooth", np.eye(2, 3), lattice, control)


def extended(values: Float64, known: npt.NDArray[np.bool_]) -> Float64:
    """(…, rows, columns) with what is known continued smoothly to where nothing is."""
    if known.all() or not known.any():
        return values
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = values[..., nearest[0], nearest[1]]
    return np.where(known, values, smooth_nearest(filled))


def smooth_nearest(values: Float64) -> Float64:
    """A Gaussian mean over nodes that repeats the edge."""
    sigma = (0,) * (values.ndim - 2) + (REACH_NODES, REACH_NODES)
    return np.asarray(ndimage.gaussian_filter(values, sigma, mode="nearest"), np.float64)


def _nodes_around(first: float, size_px: int) -> slice:
    """The nodes along one axis that pixels from `first` (in nodes) on lie between."""
    return slice(math.floor(first), math.floor(first + (size_px - 1) / NODE_PX) + 2)


def affine_at(affine: Float64, grid: NodeGrid) -> Float64:
    """(2, rows, columns) of an affine displacement (2, 3): linear part times (x, y), plus shift."""
    moved: Float64 = grid.xy @ affine[:, :2].T + affine[:, 2]
    return moved.T.reshape(2, *grid.shape)
