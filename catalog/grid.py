"""The region's pixel lattice, and its division into shards and tiles.

The only place that knows how tiles, shards and slices of the store relate. Pixel coordinates are
(x, y) = (column, row) with pixel CENTRES at integers; windows are half-open ranges of pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from catalog.crs import (
    crs_code,
    default_resolution,
    is_torn_at_antimeridian,
    parse_crs,
    utm_crs,
)
from catalog.errors import ArgumentError
from catalog.longitudes import TURN, as_geojson_has_it, in_one_piece

LONLAT = "EPSG:4326"
# Longest edge, in degrees, of an outline before it is transformed: a hundredth of a degree of a
# parallel bends by some centimetres in UTM, far below a pixel.
OUTLINE_STEP_DEGREES = 0.01
# More pixels than this is a typing error in the bounding box or the resolution, not a region:
# 4e10 pixels are 2 000 km by 2 000 km at 10 m.
MAX_LATTICE_PIXELS = 4e10
# West is so much greater than east in a box across the antimeridian; else they were mixed up.
LEAST_CROSSING_DEGREES = 180.0
# infra/SCALE.md has the table this was chosen by.
SHARD_PX = 2048

BBox = tuple[float, float, float, float]
"""(west, south, east, north) in degrees of longitude and latitude; west is greater than east in a
box across the antimeridian."""


@dataclass(frozen=True)
class Window:
    """A rectangle of lattice pixels: rows [y0, y0 + height), columns [x0, x0 + width)."""

    y0: int
    x0: int
    height: int
    width: int

    @property
    def y1(self) -> int:
        """First row below the window."""
        return self.y0 + self.height

    @property
    def x1(self) -> int:
        """First column right of the window."""
        return self.x0 + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns), ready to index an (..., H, W) array of the whole lattice."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def expand(self, halo: int) -> Window:
        """The window grown by `halo` pixels on every side; it may leave the lattice."""
        return Window(self.y0 - halo, self.x0 - halo, self.height + 2 * halo, self.width + 2 * halo)

    def intersect(self, other: Window) -> Window | None:
        """The pixels both windows hold, or None when they share none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = min(self.y1, other.y1), min(self.x1, other.x1)
        return Window(y0, x0, y1 - y0, x1 - x0) if y0 < y1 and x0 < x1 else None

    def clip(self, shape: tuple[int, int]) -> Window | None:
        """The part inside an array of `shape` (height, width), or None when there is none."""
        return self.intersect(Window(0, 0, *shape))

    def cut(self, array: Any, fill: float) -> NDArray[Any]:
        """These pixels of an (H, W) array, NumPy's or Zarr's; `fill` where they leave it."""
        pixels = np.full(self.shape, fill, array.dtype)
        if inside := self.clip(array.shape):
            place = Window(inside.y0 - self.y0, inside.x0 - self.x0, *inside.shape)
            pixels[place.slices] = np.asarray(array[inside.slices])
        return pixels

    def positions(self) -> NDArray[np.float64]:
        """The lattice pixel coordinates of every pixel: float64 (2, H, W), (x, y) first."""
        x = np.arange(self.x0, self.x1, dtype=np.float64)
        y = np.arange(self.y0, self.y1, dtype=np.float64)
        return np.stack(np.meshgrid(x, y))


@dataclass(frozen=True)
class Shard:
    """One write unit of the store: its place among the shards, and its pixels."""

    row: int
    col: int
    window: Window


@dataclass(frozen=True)
class Lattice:
    """The pixels of a region: a north-up grid in one CRS, divided into shards.

    A shard is what one task writes and what a reader fetches. Shards on the right and lower edge
    are cut off by the lattice.
    """

    geobox: GeoBox
    shard_px: int = SHARD_PX

    def __post_init__(self) -> None:
        if self.shard_px < 1:
            raise ArgumentError(
                f"shard_px must be a number of pixels, not {self.shard_px}", argument="shard_px"
            )

    @property
    def crs(self) -> pyproj.CRS:
        """The coordinate reference system of the grid."""
        assert self.geobox.crs is not None
        return self.geobox.crs.proj

    @property
    def crs_code(self) -> str | None:
        """The CRS as "AUTHORITY:CODE", None where it has no code."""
        return crs_code(self.crs)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])

    @property
    def window(self) -> Window:
        """The whole lattice as one window."""
        return Window(0, 0, *self.shape)

    @property
    def resolution(self) -> float:
        """Side of a pixel in CRS units."""
        return float(self.geobox.affine.a)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Pixel-CORNER transform (a, b, c, d, e, f), as rasterio and STAC's proj:transform."""
        affine = self.geobox.affine
        return affine.a, affine.b, affine.c, affine.d, affine.e, affine.f

    def centres(self, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """CRS x of a window's columns, float64 (W,) rising, and y of its rows, (H,) falling."""
        a, _, c, _, e, f = self.transform
        # Counted from the CRS origin, not from this lattice's corner: lattices that share pixels
        # get bit-equal coordinates for them, and xarray aligns coordinates by equality.
        column, row = round(c / a) + window.x0, round(f / e) + window.y0
        columns = np.arange(column, column + window.width, dtype=np.float64)
        rows = np.arange(row, row + window.height, dtype=np.float64)
        return (columns + 0.5) * a, (rows + 0.5) * e

    def shards(self) -> tuple[Shard, ...]:
        """All shards, row by row. They cover every pixel exactly once."""
        return tuple(
            Shard(window.y0 // self.shard_px, window.x0 // self.shard_px, window)
            for window in self.tiles(self.shard_px)
        )

    def tiles(self, tile_px: int) -> tuple[Window, ...]:
        """Windows of `tile_px` pixels (less at the far edges) that cover every pixel once."""
        height, width = self.shape
        return tuple(
            Window(y0, x0, min(tile_px, height - y0), min(tile_px, width - x0))
            for y0 in range(0, height, tile_px)
            for x0 in range(0, width, tile_px)
        )

    def window_geobox(self, window: Window) -> GeoBox:
        """The grid of one window; the window may leave the lattice."""
        a, _, c, _, e, f = self.transform
        affine = Affine(a, 0.0, c + a * window.x0, 0.0, e, f + e * window.y0)
        return GeoBox(window.shape, affine, self.crs)

    def window_of(self, geometry: BaseGeometry) -> Window | None:
        """Smallest window holding every lattice pixel that a lon/lat geometry touches.

        None when the geometry shares no area with the lattice.
        """
        height, width = self.shape
        # Outlines are in pixel centres, so pixel i spans [i - 0.5, i + 0.5].
        extent = shapely.box(-0.5, -0.5, width - 0.5, height - 0.5)
        inside = self.outline_of(geometry).intersection(extent)
        if inside.area <= 0:
            return None
        left, top, right, bottom = inside.bounds
        x0, y0 = math.floor(left + 0.5), math.floor(top + 0.5)
        x1, y1 = math.ceil(right + 0.5), math.ceil(bottom + 0.5)
        return Window(y0, x0, y1 - y0, x1 - x0).clip(self.shape)

    def mask_of(self, geometry: BaseGeometry, window: Window) -> NDArray[np.bool_]:
        """Which pixels of `window` have their centre in a lon/lat geometry: bool (H, W)."""
        outline = shapely.transform(
            self.outline_of(geometry), lambda xy: xy + 0.5 - (window.x0, window.y0)
        )
        if outline.is_empty:
            return np.zeros(window.shape, dtype=bool)
        inside: NDArray[np.bool_] = geometry_mask(
            [outline], window.shape, Affine.identity(), invert=True
        )
        return inside

    def crs_from_px(self, xy_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """CRS coordinates (2, ...) of lattice pixel coordinates (2, ...)."""
        a, _, c, _, e, f = self.transform
        return np.stack([a * (xy_px[0] + 0.5) + c, e * (xy_px[1] + 0.5) + f])

    def px_from_crs(self, xy_crs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lattice pixel coordinates (2, ...) of CRS coordinates (2, ...)."""
        a, _, c, _, e, f = self.transform
        return np.stack([(xy_crs[0] - c) / a - 0.5, (xy_crs[1] - f) / e - 0.5])

    def px_from_lonlat(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lattice pixel coordinates (2, ...) of longitudes and latitudes (2, ...), degrees."""
        to_crs = pyproj.Transformer.from_crs(LONLAT, self.crs, always_xy=True)
        return self.px_from_crs(np.stack(to_crs.transform(lonlat[0], lonlat[1])))

    def outline_of(self, geometry: BaseGeometry) -> BaseGeometry:
        """A lon/lat geometry in lattice pixel coordinates; it may leave the lattice."""
        dense = shapely.segmentize(geometry, OUTLINE_STEP_DEGREES)
        return shapely.transform(dense, lambda lonlat: self.px_from_lonlat(lonlat.T).T)

    def lonlat_extent(self) -> BaseGeometry:
        """The lattice's outline as a lon/lat polygon, in one piece across the antimeridian."""
        height, width = self.shape
        corners = np.array([[0, 0], [0, height], [width, height], [width, 0], [0, 0]]) - 0.5
        outline = shapely.segmentize(shapely.Polygon(corners), max(self.shape) / 64)
        to_lonlat = pyproj.Transformer.from_crs(self.crs, LONLAT, always_xy=True)
        return in_one_piece(
            shapely.transform(
                outline, lambda xy: np.stack(to_lonlat.transform(*self.crs_from_px(xy.T)), axis=1)
            )
        )

    def fingerprint(self) -> dict[str, Any]:
        """What determines the lattice, in plain JSON values: equal lattices, equal dicts."""
        return {
            "crs": self.crs_code or self.crs.to_wkt(),
            "transform": [float(value) for value in self.transform],
            "shape": list(self.shape),
            "shard_px": self.shard_px,
        }


def lattice_for(
    bbox: BBox,
    crs: str | None = None,
    resolution: float | None = None,
    shard_px: int = SHARD_PX,
) -> Lattice:
    """The lattice that covers a region.

    `crs` is anything PROJ knows; None takes the UTM zone of the region's centre. `resolution` is
    in CRS units; None is ten metres, in a CRS that counts metres. The origin is a multiple of the
    resolution, so that neighbouring regions of one CRS share their pixels.

    Raises ArgumentError when the box, the CRS or the resolution is unusable.
    """
    west, south, east, north = validated_bbox(bbox)
    target = utm_crs(west, south, east, north) if crs is None else parse_crs(crs)
    if west > east and is_torn_at_antimeridian(target, (south + north) / 2):
        raise ArgumentError(
            f"crs {crs} ({target.name}) is torn at the antimeridian, which bbox {list(bbox)} "
            "crosses; leave the crs out, or choose one that goes on there",
            argument="crs",
        )
    if resolution is None:
        resolution = default_resolution(target)
    if not (math.isfinite(resolution) and resolution > 0):
        raise ArgumentError(
            f"resolution must be a positive number of CRS units, not {resolution}",
            argument="resolution",
        )
    to_crs = pyproj.Transformer.from_crs(LONLAT, target, always_xy=True)
    bounds = to_crs.transform_bounds(*region_outline(bbox).bounds, densify_pts=64)
    if not all(math.isfinite(value) for value in bounds):
        raise ArgumentError(
            f"bbox {list(bbox)} cannot be expressed in {target.name}; choose another crs",
            argument="crs",
        )
    left, bottom, right, top = (value / resolution for value in bounds)
    # Bounds that are multiples already must not gain a pixel to the noise of the projection.
    col0, col1 = math.floor(left + 1e-6), math.ceil(right - 1e-6)
    row0, row1 = math.floor(bottom + 1e-6), math.ceil(top - 1e-6)
    height, width = max(1, row1 - row0), max(1, col1 - col0)
    if height * width > MAX_LATTICE_PIXELS:
        raise ArgumentError(
            f"bbox {list(bbox)} at resolution {resolution} is {width} x {height} pixels, more "
            f"than a region can hold; use a smaller bbox or a coarser resolution "
            f"(in units of {target.name})",
            argument="resolution",
        )
    affine = Affine(resolution, 0.0, col0 * resolution, 0.0, -resolution, row1 * resolution)
    return Lattice(GeoBox((height, width), affine, target), shard_px)


def region_outline(bbox: BBox) -> BaseGeometry:
    """A box as a lon/lat polygon; across the antimeridian its longitudes go beyond 180.

    Raises ArgumentError for a box that is none.
    """
    west, south, east, north = validated_bbox(bbox)
    return shapely.box(west, south, east if west < east else east + TURN, north)


def widened_bbox(bbox: BBox, degrees: float) -> BBox:
    """A box with so much around it, but for what would reach over a pole or around the world."""
    west, south, east, north = region_outline(bbox).bounds
    west, east = west - degrees, east + degrees
    south, north = max(south - degrees, -90.0), min(north + degrees, 90.0)
    if east - west > TURN - LEAST_CROSSING_DEGREES:
        return max(west, -180.0), south, min(east, 180.0), north
    return as_geojson_has_it(shapely.box(west, south, east, north))[1]


def validated_bbox(bbox: BBox) -> BBox:
    """The box itself, or an ArgumentError that says what is wrong with it."""
    if len(bbox) != 4 or not all(math.isfinite(value) for value in bbox):
        raise ArgumentError(
            f"bbox must be four numbers, west south east north, not {list(bbox)}", argument="bbox"
        )
    west, south, east, north = bbox
    if not (-180 <= west <= 180 and -180 <= east <= 180 and south >= -90 and north <= 90):
        raise ArgumentError(
            f"bbox {list(bbox)} leaves the world: longitudes go from -180 to 180, latitudes from "
            "-90 to 90, in the order west south east north",
            argument="bbox",
        )
    if west >= east and west - east < LEAST_CROSSING_DEGREES:
        raise ArgumentError(
            f"bbox west {west} must be less than east {east}, or, across the antimeridian, so much "
            "greater that the box spans less than half of the world",
            argument="bbox",
        )
    if south >= north:
        raise ArgumentError(f"bbox south {south} must be less than north {north}", argument="bbox")
    return west, south, east, north
