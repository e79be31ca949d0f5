"""The coordinate reference system of a region: named by people, or the UTM zone it lies in."""

from __future__ import annotations

import numpy as np
import pyproj

from catalog.errors import ArgumentError

# UTM is defined between these latitudes; nearer the poles a region has to name its CRS.
UTM_LATITUDES = (-80.0, 84.0)
DEFAULT_RESOLUTION_M = 10.0


def crs_code(crs: pyproj.CRS) -> str | None:
    """A CRS as "AUTHORITY:CODE", None where it has no code."""
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else None


def parse_crs(crs: str) -> pyproj.CRS:
    """A map projection, or a geographic system, in anything PROJ knows. Raises ArgumentError."""
    try:
        parsed = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise ArgumentError(
            f"crs {crs!r} is not known to PROJ; write it like EPSG:32633", argument="crs"
        ) from error
    if not (parsed.is_projected or parsed.is_geographic) or len(parsed.axis_info) != 2:
        raise ArgumentError(
            f"crs {crs} ({parsed.name}) is not a map of two axes; a mosaic needs a projected or "
            "geographic 2D system, such as EPSG:32633",
            argument="crs",
        )
    return parsed


def default_resolution(crs: pyproj.CRS) -> float:
    """The side of a pixel in units of a CRS. Raises ArgumentError where those are not metres."""
    unit = crs.axis_info[0].unit_name
    if unit != "metre":
        raise ArgumentError(
            f"resolution has to be given with {crs.name}, which counts in units of {unit}; the "
            f"default, {DEFAULT_RESOLUTION_M:g} m, is for a CRS that counts metres",
            argument="resolution",
        )
    return DEFAULT_RESOLUTION_M


def utm_crs(west: float, south: float, east: float, north: float) -> pyproj.CRS:
    """The UTM zone at the centre of a box in degrees, WGS 84; west is greater than east where it
    crosses the antimeridian.

    Raises ArgumentError for a box that reaches beyond UTM.
    """
    if south < UTM_LATITUDES[0] or north > UTM_LATITUDES[1]:
        raise ArgumentError(
            "the region reaches beyond UTM (80 S to 84 N); name a crs, such as EPSG:3413 in the "
            "north or EPSG:3031 in the south",
            argument="crs",
        )
    middle = (west + east) / 2 if west < east else (west + east) / 2 + 180
    zone = int((middle + 180) // 6) % 60 + 1
    return pyproj.CRS.from_epsg((32600 if south + north >= 0 else 32700) + zone)


def is_torn_at_antimeridian(crs: pyproj.CRS, latitude: float) -> bool:
    """Whether ground on both sides of the antimeridian lies apart on a map."""
    to_crs = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to_crs.transform([179.997, 179.999, -179.999], [latitude] * 3)
    beside, across = np.hypot(np.diff(x), np.diff(y))
    return not across < 10 * beside
