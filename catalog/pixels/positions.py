"""Where positions of the lattice fall in a raster's own grid, whatever kind of grid that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from scipy.ndimage import map_coordinates

from catalog.errors import ArgumentError
from catalog.grid import Lattice, Window
from catalog.longitudes import longitudes_facing
from catalog.pixels.rasters import Crop, RasterGrid
from catalog.sentinel1.gcps import GcpGrid, gcp_grid_of, has_only_gcps, spline_of

if TYPE_CHECKING:
    from scipy.interpolate import RBFInterpolator

Floats = NDArray[np.float64]
# A smooth mapping is interpolated between nodes while that stays this exact.
MAPPING_TOLERANCE_PX = 0.01
MAPPING_STEPS_PX = (64, 16)
# Pixels around the positions on a raster, for the support of the caller's resampling kernel.
SOURCE_MARGIN_PX = 4

Grid = RasterGrid | GcpGrid


def grid_of(source: DatasetReader) -> Grid:
    """The pixel grid of an open raster, of whichever kind it is."""
    if has_only_gcps(source):
        return gcp_grid_of(source)
    return RasterGrid(pyproj.CRS.from_wkt(source.crs.to_wkt()), source.transform, source.shape)


def same_grid(first: Grid, other: Grid) -> bool:
    """Whether two rasters share their pixels."""
    return first.agrees_with(other) if isinstance(first, GcpGrid) else first == other


def raster_from_lattice(lattice: Lattice, grid: Grid, positions_xy: Floats) -> Floats:
    """Raster pixel coordinates of lattice pixel coordinates, both float64 (2, H, W).

    Of a raster with control points, for ground at the height of these.
    """
    if isinstance(grid, GcpGrid):
        return interpolate(spline_mapping(lattice, grid), positions_xy)[:2]
    same_crs = grid.crs.equals(lattice.crs, ignore_axis_order=True)
    project = pyproj.Transformer.from_crs(lattice.crs, grid.crs, always_xy=True)
    inverse = ~grid.transform
    middle, _ = grid.transform @ (grid.shape[1] / 2, grid.shape[0] / 2)

    def exact(xy_px: Floats) -> Floats:
        x, y = lattice.crs_from_px(xy_px)
        if not same_crs:
            x, y = project.transform(x, y)
        if grid.crs.is_geographic:
            x = longitudes_facing(x, middle)
        columns = inverse.a * x + inverse.b * y + inverse.c - 0.5
        rows = inverse.d * x + inverse.e * y + inverse.f - 0.5
        return np.stack([columns, rows])

    return exact(positions_xy) if same_crs else interpolate(exact, positions_xy)


def crop_around(raster_xy: Floats, shape: tuple[int, int]) -> Crop | None:
    """The part of a raster that positions (2, H, W) fall on, with its margin, or None."""
    height, width = shape
    x, y = raster_xy
    # NaN compares false: unknown positions are on no raster.
    on_raster = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if not on_raster.any():
        return None
    factor = _averaging_factor(raster_xy)
    margin = SOURCE_MARGIN_PX * factor
    x0 = max(0, int(np.floor(x[on_raster].min())) - margin)
    y0 = max(0, int(np.floor(y[on_raster].min())) - margin)
    x1 = min(width, int(np.ceil(x[on_raster].max())) + margin + 1)
    y1 = min(height, int(np.ceil(y[on_raster].max())) + margin + 1)
    # Rows and columns that do not fill a last averaged pixel are left out.
    crop = Crop(y0, x0, (y1 - y0) // factor, (x1 - x0) // factor, factor)
    return crop if crop.height and crop.width else None


def window_around(positions_xy: Floats) -> Window | None:
    """The smallest window that holds all known positions (2, H, W), None when none is known.

    Raises ArgumentError for infinite ones.
    """
    flat = positions_xy.reshape(2, -1)
    low, high = np.fmin.reduce(flat, axis=1), np.fmax.reduce(flat, axis=1)  # these pass over NaN
    if np.isinf([low, high]).any():
        raise ArgumentError("positions_xy has infinite values", argument="positions_xy")
    if np.isnan([low, high]).any():
        return None
    x0, y0 = np.floor(low).astype(int).tolist()
    x1, y1 = np.ceil(high).astype(int).tolist()
    return Window(y0, x0, y1 - y0 + 1, x1 - x0 + 1)


def spline_mapping(
    lattice: Lattice, grid: GcpGrid, *more: RBFInterpolator
) -> Callable[[Floats], Floats]:
    """The way from lattice positions to column, row and height of the control points.

    From (2, H, W) to (3, H, W), and after them what `more` splines through the points tell.
    """
    project = pyproj.Transformer.from_crs(lattice.crs, grid.crs, always_xy=True)
    splines = spline_of(grid), *more

    def exact(xy_px: Floats) -> Floats:
        x, y = project.transform(*lattice.crs_from_px(xy_px))
        ground = np.column_stack([np.ravel(grid.near(x)), np.ravel(y)])
        known: NDArray[np.bool_] = np.all(np.isfinite(ground), axis=1, keepdims=True)
        told = [spline(np.where(known, ground, grid.xy[0])) for spline in splines]
        values = np.concatenate(told, axis=1)
        values[~known[:, 0]] = np.nan
        return np.asarray(values.T.reshape(-1, *xy_px.shape[1:]))

    return exact


def interpolate(exact: Callable[[Floats], Floats], positions_xy: Floats) -> Floats:
    """A smooth mapping by bilinear interpolation between nodes, or exactly where that is off.

    `exact` takes (2, H, W) to (K, H, W); the first two are pixels, the others as smooth as they.
    """
    known = np.isfinite(positions_xy).all(axis=0)
    corner = np.fmin.reduce(positions_xy.reshape(2, -1), axis=1).reshape(2, 1, 1)
    x, y = np.where(known, positions_xy, corner) - corner
    for step in MAPPING_STEPS_PX:
        cells_x, cells_y = (int(axis.max() // step) + 1 for axis in (x, y))
        if 4 * cells_x * cells_y >= x.size:
            break  # no cheaper than mapping every position
        # Nodes, and between them the middles of the cells' edges to judge by.
        halves_x, halves_y = (step / 2 * np.arange(2 * cells + 1) for cells in (cells_x, cells_y))
        halves = exact(corner + np.stack(np.meshgrid(halves_x, halves_y)))
        if _bilinear_error(halves[:2]) <= MAPPING_TOLERANCE_PX:  # false for NaN: off the projection
            mapped = _between(halves[:, ::2, ::2], y / step, x / step)
            mapped[:, ~known] = np.nan
            return mapped
    mapped = exact(positions_xy)
    mapped[:, ~np.isfinite(mapped).all(axis=0)] = np.nan
    return mapped


def _between(nodes: Floats, y: Floats, x: Floats) -> Floats:
    """Values (K, h, w) between nodes, bilinear, at rows and columns of them: (K, H, W)."""
    if not ((y == y[:, :1]).all() and (x == x[:1]).all()):
        return np.stack([map_coordinates(each, np.stack([y, x]), order=1) for each in nodes])
    # Of whole windows, axis by axis: a third of the time.
    along_y, along_x = (
        np.maximum(0.0, 1.0 - np.abs(np.subtract.outer(at, np.arange(count))))
        for at, count in zip((y[:, 0], x[0]), nodes.shape[1:], strict=True)
    )
    return np.asarray(along_y @ nodes @ along_x.T)


def _bilinear_error(halves: Floats) -> float:
    """Bound on the error of interpolating between every other node of a (2, H, W) mapping.

    Measured on the edges of the cells and not in their middles: between conformal projections the
    curvatures along x and y are opposite, and cancel there.
    """
    nodes = halves[:, ::2, ::2]
    along_x = halves[:, ::2, 1::2] - (nodes[:, :, :-1] + nodes[:, :, 1:]) / 2
    along_y = halves[:, 1::2, ::2] - (nodes[:, :-1, :] + nodes[:, 1:, :]) / 2
    return float(np.abs(along_x).max() + np.abs(along_y).max())


def _averaging_factor(raster_xy: Floats) -> int:
    """How many raster pixels go into one lattice pixel along a side, rounded down, at least 1."""
    every = 64  # the scale changes slowly: some rows and columns tell it
    along_x = np.hypot(*np.diff(raster_xy[:, ::every, :], axis=2))
    along_y = np.hypot(*np.diff(raster_xy[:, :, ::every], axis=1))
    steps = np.concatenate([along_x.ravel(), along_y.ravel()])
    known = steps[np.isfinite(steps)]
    return max(1, int(np.median(known) + 0.01)) if known.size else 1
