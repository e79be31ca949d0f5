"""Why a scene is of no use to a day, whatever its partners would be.

Pure, as `pairs` is.
"""

from __future__ import annotations

from collections.abc import Sequence

import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Scene

MAX_CLOUD_COVER = 100.0  # percent; 100 is off
# Less of a footprint than this within the region is the rounding of an edge they share: a pixel of
# a megapixel.
TOUCHING_SHARE = 1e-6

BEST_ORBIT = "best"
ORBIT_POLICY = r"best|ascending|descending|[1-9][0-9]{0,2}"
"""Which SAR orbits a run may use: all, those of one direction, or one relative orbit's number."""


def find_fault(scene: Scene, region: BaseGeometry, max_cloud_cover: float) -> str:
    """Why a scene cannot be paired whatever its partners, or ""."""
    if scene.unusable:
        return scene.unusable
    if scene.footprint.intersection(region).area <= TOUCHING_SHARE * scene.footprint.area:
        return "it lies outside the region"
    if scene.cloud_cover is not None and scene.cloud_cover > max_cloud_cover:
        return (
            f"its cloud cover of {scene.cloud_cover:.0f} % is above the {max_cloud_cover:.0f} % "
            "allowed"
        )
    return ""


def find_other_orbit(scene: Scene, policy: str) -> str:
    """Why a SAR scene is none of those that the run may use, or ""."""
    if policy == BEST_ORBIT:
        return ""
    told: int | str | None = scene.orbit_state
    wanted: int | str = policy
    kind = "orbit"
    if policy.isdigit():
        told, wanted, kind = scene.relative_orbit, int(policy), "relative orbit"
    if told == wanted:
        return ""
    return f"its {kind} is {'not told' if told is None else told}, and {wanted} is asked for"


def find_other_bands(scenes: Sequence[Scene], ground: BaseGeometry) -> dict[str, str]:
    """By id, why scenes are left out of those of a day that share no band; none where they do.

    A mosaic holds the bands that all its scenes have. So those stay that have the band which shows
    most of the ground, in steps of 1 %, then of most scenes.
    """
    if share_a_band(scenes):
        return {}

    def shown(band: str) -> tuple[float, int]:
        holders = [scene.footprint for scene in scenes if band in scene.bands]
        part = shapely.union_all(holders) & ground
        return round(part.area / ground.area, 2), len(holders)

    best = max(sorted({band for scene in scenes for band in scene.bands}), key=shown)
    return {
        scene.id: f"it has {', '.join(scene.bands)} and not {best}, which shows more of the "
        "ground; a day keeps to a band that all its scenes have"
        for scene in scenes
        if best not in scene.bands
    }


def share_a_band(scenes: Sequence[Scene]) -> bool:
    """Whether there is a band that all of them have; of none there is."""
    return not scenes or bool(set.intersection(*(set(scene.bands) for scene in scenes)))
