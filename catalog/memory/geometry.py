"""Which SAR scenes look at the ground alike, and so are displaced alike by its relief."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.archives.items import Scene
from catalog.grid import Lattice
from catalog.store.publish import generation_name

DIRECTIONS = ("ascending", "descending")
LATTICE_DIGITS = 8


@dataclass(frozen=True)
class Geometry:
    """A viewing geometry; the satellites of a constellation share it."""

    orbit_state: str
    """"ascending" or "descending"."""
    relative_orbit: int
    kind: str
    """What places its pixels: "rtc" where its maker took the relief out, else "grd", and after it
    "-orbit" by an annotation, "-dem" by a DEM, "-geoid" by how far this is above the ellipsoid."""

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
    if scene.terrain_corrected:
        return Geometry(state, int(orbit), "rtc")
    annotated = any(asset.annotation for asset in scene.assets)
    placed_by = {"-orbit": annotated, "-dem": scene.terrain, "-geoid": scene.geoid}
    return Geometry(
        state, int(orbit), "grd" + "".join(word for word, used in placed_by.items() if used)
    )


def memory_name(geometry: Geometry, lattice: Lattice) -> str:
    """The name of a geometry's memory: another lattice has another, like "…-grd-1a2b3c4d"."""
    return f"{geometry.name}-{generation_name(lattice.fingerprint())[:LATTICE_DIGITS]}"
