"""Sentinel-1 GRD files made from first principles, so that the truth about them is known.

A satellite on a circle looks to its right at an ellipsoid with relief. A point of the ground shows
in the line in which the satellite is abeam of it, at the column of its slant range; nothing here
knows of incidence angles over tangents, splines or affines. Columns are spaced ten metres on a
sphere through the centre, as ground range products are, and control points lie on a grid of whole
lines and columns, each line with one height: the mean of the ground along it.

Pixel coordinates are GDAL's: corners at integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.windows import Window as RasterWindow

from catalog.grid import LONLAT, Lattice

Floats = NDArray[np.float64]
Relief = Callable[[Floats, Floats], Floats]
"""Height above the ellipsoid, metres, of longitude and latitude."""

LONGITUDE, LATITUDE = 10.4, 46.6  # of the centre
SPACING_M = 10.0
LINE_S = 0.0015  # between lines
A, E2 = 6_378_137.0, 6.694379990141e-3  # of the WGS84 ellipsoid
M_PER_DEGREE = 111_200.0


def flat(longitude: Floats, _: Floats) -> Floats:
    """A plain."""
    return np.full_like(longitude, 412.0)


def mountains(longitude: Floats, latitude: Floats) -> Floats:
    """Relief of 1500 m within nine kilometres, none too steep to be seen; rougher close up."""
    north = (latitude - LATITUDE) * M_PER_DEGREE
    east = (longitude - LONGITUDE) * M_PER_DEGREE * np.cos(np.radians(LATITUDE))

    def wave(metres: Floats, length_m: float) -> Floats:
        return np.sin(2 * np.pi * metres / length_m)

    rough = 15 * wave(east + 0.3 * north, 800) * wave(north, 900)
    valleys = 150 * wave(north, 70_000)
    return 900 + 750 * wave(east, 9_000) * wave(north + 2_000, 9_500) + rough + valleys


def ridges(longitude: Floats, latitude: Floats) -> Floats:
    """The same relief, but broad: ground is tens of pixels off, its neighbours nearly as far."""
    north = (latitude - LATITUDE) * M_PER_DEGREE
    east = (longitude - LONGITUDE) * M_PER_DEGREE * np.cos(np.radians(LATITUDE))
    broad = np.sin(2 * np.pi * (east + 3_000) / 24_000) * np.sin(
        2 * np.pi * (north + 6_000) / 26_000
    )
    return 900 + 750 * broad + 15 * np.sin(2 * np.pi * east / 800)


def plateau(step_m: float) -> Relief:
    """A plain with a cliff along the track, up towards the east: layover from one side."""

    def relief(longitude: Floats, _: Floats) -> Floats:
        east = (longitude - LONGITUDE) * M_PER_DEGREE * np.cos(np.radians(LATITUDE))
        return 300 + step_m * np.clip(east / 400, 0, 1)

    return relief


@dataclass(frozen=True)
class Radar:
    """A pass and the image it leaves: an IW scene of full size, unless told otherwise."""

    relief: Relief
    shape: tuple[int, int] = (16_700, 25_400)
    points: tuple[int, int] = (10, 21)
    heading_deg: float = 348.0
    incidence_deg: float = 39.0  # at the centre
    altitude_m: float = 700_000.0

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """Rows: from the Earth's centre to the satellite abeam of the scene's; along its way."""
        up, ahead, right = self._frame
        angle = np.radians(self.incidence_deg)
        away = angle - np.arcsin(self._ground_m / self._orbit_m * np.sin(angle))
        return np.stack([np.cos(away) * up - np.sin(away) * right, ahead])

    @cached_property
    def radians_per_line(self) -> float:
        """Of the orbit: ten metres on the ground at the centre."""
        abeam = float(self._frame[0] @ self.axes[0])
        return SPACING_M / (self._ground_m * abeam)

    def image_xy(self, longitude: Floats, latitude: Floats, height_m: Floats) -> Floats:
        """Where ground shows: (2, ...) column and row."""
        place = ecef(longitude, latitude, height_m)
        along, slant_range = self._abeam(place)
        column = np.interp(slant_range, self._slant_ranges, self._columns)
        return np.stack([column, along / self.radians_per_line + self.shape[0] / 2])

    def ground(self, column: Floats, row: Floats, height_m: Floats) -> tuple[Floats, Floats]:
        """Longitude and latitude of what shows at a pixel, if it has this height."""
        longitude = np.full_like(column, LONGITUDE)
        latitude = np.full_like(column, LATITUDE)
        step = 1e-4
        for _ in range(12):
            here = self.image_xy(longitude, latitude, height_m)
            east = (self.image_xy(longitude + step, latitude, height_m) - here) / step
            north = (self.image_xy(longitude, latitude + step, height_m) - here) / step
            missing = np.stack([column, row]) - here
            whole = east[0] * north[1] - east[1] * north[0]
            longitude = longitude + (missing[0] * north[1] - missing[1] * north[0]) / whole
            latitude = latitude + (east[0] * missing[1] - east[1] * missing[0]) / whole
        assert np.abs(missing).max() < 1e-5
        return longitude, latitude

    @cached_property
    def control_points(self) -> list[GroundControlPoint]:
        """The grid that the processor writes, with the mean height of each line."""
        rows = np.round(np.linspace(0, self.shape[0] - 1, self.points[0]))
        columns = np.round(np.linspace(0, self.shape[1] - 1, self.points[1]))
        found = []
        for row in rows:
            along = np.linspace(0, self.shape[1], 400)
            height = 0.0
            for _ in range(3):
                there = self.ground(along, np.full_like(along, row), np.full_like(along, height))
                height = float(self.relief(*there).mean())
            lonlat = self.ground(columns, np.full_like(columns, row), np.full_like(columns, height))
            found += [
                GroundControlPoint(row, column, x, y, height)
                for column, x, y in zip(columns, *lonlat, strict=True)
            ]
        return found

    def look(self, longitude: Floats, latitude: Floats, height_m: Floats) -> tuple[Floats, Floats]:
        """Incidence in degrees at a place, and its slant range."""
        place = ecef(longitude, latitude, height_m)
        along, slant_range = self._abeam(place)
        to_sensor = (self._satellite(along) - place) / slant_range
        lon, lat = np.radians(longitude), np.radians(latitude)
        up = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        return np.degrees(np.arccos((up * to_sensor).sum(axis=0))), slant_range

    def states(self, seconds: Floats) -> tuple[Floats, Floats]:
        """Positions and velocities (N, 3) of the satellite, seconds from the middle of line 0."""
        line = seconds / LINE_S + 0.5 - self.shape[0] / 2
        start, ahead = self.axes
        along = (line * self.radians_per_line)[:, None]
        speed = self.radians_per_line / LINE_S
        return (
            self._orbit_m * (np.cos(along) * start + np.sin(along) * ahead),
            self._orbit_m * speed * (np.cos(along) * ahead - np.sin(along) * start),
        )

    @cached_property
    def ground_to_slant(self) -> str:
        """Coefficients of slant range in ground range, metres from the middle of column 0."""
        ground = (self._columns[::50] - 0.5) * SPACING_M
        fitted = np.polynomial.Polynomial.fit(ground, self._slant_ranges[::50], 8)
        assert np.abs(fitted(ground) - self._slant_ranges[::50]).max() < 0.01
        return " ".join(f"{number:.17e}" for number in fitted.convert().coef)

    @cached_property
    def _frame(self) -> NDArray[np.float64]:
        """Up, ahead and to the right at the centre, as rows."""
        lon, lat, heading = np.radians([LONGITUDE, LATITUDE, self.heading_deg])
        place = ecef(np.array(LONGITUDE), np.array(LATITUDE), np.array(0.0))
        up = place / np.linalg.norm(place)
        east = np.array([-np.sin(lon), np.cos(lon), 0.0])
        north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
        ahead = np.cos(heading) * north + np.sin(heading) * east
        ahead -= (ahead @ up) * up
        ahead /= np.linalg.norm(ahead)
        return np.stack([up, ahead, np.cross(ahead, up)])

    @cached_property
    def _ground_m(self) -> float:
        return float(np.linalg.norm(ecef(np.array(LONGITUDE), np.array(LATITUDE), np.array(0.0))))

    @property
    def _orbit_m(self) -> float:
        return self._ground_m + self.altitude_m

    def _satellite(self, along: Floats) -> Floats:
        start, ahead = (axis.reshape(3, *[1] * along.ndim) for axis in self.axes)
        return self._orbit_m * (np.cos(along) * start + np.sin(along) * ahead)

    def _abeam(self, place: Floats) -> tuple[Floats, Floats]:
        """Angle along the orbit at which the satellite is abeam of places, and the distance."""
        start, ahead = (np.tensordot(axis, place, axes=1) for axis in self.axes)
        along = np.arctan2(ahead, start)
        return along, np.linalg.norm(self._satellite(along) - place, axis=0)

    @cached_property
    def _columns(self) -> Floats:
        reach = self.shape[1] / 2 + 2_000
        return np.arange(-reach, reach, 5.0) + self.shape[1] / 2

    @cached_property
    def _slant_ranges(self) -> Floats:
        """Of `_columns`, on the sphere through the centre."""
        up, _, right = self._frame
        angle = (self._columns - self.shape[1] / 2) * SPACING_M / self._ground_m
        place = self._ground_m * (np.outer(up, np.cos(angle)) + np.outer(right, np.sin(angle)))
        return np.linalg.norm(place - self._satellite(np.zeros(1)), axis=0)


def ecef(longitude: Floats, latitude: Floats, height_m: Floats) -> Floats:
    """Earth-centred coordinates (3, ...), metres."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    across = A / np.sqrt(1 - E2 * np.sin(lat) ** 2)
    ring = (across + height_m) * np.cos(lat)
    return np.stack(
        [ring * np.cos(lon), ring * np.sin(lon), (across * (1 - E2) + height_m) * np.sin(lat)]
    )


def write_grd(
    path: Path,
    radar: Radar,
    values: NDArray[Any],
    corner: tuple[int, int] = (0, 0),
    points: Sequence[GroundControlPoint] | None = None,
) -> Path:
    """A file as the archives have it: no CRS, control points, zeros around `values` (bands, h, w).

    `corner` is the column and row of the first value. What is not written takes no space.
    """
    bands, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=radar.shape[0], width=radar.shape[1],
        dtype=values.dtype, tiled=True, blockxsize=512, blockysize=512, compress="deflate",
        sparse_ok=True, crs="EPSG:4326", gcps=list(points or radar.control_points),
    ) as target:  # fmt: skip
        target.write(values, window=RasterWindow(*corner, width, height))
    return path


def write_dem(path: Path, relief: Relief, box: tuple[float, float, float, float]) -> Path:
    """A DEM with the pixels of Copernicus GLO-30: one arc second, heights at pixel centres."""
    west, south, east, north = box
    step = 1 / 3600
    longitude = np.arange(west + step / 2, east, step)
    latitude = np.arange(north - step / 2, south, -step)
    heights = relief(*np.meshgrid(longitude, latitude)).astype(np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=len(latitude), width=len(longitude),
        dtype="float32", crs="EPSG:4326", transform=Affine(step, 0, west, 0, -step, north),
        tiled=True, blockxsize=256, blockysize=256, compress="deflate",
    ) as target:  # fmt: skip
        target.write(heights, 1)
    return path


def region(half_km: float) -> tuple[float, float, float, float]:
    """West, south, east, north of a square around the centre."""
    dy = half_km * 1000 / M_PER_DEGREE
    dx = dy / np.cos(np.radians(LATITUDE))
    return LONGITUDE - dx, LATITUDE - dy, LONGITUDE + dx, LATITUDE + dy


def lonlat_of(lattice: Lattice, positions_xy: Floats) -> Floats:
    """Longitude and latitude of lattice pixel coordinates, both (2, H, W), by PROJ alone."""
    to_lonlat = pyproj.Transformer.from_crs(lattice.crs, LONLAT, always_xy=True)
    return np.stack(to_lonlat.transform(*lattice.crs_from_px(positions_xy)))
