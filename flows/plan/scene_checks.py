"""What planning finds out about scenes by looking into their files: unreadable, unusable, odd."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import shapely

from catalog.archives.items import Scene
from catalog.archives.pairs import Unpaired
from catalog.errors import SceneReadError
from catalog.pixels.sanity import examine
from catalog.pixels.scene import odd_heights, probe
from flows.cluster.heap import share_heaps
from flows.plan.days import DEM_MARGIN_DEGREES

CHECKS_AT_ONCE = 16


@dataclass(frozen=True)
class Warned:
    """What is odd about a scene that is used, or about what the archive has, in plain words."""

    scene: Scene | None
    text: str

    @property
    def scene_id(self) -> str:
        """Of the scene; empty where it is about none."""
        return "" if self.scene is None else self.scene.id


@dataclass(frozen=True)
class Checked:
    """Scenes as their files show them, in the order given; those to leave out; and warnings."""

    scenes: tuple[Scene, ...]
    unusable: tuple[Unpaired, ...]
    warnings: tuple[Warned, ...]


def check_scenes(scenes: Sequence[Scene]) -> Checked:
    """Read a few pixels of every scene.

    A scene whose item contradicts its file gets the file's footprint.
    """
    share_heaps()
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as threads:
        each = list(threads.map(_check, scenes))
    return Checked(
        tuple(scene for scene, _, _ in each),
        tuple(Unpaired(scene, fault) for scene, fault, _ in each if fault),
        tuple(Warned(scene, text) for scene, _, warnings in each for text in warnings),
    )


def without_orbit_file(sar: Sequence[Scene]) -> tuple[Warned, ...]:
    """SAR scenes that no file of the folder asked for tells the orbit of."""
    annotated = [s for s in sar if not s.unusable and any(a.annotation for a in s.assets)]
    text = "no orbit file covers it: it is placed by the orbit of its annotation"
    return tuple(Warned(scene, text) for scene in annotated if scene.orbit_file is None)


def _check(scene: Scene) -> tuple[Scene, str | None, tuple[str, ...]]:
    """The scene, why it is left out, and what is odd about it."""
    if scene.unusable:
        return scene, None, ()  # pairing gives that reason
    try:
        found = examine(scene)
        if found.footprint is not None:
            scene = replace(scene, footprint=found.footprint)
        scene = probe(replace(scene, terrain=terrain_under(scene)))
        heights = odd_heights(scene)
    except SceneReadError as error:
        return scene, f"cannot be read: {error}", ()
    excluded = f"is excluded: {found.excluded}" if found.excluded else None
    return scene, excluded, (*found.warnings, *([heights] if heights else []))


def terrain_under(scene: Scene) -> tuple[Scene, ...]:
    """Of the tiles of a DEM, those under a scene and a little around it; at sea, the nearest."""
    if not scene.terrain:
        return ()
    tiles = shapely.STRtree([tile.footprint for tile in scene.terrain])
    under = sorted(tiles.query(scene.footprint.buffer(DEM_MARGIN_DEGREES)))
    return tuple(scene.terrain[place] for place in under or [tiles.nearest(scene.footprint)])
