"""Relief in a radar image: how far height moves a pixel along range, and what cannot be seen.

Radar measures distance, so what stands higher than the image was made for is nearer, and lies
displaced towards the sensor by about (h - h_ref) / tan(incidence). Here it is worked out from the
slant range and on a round Earth: at 1500 m the plain formula errs by half a pixel where the sensor
looks steepest.

Heights are taken as they come. Those of the control points are above the ellipsoid, those of the
Copernicus DEM above the geoid; the two differ by up to 100 m, nearly the same over a whole scene.
No geoid is at hand here, so a shift along range of that difference over the tangent stays. It is
nearly constant, and the registration removes it with the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import griddata

from catalog.sentinel1.annotation import GeolocationGrid
from catalog.sentinel1.gcps import GcpGrid, metres_per_column

EARTH_RADIUS_M = 6_371_000.0
# Sentinel-1's orbit, and where its IW swath begins and ends, within a degree: for a file of which
# the annotation is not at hand. At 1500 m, a degree of incidence is 70 m of ground.
NOMINAL_ALTITUDE_M = 700_000.0
NOMINAL_NEAR_INCIDENCE_DEG = 30.6
IW_SWATH_M = (200_000.0, 300_000.0)


@dataclass(frozen=True)
class LookGeometry:
    """How the sensor saw each control point of a grid, in their order."""

    incidence_deg: NDArray[np.float64]
    """(N,) between the vertical and the direction to the sensor."""
    slant_range_m: NDArray[np.float64]
    """(N,) distance to the sensor."""
    metres_per_column: float


def look_geometry(grid: GcpGrid, annotation: GeolocationGrid | None) -> LookGeometry:
    """From the product annotation; without it, from Sentinel-1's usual orbit and IW swath.

    Raises ValueError, in words that follow the name of a file, when neither can tell.
    """
    spacing = metres_per_column(grid)
    if spacing is None:
        raise ValueError(
            "cannot be corrected for terrain: its ground control points are not in lines; "
            "leave out the DEM"
        )
    if annotation is not None:
        incidence, slant_range = (
            _at_points(grid, annotation, values)
            for values in (annotation.incidence_deg, annotation.slant_range_m)
        )
        if slant_range[grid.columns.argmax()] < slant_range[grid.columns.argmin()]:
            raise ValueError(
                "cannot be corrected for terrain: its columns run towards the sensor, which no "
                "Sentinel-1 GRD does; leave out the DEM"
            )
        return LookGeometry(incidence, slant_range, spacing)
    if not IW_SWATH_M[0] <= grid.shape[1] * spacing <= IW_SWATH_M[1]:
        raise ValueError(
            "cannot be corrected for terrain: its item has no product annotation (an asset like "
            "schema-product-vv), and it is no whole IW swath whose incidence angles are known; "
            "leave out the DEM"
        )
    incidence, slant_range = _nominal(grid.columns * spacing)
    return LookGeometry(incidence, slant_range, spacing)


def range_shift(
    height_difference_m: NDArray[np.float64],
    incidence_deg: NDArray[np.float64],
    slant_range_m: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Ground metres towards the sensor by which ground shows displaced; any one shape.

    Height is above the surface the image was made for; angle and range are those of that surface.
    """
    theta, rise = np.radians(incidence_deg), height_difference_m
    across, up = slant_range_m * np.sin(theta), slant_range_m * np.cos(theta)
    # Which point of the surface, s towards the sensor, is as far from it as the raised ground?
    #   (across - s)^2 + (up + s^2 / 2R)^2 = across^2 + (up - rise)^2, to the second order in s
    bend = 1 + up / EARTH_RADIUS_M
    nearer = 2 * up * rise - rise**2
    shift: NDArray[np.float64] = (across - np.sqrt(across**2 - bend * nearer)) / bend
    return shift


def layover_or_shadow(
    shifted_columns: NDArray[np.float64],
    columns: NDArray[np.float64],
    incidence_deg: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Layover and shadow of a map window, from the local slope along range: bool (H, W).

    `columns` are where flat ground would show, `shifted_columns` where it shows. Along range, the
    second change by 1 - slope / tan(incidence) of the first: not at all or backwards in layover,
    and by 1 / sin^2 or more behind a slope that no ray reaches. What a distant peak lays over or
    shades is not found.
    """
    down, across = np.gradient(columns)
    shifted_down, shifted_across = np.gradient(shifted_columns)
    with np.errstate(invalid="ignore"):
        stretch = (down * shifted_down + across * shifted_across) / (down**2 + across**2)
        shadow = stretch >= 1 / np.sin(np.radians(incidence_deg)) ** 2
        return np.asarray((stretch <= 0) | shadow)


def _at_points(
    grid: GcpGrid, annotation: GeolocationGrid, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    known = np.column_stack([annotation.pixels, annotation.lines])
    wanted = np.column_stack([grid.columns, grid.rows])
    linear: NDArray[np.float64] = griddata(known, values, wanted, method="linear")
    nearest = griddata(known, values, wanted, method="nearest")
    return np.where(np.isfinite(linear), linear, nearest)


def _nominal(
    ground_range_m: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
