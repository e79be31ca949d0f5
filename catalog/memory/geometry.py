"""Which SAR scenes look at the ground alike, and so are displaced alike by its relief."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from catalog.archives.items import Scene
from catalog.grid import Lattice
from catalog.store.publish import generation_name

Kind = Literal["grd", "grd-dem", "rtc"]
"""What was done about relief: nothing, a DEM is used on reading, or its maker took it out."""

DIRECTIONS = ("ascending", "descending")
LATTICE_DIGITS = 8


@dataclass(frozen=True)
class Geometry:
    """A viewing geometry; the satellites of a constellation share it."""

    orbit_state: str
    """"ascending" or "descending"."""
    relative_orbit: int
    kind: Kind

    @property
    def name(self) -> str:
        """Like "ascending-064-grd"."""
        return f"{self.orbit_state}-{self.relative_orbit:03d}-{self.kind}"


def geometry_of(scene: Scene) -> Geometry | None:
    """The geometry of a SAR scene; None where its item tells no direction or no relative orbit.

    Items write these in capitals or as text too. A DEM counts only for what is not corrected yet.
    """
    state, orbit = str(scene.orbit_state).lower(), str(scene.relative_orbit)
    if state not in DIRECTIONS or not orbit.isdecimal():
        return None
    uncorrected: Kind = "grd-dem" if scene.terrain else "grd"
    return Geometry(state, int(orbit), "rtc" if scene.terrain_corrected else uncorrected)


def memory_name(geometry: Geometry, lattice: Lattice) -> str:
    """The name of a geometry's memory: another lattice has another, like "…-grd-1a2b3c4d"."""
    return f"{geometry.name}-{generation_name(lattice.fingerprint())[:LATTICE_DIGITS]}"
