"""Where ground shows in a Sentinel-1 GRD image, by the orbit and the ranges of its annotation.

Ground shows in the line in which the satellite is abeam of it, where its Doppler frequency is zero,
and in the column of its slant range. The annotation has the satellite's positions and velocities,
Earth fixed, between which a cubic Hermite spline goes, and every second or so a polynomial that
leads from ground range, which is columns, to slant range.

Of these polynomials the one nearest in time counts, and it counts from ground to slant range: so
the slant ranges of the geolocation grid come out to a millimetre in all the real products at hand,
where there is a polynomial within half a second. Between polynomials that follow each other the
image jumps, by up to a pixel or two. Interpolated between them, columns would be off by half a
pixel; by the polynomials for the way back (`srgrCoefficients`), by four in products of 2015, whose
fits are poor.

Lines are counted from the time of the first one, as SNAP and sarsen do. The times of the
geolocation grid differ from that by half of what the signal's way is longer than in mid-swath
(the bistatic delay): 0.18 of a line at the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import numpy as np
import pyproj
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from catalog.archives.providers import Access
from catalog.errors import shown
from catalog.longitudes import longitudes_facing
from catalog.sentinel1.annotation import AnnotationError, xml_of
from catalog.sentinel1.gcps import spline_through
from catalog.sentinel1.orbits import states_around

if TYPE_CHECKING:
    from scipy.interpolate import CubicHermiteSpline, RBFInterpolator

Floats = NDArray[np.float64]
FEWEST_POINTS = 4
# Slant ranges are tabulated this often: linear between them, they are good to 3 mm.
TABLE_STEP_COLUMNS = 16
TABLE_MARGIN_COLUMNS = 512  # beside the image, for the edges of what is resampled
MOST_STEPS = 20
CONVERGED_SECONDS = 1e-9


@dataclass(frozen=True, eq=False)
class RangeDoppler:
    """The geometry of one image: columns along range, lines along the orbit; centres at integers.

    Seconds are counted from the first line.
    """

    shape: tuple[int, int]
    seconds_per_line: float
    orbit: CubicHermiteSpline
    """Of seconds: Earth-centred, Earth-fixed positions (..., 3), metres."""
    conversion_seconds: Floats
    """(C,) for which the conversions are made, rising."""
    table_columns: Floats
    """(K,)"""
    slant_ranges_m: Floats
    """(C, K), of those columns, rising."""
    grid_lonlat: Floats
    """(N, 2) of the points of the geolocation grid, degrees."""
    grid_heights_m: Floats
    """(N,) above the ellipsoid, as the processor takes them."""
    noise_removed: bool
    """Whether the processor has subtracted thermal noise already."""

    def view(self, longitude: Floats, latitude: Floats, height_m: Floats) -> Floats:
        """How the satellite sees places: line, slant range in metres, angle from nadir in radians.

        Longitude and latitude in degrees and heights above the ellipsoid, all (...), make (3, ...).
        The time of zero Doppler is found by Newton's method.
        """
        to_ecef = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
        place = np.stack(to_ecef.transform(longitude, latitude, height_m), axis=-1)
        known = np.isfinite(place).all(axis=-1)  # a lattice may go beyond its projection
        place = np.where(known[..., None], place, 0.0)
        seconds = np.full(known.shape, self.shape[0] / 2 * self.seconds_per_line)
        for _ in range(MOST_STEPS):
            away, velocity = place - self.orbit(seconds), self.orbit(seconds, 1)
            slope = _dot(away, self.orbit(seconds, 2)) - _dot(velocity, velocity)
            step = _dot(away, velocity) / slope
            seconds = seconds - step
            if np.abs(step).max(initial=0.0) < CONVERGED_SECONDS:
                break
        satellite = self.orbit(seconds)
        away = place - satellite
        slant_range = np.sqrt(_dot(away, away))
        seen = np.stack([seconds / self.seconds_per_line, slant_range, _angle(away, -satellite)])
        seen[:, ~known] = np.nan
        return np.asarray(seen)

    def columns(self, lines: Floats, slant_range_m: Floats) -> Floats:
        """Columns of slant ranges in lines, all of one shape; NaN well beside the image."""
        between = (self.conversion_seconds[1:] + self.conversion_seconds[:-1]) / 2
        nearest = np.searchsorted(between, lines * self.seconds_per_line)
        columns = np.full(lines.shape, np.nan)
        for index in np.unique(nearest):
            here = nearest == index
            columns[here] = np.interp(
                slant_range_m[here], self.slant_ranges_m[index], self.table_columns,
                left=np.nan, right=np.nan,
            )  # fmt: skip
        return columns

    def heights(self, longitude: Floats, latitude: Floats) -> Floats:
        """Metres above the ellipsoid that the processor took, between its points: (...)."""
        from_first = self._unwrapped(longitude)
        at = np.column_stack([from_first.ravel(), latitude.ravel()])
        return np.asarray(self._height_spline(at)).reshape(longitude.shape)

    @property
    def metres_per_column(self) -> float:
        """Along the slant, in mid-swath."""
        middle = self.slant_ranges_m.shape[1] // 2
        step = self.slant_ranges_m[0, middle + 1] - self.slant_ranges_m[0, middle]
        return float(step) / TABLE_STEP_COLUMNS

    @cached_property
    def _height_spline(self) -> RBFInterpolator:
        longitude, latitude = self.grid_lonlat.T
        at = np.column_stack([self._unwrapped(longitude), latitude])
        return spline_through(at, self.grid_heights_m)

    def _unwrapped(self, longitude: Floats) -> Floats:
        """From the first point of the grid, so that none is across the antimeridian."""
        first = self.grid_lonlat[0, 0]
        from_first: Floats = longitudes_facing(longitude, first) - first
        return from_first


@lru_cache(maxsize=64)
def range_doppler_of(href: str, access: Access, orbit_file: str | None = None) -> RangeDoppler:
    """The geometry that a GRD product annotation tells, by the orbit of a file where one is given.

    Raises AnnotationError.
    """
    root = xml_of(href, access)
    try:
        return _parsed(root, orbit_file)
    except AnnotationError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise AnnotationError(
            f"{shown(href)} is no product annotation of a GRD image: {error}"
        ) from error


def _parsed(root: Element, orbit_file: str | None) -> RangeDoppler:
    """Raises ValueError and its like, with what is wrong."""
    from scipy.interpolate import CubicHermiteSpline  # slow to import, and few scenes need it

    image = "imageAnnotation/imageInformation/"
    first = _time(_text(root, image + "productFirstLineUtcTime"))
    height, width = (int(_text(root, image + n)) for n in ("numberOfLines", "numberOfSamples"))
    seconds_per_line = float(_text(root, image + "azimuthTimeInterval"))
    spacing_m = float(_text(root, image + "rangePixelSpacing"))
    if not (min(height, width) > 0 and 0 < seconds_per_line < 1 and spacing_m > 0):
        raise ValueError(
            f"{height} lines of {width} samples, {seconds_per_line:g} s and {spacing_m:g} m apart"
        )
    times, position, velocity = (
        _states(root, first)
        if orbit_file is None
        else states_around(orbit_file, first, height * seconds_per_line)
    )
    conversions = root.findall("coordinateConversion/coordinateConversionList/coordinateConversion")
    table_columns = np.arange(
        -TABLE_MARGIN_COLUMNS, width + TABLE_MARGIN_COLUMNS + TABLE_STEP_COLUMNS,
        TABLE_STEP_COLUMNS, dtype=np.float64,
    )  # fmt: skip
    slant_ranges = np.array(
        [
            polyval(
                table_columns * spacing_m - float(_text(each, "gr0")),
                [float(number) for number in _text(each, "grsrCoefficients").split()],
            )
            for each in conversions
        ]
    )
    made_for = [_time(_text(each, "azimuthTime")) - first for each in conversions]
    longitude, latitude, heights = (
        np.array([float(_text(point, name)) for point in root.iterfind(".//geolocationGridPoint")])
        for name in ("longitude", "latitude", "height")
    )
    if len(heights) < FEWEST_POINTS:
        raise ValueError(f"it has {len(heights)} points of a geolocation grid")
    geometry = RangeDoppler(
        (height, width),
        seconds_per_line,
        CubicHermiteSpline(times, position, velocity),
        _rising(made_for, 1, "<coordinateConversion>"),
        table_columns,
        slant_ranges,
        np.column_stack([longitude, latitude]),
        heights,
        root.findtext(".//thermalNoiseCorrectionPerformed", "").strip().lower() == "true",
    )
    known = (position, velocity, slant_ranges, geometry.grid_lonlat, heights)
    if not all(np.isfinite(numbers).all() for numbers in known):
        raise ValueError("not all of its numbers are finite")
    if (np.diff(slant_ranges, axis=1) <= 0).any():
        raise ValueError("its slant ranges do not rise with ground range")
    return geometry


def _states(root: Element, first: np.datetime64) -> tuple[Floats, Floats, Floats]:
    """Times, positions and velocities of the annotation, as `states_around` has them."""
    states = root.findall("generalAnnotation/orbitList/orbit")
    position, velocity = (
        np.array([[float(_text(state, f"{what}/{axis}")) for axis in "xyz"] for state in states])
        for what in ("position", "velocity")
    )
    times = _rising([_time(_text(state, "time")) - first for state in states], 2, "<orbit>")
    return times, position, velocity


def _rising(seconds: list[np.timedelta64], fewest: int, of: str) -> Floats:
    told = np.array([each / np.timedelta64(1, "ns") * 1e-9 for each in seconds])
    if len(told) < fewest or not (np.isfinite(told).all() and (np.diff(told) > 0).all()):
        raise ValueError(f"it has {len(told)} {of}, in no order of time or too few")
    return told


def _time(text: str) -> np.datetime64:
    return np.datetime64(text.removesuffix("Z"), "ns")


def _text(parent: Element, path: str) -> str:
    text = parent.findtext(path)
    if text is None:
        raise ValueError(f"it has no <{path.split('/')[-1]}>")
    return text.strip()


def _angle(first: Floats, second: Floats) -> Floats:
    cosine = _dot(first, second) / np.sqrt(_dot(first, first) * _dot(second, second))
    return np.arccos(cosine)


def _dot(first: Floats, second: Floats) -> Floats:
    product: Floats = np.einsum("...i,...i->...", first, second)
    return product
