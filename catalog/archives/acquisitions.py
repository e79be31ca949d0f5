"""One acquisition that an archive has more than once: processed again, or in an item per band.

Pure: scenes in, scenes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import shapely

from catalog.archives.items import Dropped, Scene

# Two items of one pass whose footprints agree to this share are one scene.
SAME_FOOTPRINT_SHARE = 0.95
SAME_SENSING_TIME = timedelta(seconds=10)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


def one_of_each(scenes: Iterable[Scene]) -> tuple[tuple[Scene, ...], tuple[Dropped, ...]]:
    """Scenes by time then id, each acquisition once; and those that a newer processing replaces.

    Newer is what has the higher version, then what was processed later, then the id with the higher
    numbers. Items that hold different bands of one acquisition become one scene, named after both.
    A scene that cannot be used replaces none.
    """
    unique = {scene.id: scene for scene in scenes}.values()
    kept = [scene for scene in unique if scene.unusable]
    dropped: list[Dropped] = []
    for mates in _taken_together(scene for scene in unique if not scene.unusable):
        newest_first = sorted(mates, key=_age, reverse=True)
        tree = shapely.STRtree([scene.footprint for scene in newest_first])
        chosen: dict[int, Scene] = {}
        for place, scene in enumerate(newest_first):
            near = (found for found in sorted(tree.query(scene.footprint)) if found in chosen)
            same = next((at for at in near if _same_acquisition(scene, chosen[at])), None)
            if same is None:
                chosen[place] = scene
            elif set(scene.bands).isdisjoint(chosen[same].bands):
                chosen[same] = _join(chosen[same], scene)
            else:
                reason = f"{chosen[same].id} is a newer processing of the same acquisition"
                dropped.append(Dropped(scene.id, reason, scene.solar_day))
        kept += chosen.values()
    return tuple(sorted(kept, key=lambda scene: (scene.datetime, scene.id))), tuple(dropped)


def _taken_together(scenes: Iterable[Scene]) -> Iterator[list[Scene]]:
    """The scenes in order of time, split where the time between two is too long for one."""
    mates: list[Scene] = []
    for scene in sorted(scenes, key=lambda scene: scene.datetime):
        if mates and scene.datetime - mates[-1].datetime > SAME_SENSING_TIME:
            yield mates
            mates = []
        mates.append(scene)
    yield mates


def _same_acquisition(scene: Scene, other: Scene) -> bool:
    if (scene.platform, scene.collection) != (other.platform, other.collection):
        return False
    if scene.strip and other.strip and scene.strip != other.strip:
        return False
    if abs(scene.datetime - other.datetime) > SAME_SENSING_TIME:
        return False
    union = scene.footprint.union(other.footprint).area
    shared = scene.footprint.intersection(other.footprint).area
    return bool(union > 0 and shared / union >= SAME_FOOTPRINT_SHARE)


def _age(scene: Scene) -> tuple[tuple[int, ...], datetime, list[tuple[int, str]]]:
    """Higher for a newer processing; the numbers in ids compare as numbers, 2 before 10."""
    parts = re.split(r"([0-9]+)", scene.id)  # by turns text and digits
    parts[1::2] = [digits.lstrip("0") for digits in parts[1::2]]
    in_order = [(len(part) if place % 2 else 0, part) for place, part in enumerate(parts)]
    return scene.version, scene.processed or LONG_AGO, in_order


def _join(scene: Scene, other: Scene) -> Scene:
    """One scene of two items with different bands; their assets keep apart by the items' ids."""
    keys = {asset.key for asset in scene.assets}
    added = tuple(
        replace(asset, key=f"{other.id}/{asset.key}") if asset.key in keys else asset
        for asset in other.assets
    )
    joined = replace(
        scene,
        id="+".join(sorted([*scene.id.split("+"), other.id])),
        assets=scene.assets + added,
        mask=scene.mask or other.mask,
        chosen_bands=None,
    )
    needed = scene.bands + other.bands
    return joined if joined.bands == needed else replace(joined, chosen_bands=needed)
