"""Where ground of known height shows in a radar image, and which of it cannot be seen there.

A `View` tells how the sensor sees positions of the lattice: by range-Doppler where the annotation
of the image is at hand, else by its control points and how far height moves a pixel between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from catalog.grid import LONLAT, Lattice, Window
from catalog.pixels.positions import interpolate, spline_mapping, window_around
from catalog.sentinel1.gcps import GcpGrid, spline_through
from catalog.sentinel1.geoid import Undulation
from catalog.sentinel1.range_doppler import RangeDoppler
from catalog.sentinel1.terrain import (
    REACH_PX,
    LookGeometry,
    angle_from_nadir,
    layover_or_shadow,
    range_shift,
)

Floats = NDArray[np.float64]
STRIP_ROWS = 256  # are placed at a time: a place has nine numbers meanwhile


@dataclass(frozen=True)
class View:
    """How a sensor sees ground."""

    seen: Callable[[Floats, Floats], Floats]
    """Of lattice positions (2, H, W) and heights (H, W), metres above the geoid: (3, H, W).

    Row, pixel centres at integers; range, about in pixels; and angle from nadir in radians.
    """
    columns: Callable[[Floats, Floats], Floats]
    """Of rows and ranges, all of one shape; pixel centres at integers."""


def range_doppler_from_lattice(
    lattice: Lattice, geometry: RangeDoppler, positions_xy: Floats
) -> Floats:
    """Raster pixel coordinates of lattice positions, both float64 (2, H, W), without a DEM.

    Of ground as high as the points of the annotation's grid, and between them.
    """
    lonlat_of = _lonlat_mapping(lattice)

    def exact(xy_px: Floats) -> Floats:
        longitude, latitude = lonlat_of(xy_px)
        line, slant_range, _ = geometry.view(
            longitude, latitude, geometry.heights(longitude, latitude)
        )
        return np.stack([line, slant_range / geometry.metres_per_column])

    lines, slant_range_px = interpolate(exact, positions_xy)
    return np.stack([_columns_of(geometry)(lines, slant_range_px), lines])


def view_by_range_doppler(lattice: Lattice, geometry: RangeDoppler, undulation: Undulation) -> View:
    """What the annotation tells: exact, and quadratic in height between three levels of it."""
    lonlat_of = _lonlat_mapping(lattice)

    def seen(positions_xy: Floats, height_m: Floats) -> Floats:
        low, high = height_m.min(), height_m.max()
        middle, half = (low + high) / 2, max((high - low) / 2, 1.0)

        def exact(xy_px: Floats) -> Floats:
            longitude, latitude = lonlat_of(xy_px)
            geoid_m = undulation(longitude, latitude)
            levels = (middle, middle - half, middle + half)
            told = [geometry.view(longitude, latitude, level + geoid_m) for level in levels]
            at_levels = np.concatenate(told)
            at_levels[1::3] /= geometry.metres_per_column
            return at_levels

        at, below, above = np.split(interpolate(exact, positions_xy), 3)
        rise = (height_m - middle) / half
        return np.asarray(at + rise * (above - below) / 2 + rise**2 * (above + below - 2 * at) / 2)

    def in_strips(positions_xy: Floats, height_m: Floats) -> Floats:
        starts = range(0, height_m.shape[0], STRIP_ROWS)
        strips = [
            seen(positions_xy[:, y : y + STRIP_ROWS], height_m[y : y + STRIP_ROWS]) for y in starts
        ]
        return np.concatenate(strips, axis=1)

    return View(in_strips, _columns_of(geometry))


def view_by_control_points(
    lattice: Lattice, grid: GcpGrid, look: LookGeometry, undulation: Undulation
) -> View:
    """What control points and the incidence at them tell."""
    lonlat_of = _lonlat_mapping(lattice)
    seen = np.column_stack([look.incidence_deg, look.slant_range_m])
    above_ellipsoid = spline_mapping(lattice, grid, spline_through(grid.xy, seen))

    def exact(xy_px: Floats) -> Floats:
        values = above_ellipsoid(xy_px)
        values[2] -= undulation(*lonlat_of(xy_px))  # heights above the geoid, as those given
        return values

    def shown(positions_xy: Floats, height_m: Floats) -> Floats:
        column, row, reference_m, incidence, slant_range = interpolate(exact, positions_xy)
        rise = height_m - reference_m
        shift = range_shift(rise, incidence, slant_range) / look.metres_per_column
        return np.stack([row, column - shift, angle_from_nadir(rise, incidence, slant_range)])

    return View(shown, lambda _, columns: columns)


def radar_from_lattice(
    view: View, heights: Callable[[Window], NDArray[np.float32]], positions_xy: Floats
) -> Floats:
    """Raster pixel coordinates of lattice positions, both float64 (2, H, W), relief and all.

    `heights` gives metres (h, w) above the geoid on a window of the lattice. NaN in layover and in
    shadow. Ground without a known height counts as sea level, where DEMs end.
    """
    around = window_around(positions_xy)
    if around is None:
        return np.full_like(positions_xy, np.nan)
    around = around.expand(REACH_PX)
    height_m = np.nan_to_num(heights(around).astype(np.float64))
    row, range_px, angle = view.seen(around.positions(), height_m)
    range_px[layover_or_shadow(row, range_px, angle)] = np.nan
    x, y = positions_xy
    inside = np.nan_to_num(np.stack([y - around.y0, x - around.x0]), nan=-9.0)
    rows, ranges = (map_coordinates(each, inside, order=1, cval=np.nan) for each in (row, range_px))
    placed = np.stack([view.columns(rows, ranges), rows])
    placed[:, ~np.isfinite(placed).all(axis=0)] = np.nan
    return placed


def _columns_of(geometry: RangeDoppler) -> Callable[[Floats, Floats], Floats]:
    """Columns of rows and slant ranges, these in pixels."""
    return lambda rows, ranges: geometry.columns(rows, ranges * geometry.metres_per_column)


def _lonlat_mapping(lattice: Lattice) -> Callable[[Floats], Floats]:
    """From lattice positions (2, H, W) to longitude and latitude."""
    to_lonlat = pyproj.Transformer.from_crs(lattice.crs, LONLAT, always_xy=True)

    def lonlat_of(xy_px: Floats) -> Floats:
        return np.stack(to_lonlat.transform(*lattice.crs_from_px(xy_px)))

    return lonlat_of
