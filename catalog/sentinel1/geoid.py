"""How far the geoid, from which DEMs count heights, lies above the ellipsoid, from which orbits do.

Between -107 and 85 m. PROJ knows by grids that are files of their own; where it has none, the
difference is taken for zero, and ground shows along range by as much over the tangent of the
incidence from where it is looked for: up to 13 pixels, nearly the same over a whole scene.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup

Floats = NDArray[np.float64]
Undulation = Callable[[Floats, Floats], Floats]
"""Metres of the geoid above the ellipsoid at longitudes and latitudes, degrees; all (...)."""

ELLIPSOIDAL = "EPSG:4979"
EGM2008 = "EPSG:3855"  # of the Copernicus DEM, whose files do not say
UNKNOWN = (
    "its DEM counts heights from the geoid, and PROJ has no grid of that here (for the Copernicus "
    "DEM us_nga_egm08_25.tif, which projsync fetches): its pixels may lie up to 13 px off along "
    "range, all by nearly as much, before they are registered"
)
"""What there is to say of a scene for which `undulation_of` knows nothing."""


def vertical_of(dem: CRS) -> str:
    """What the heights of a DEM are counted from, by its CRS; EGM2008 where that does not say."""
    if dem.is_compound:
        told = dem.sub_crs_list[1].to_authority()
        return EGM2008 if told is None else ":".join(told)
    return ELLIPSOIDAL if len(dem.axis_info) == 3 else EGM2008


def undulation_of(vertical: str) -> Undulation | None:
    """By PROJ's grids; None where it has none for these heights."""
    if vertical == ELLIPSOIDAL:
        return no_undulation
    if _to_ellipsoid(vertical) is None:
        return None

    def undulation(longitude: Floats, latitude: Floats) -> Floats:
        to_ellipsoid = _to_ellipsoid(vertical)
        assert to_ellipsoid is not None
        height = to_ellipsoid.transform(longitude, latitude, np.zeros_like(longitude))[2]
        return np.asarray(height)

    return undulation


def no_undulation(longitude: Floats, _: Floats) -> Floats:
    """Of heights that are above the ellipsoid already, or are taken to be."""
    return np.zeros_like(longitude)


@lru_cache(maxsize=8)
def _to_ellipsoid(vertical: str) -> Transformer | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a better one would need a grid
        try:
            group = TransformerGroup(
                f"EPSG:4326+{vertical.removeprefix('EPSG:')}", ELLIPSOIDAL,
                always_xy=True, allow_ballpark=False,
            )  # fmt: skip
        except ProjError:  # a datum that PROJ does not know
            return None
    return group.transformers[0] if group.transformers else None
