"""Relief in a radar image: how far height moves a pixel along range, and what cannot be seen.

How far is for images without an annotation; with one, `range_doppler` knows better.

Radar measures distance, so what stands higher than the image was made for is nearer, and lies
displaced towards the sensor by about (h - h_ref) / tan(incidence). Here it is worked out from the
slant range and on a round Earth: at 1500 m the plain formula errs by half a pixel where the sensor
looks steepest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, maximum_filter1d

from catalog.sentinel1.gcps import GcpGrid, metres_per_column

EARTH_RADIUS_M = 6_371_000.0
# Sentinel-1's orbit, and where its IW swath begins and ends, within a degree: for a file of which
# the annotation is not at hand. At 1500 m, a degree of incidence is 70 m of ground.
NOMINAL_ALTITUDE_M = 700_000.0
NOMINAL_NEAR_INCIDENCE_DEG = 30.6
IW_SWATH_M = (200_000.0, 300_000.0)
# Map pixels over which ground lays over or shades other ground: 2 km at 10 m, which a summit 1150 m
# above its surroundings reaches where the sensor looks steepest.
REACH_PX = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LookGeometry:
    """How the sensor saw each control point of a grid, in their order."""

    incidence_deg: Floats
    """(N,) between the vertical and the direction to the sensor."""
    slant_range_m: Floats
    """(N,) distance to the sensor."""
    metres_per_column: float


def look_geometry(grid: GcpGrid) -> LookGeometry:
    """From Sentinel-1's usual orbit and IW swath, where no product annotation is at hand.

    Raises ValueError, in words that follow the name of a file, when these cannot tell.
    """
    spacing = metres_per_column(grid)
    if spacing is None:
        raise ValueError(
            "cannot be corrected for terrain: its ground control points are not in lines; "
            "leave out the DEM"
        )
    if not IW_SWATH_M[0] <= grid.shape[1] * spacing <= IW_SWATH_M[1]:
        raise ValueError(
            "cannot be corrected for terrain: its item has no product annotation (an asset like "
            "schema-product-vv), and it is no whole IW swath whose incidence angles are known; "
            "leave out the DEM"
        )
    incidence, slant_range = _nominal(grid.columns * spacing)
    return LookGeometry(incidence, slant_range, spacing)


def range_shift(
    height_difference_m: Floats,
    incidence_deg: Floats,
    slant_range_m: Floats,
) -> Floats:
    """Ground metres towards the sensor by which ground shows displaced; any one shape.

    Height is above the surface the image was made for; angle and range are those of that surface.
    """
    theta, rise = np.radians(incidence_deg), height_difference_m
    across, up = slant_range_m * np.sin(theta), slant_range_m * np.cos(theta)
    # Which point of the surface, s towards the sensor, is as far from it as the raised ground?
    #   (across - s)^2 + (up + s^2 / 2R)^2 = across^2 + (up - rise)^2, to the second order in s
    bend = 1 + up / EARTH_RADIUS_M
    nearer = 2 * up * rise - rise**2
    shift: Floats = (across - np.sqrt(across**2 - bend * nearer)) / bend
    return shift


def angle_from_nadir(
    height_difference_m: Floats, incidence_deg: Floats, slant_range_m: Floats
) -> Floats:
    """Angle at the sensor, radians, between straight down and raised ground; as `range_shift`."""
    incidence = np.radians(incidence_deg)
    orbit_m = EARTH_RADIUS_M + NOMINAL_ALTITUDE_M
    flat = np.arcsin(EARTH_RADIUS_M / orbit_m * np.sin(incidence))
    # The vertical of the ground is tilted against the sensor's by what the two angles differ.
    across = slant_range_m * np.sin(flat) + height_difference_m * np.sin(incidence - flat)
    down = slant_range_m * np.cos(flat) - height_difference_m * np.cos(incidence - flat)
    angle: Floats = np.arctan2(across, down)
    return angle


def layover_or_shadow(row: Floats, range_px: Floats, angle: Floats) -> NDArray[np.bool_]:
    """Layover and shadow of a map window: bool (H, W).

    All are (H, W): the row in which ground shows, its distance from the sensor or its column, and
    the angle from the nadir of the sensor to it. Along a row, from the sensor outwards over the
    map, distances and angles rise. Ground is in layover where ground nearer on the map is farther
    from the sensor, or ground farther on the map nearer to it; and in shadow where ground nearer
    on the map is seen under a wider angle. All of it counts that lies within `REACH_PX`, so that
    neighbouring windows agree.
    """
    unknown = np.isnan(row)
    if unknown.all():  # beyond the projection
        return unknown
    down, right = (np.nanmean(np.diff(row, axis=axis)) for axis in (0, 1))
    outwards = np.array([down, -right]) / np.hypot(down, right)  # x and y along a row
    rise = np.array([np.nanmean(np.diff(range_px, axis=axis)) for axis in (1, 0)])
    outwards *= np.sign(rise @ outwards)
    height, width = row.shape
    # A frame of that direction and of the one across it; ndimage counts (y, x), so rows first.
    to_frame = np.array([[outwards[0], -outwards[1]], [outwards[1], outwards[0]]])
    corners = to_frame @ np.array([[0, 0, height - 1, height - 1], [0, width - 1, 0, width - 1]])
    first = np.floor(corners.min(axis=1))
    size = tuple(int(side) for side in np.ceil(corners.max(axis=1) - first) + 1)
    distance, sight = (
        affine_transform(
            (each - np.nanmean(each)).astype(np.float32),
            to_frame.T, to_frame.T @ first, size, order=1, cval=np.nan,
        )
        for each in (range_px, angle)
    )  # fmt: skip
    hidden = (
        (distance < _widest_nearer(distance))
        | (-distance < _widest_nearer(-distance[:, ::-1])[:, ::-1])
        | (sight < _widest_nearer(sight))
    )
    on_map = affine_transform(hidden.astype(np.uint8), to_frame, -first, row.shape, order=0)
    return np.asarray(on_map > 0)


def _widest_nearer(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest of the values before each along a row, and of itself, within reach."""
    known = np.where(np.isnan(values), np.float32(-np.inf), values)
    largest: NDArray[np.float32] = maximum_filter1d(
        known, REACH_PX + 1, axis=1, origin=REACH_PX // 2, mode="nearest"
    )
    return largest


def _nominal(ground_range_m: Floats) -> tuple[Floats, Floats]:
    """Incidence in degrees and slant range, at distances from the near edge of an IW swath."""
    orbit_m = EARTH_RADIUS_M + NOMINAL_ALTITUDE_M
    near = np.radians(NOMINAL_NEAR_INCIDENCE_DEG)
    # Seen from the Earth's centre, between the sensor and the point.
    angle = near - np.arcsin(EARTH_RADIUS_M / orbit_m * np.sin(near))
    angle = angle + ground_range_m / EARTH_RADIUS_M
    slant_range = np.sqrt(
        orbit_m**2 + EARTH_RADIUS_M**2 - 2 * orbit_m * EARTH_RADIUS_M * np.cos(angle)
    )
    return np.degrees(np.arcsin(orbit_m * np.sin(angle) / slant_range)), slant_range
