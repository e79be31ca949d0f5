"""Ground control points: where the pixels of a raster in radar geometry lie on the ground.

A Sentinel-1 GRD file has no CRS. It carries a grid of points, typically 10 lines by 21 columns,
each with longitude, latitude and the height the processor took for the ground there: one height for
a whole line. Between them goes a thin-plate spline of raster position over ground position, the
same one as GDAL's (`-tps`). An affine fit would be kilometres off.

The heights are interpolated by that same spline. Where they change from line to line the points
themselves move along range, by hundreds of metres; what the spline makes of that between the
points, it makes of the heights too, and `terrain` takes it out again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from shapely.geometry.base import BaseGeometry

from catalog.grid import LONLAT
from catalog.longitudes import longitudes_facing

if TYPE_CHECKING:
    from scipy.interpolate import RBFInterpolator

FEWEST_POINTS = 4
# Assets of one scene have one grid of points, but each file may round it differently: a decimetre.
SAME_POINT_DEGREES = 1e-6
EDGE_STEP_DEGREES = 0.05


@dataclass(frozen=True)
class GcpGrid:
    """The ground control points of a raster.

    `points` are (column, row, x, y, height): pixel CORNERS at integers, as GDAL counts them; x, y
    in `crs`, metres above the ellipsoid. Longitudes go on across the antimeridian.
    """

    crs: pyproj.CRS
    points: tuple[tuple[float, float, float, float, float], ...]
    shape: tuple[int, int]

    @cached_property
    def columns(self) -> NDArray[np.float64]:
        """(N,)"""
        return np.array([point[0] for point in self.points])

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """(N,)"""
        return np.array([point[1] for point in self.points])

    @cached_property
    def xy(self) -> NDArray[np.float64]:
        """(N, 2)"""
        return np.array([point[2:4] for point in self.points])

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """(N,) metres above the ellipsoid."""
        return np.array([point[4] for point in self.points])

    def near(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """CRS x of positions; longitudes are those around the points', not a turn away."""
        return longitudes_facing(x, self.points[0][2]) if self.crs.is_geographic else x

    def agrees_with(self, other: object) -> bool:
        """Whether two rasters have their pixels in the same places."""
        if not isinstance(other, GcpGrid) or self.shape != other.shape or self.crs != other.crs:
            return False
        mine, others = np.array(self.points), np.array(other.points)
        return mine.shape == others.shape and bool(
            np.allclose(mine[:, :2], others[:, :2], rtol=0, atol=1e-6)
            and np.allclose(mine[:, 2:4], others[:, 2:4], rtol=0, atol=SAME_POINT_DEGREES)
        )


def has_only_gcps(source: DatasetReader) -> bool:
    """Whether an open raster is placed by ground control points and by nothing else."""
    return source.crs is None and bool(source.gcps[0])


def gcp_grid_of(source: DatasetReader) -> GcpGrid:
    """The control points of an open raster that `has_only_gcps` and no `gcp_fault`."""
    points, crs = source.gcps
    told = tuple((p.col, p.row, p.x, p.y, 0.0 if p.z is None else float(p.z)) for p in points)
    grid = GcpGrid(pyproj.CRS.from_wkt(crs.to_wkt()), told, source.shape)
    x = grid.near(grid.xy[:, 0]).tolist()
    whole = tuple((col, row, x[n], y, z) for n, (col, row, _, y, z) in enumerate(told))
    return replace(grid, points=whole)


def gcp_fault(source: DatasetReader) -> str | None:
    """Why a raster cannot be geocoded from its control points, None when it can."""
    if source.gcps[1] is None:
        return "has ground control points without a coordinate reference system"
    grid = gcp_grid_of(source)
    if not np.isfinite(np.array(grid.points)).all():
        return "has ground control points that are not finite"
    # Beside the spline's own condition, points on one line say nothing of what lies beside it.
    plane = np.column_stack([np.ones(len(grid.points)), grid.xy - grid.xy.mean(axis=0)])
    distinct = len(np.unique(grid.xy, axis=0)) == len(grid.points)
    if len(grid.points) < FEWEST_POINTS or not distinct or np.linalg.matrix_rank(plane) < 3:
        return (
            f"has {len(grid.points)} ground control points, which span no surface (at least "
            f"{FEWEST_POINTS} distinct ones, not on one line, are needed)"
        )
    if grid.crs.is_geographic:
        longitude, latitude = grid.xy.T
        if np.ptp(longitude) > 180:
            return "has ground control points around a pole, which is not supported"
        if np.abs(latitude).max() > 90:
            return "has ground control points beyond the poles: longitude and latitude are swapped"
    return None


@lru_cache(maxsize=32)
def spline_of(grid: GcpGrid) -> RBFInterpolator:
    """The thin-plate spline from (N, 2) positions in the grid's CRS to (N, 3).

    Column and row, pixel CENTRES at integers, and the height the position is meant for, metres.
    """
    values = np.column_stack([grid.columns - 0.5, grid.rows - 0.5, grid.heights])
    return spline_through(grid.xy, values)


def spline_through(xy: NDArray[np.float64], values: NDArray[np.float64]) -> RBFInterpolator:
    """The thin-plate spline that takes values (N, K) at positions (N, 2), with a linear trend."""
    from scipy.interpolate import RBFInterpolator  # slow to import, and few rasters need it

    return RBFInterpolator(xy, values, kernel="thin_plate_spline", degree=1)


def lonlat_of(grid: GcpGrid, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitude and latitude of pixel positions, both (2, N), corners at integers.

    Good to some metres: the other way round, the spline is another one.
    """
    places = np.column_stack([grid.columns, grid.rows])
    xy = spline_through(places, grid.xy)(pixels.T)
    to_lonlat = pyproj.Transformer.from_crs(grid.crs, LONLAT, always_xy=True)
    return np.stack(to_lonlat.transform(*xy.T))


def outline_of(grid: GcpGrid) -> BaseGeometry:
    """The raster's outline in longitude and latitude: a line through its outermost points."""
    top, bottom = grid.rows == grid.rows.min(), grid.rows == grid.rows.max()
    left, right = grid.columns == grid.columns.min(), grid.columns == grid.columns.max()
    edges = [
        grid.xy[edge][np.argsort(along[edge])][::step]
        for edge, along, step in (
            (top, grid.columns, 1), (right, grid.rows, 1),
            (bottom, grid.columns, -1), (left, grid.rows, -1),
        )
    ]  # fmt: skip
    ring = np.concatenate(edges)
    outline = shapely.Polygon(ring) if len(ring) > 3 else shapely.MultiPoint(grid.xy).convex_hull
    if not outline.is_valid:  # points that are no grid
        outline = shapely.MultiPoint(grid.xy).convex_hull
    to_lonlat = pyproj.Transformer.from_crs(grid.crs, LONLAT, always_xy=True)
    dense = shapely.segmentize(outline, EDGE_STEP_DEGREES) if grid.crs.is_geographic else outline
    moved: BaseGeometry = shapely.transform(
        dense, lambda xy: np.stack(to_lonlat.transform(*xy.T), axis=1)
    )
    return moved


def metres_per_column(grid: GcpGrid) -> float | None:
    """Ground distance of one column along a line of points, None when they are no such grid."""
    to_lonlat = pyproj.Transformer.from_crs(grid.crs, LONLAT, always_xy=True)
    longitude, latitude = to_lonlat.transform(*grid.xy.T)
    order = np.lexsort([grid.columns, grid.rows])
    same_line = np.diff(grid.rows[order]) == 0
    first, second = order[:-1][same_line], order[1:][same_line]
    if not first.size:
        return None
    geod = pyproj.Geod(ellps="WGS84")
    _, _, metres = geod.inv(longitude[first], latitude[first], longitude[second], latitude[second])
    return float(np.median(metres / (grid.columns[second] - grid.columns[first])))
