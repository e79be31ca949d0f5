"""Which pairs share a displacement field, and in which order their scenes fill the mosaic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Scene
from catalog.archives.pairs import Pair, Unpaired

COVERED_SHARE = 0.99  # a scene hidden to this degree by its pass-mates adds nothing but edges


@dataclass(frozen=True)
class Group:
    """One optical pass seen by one SAR pass: pairs that share one displacement field.

    Without optical scenes and pairs it stands for the ground of a SAR pass that no optical scene
    of its slot shows.

    Scenes are in the order in which they fill the mosaic: those that cover most of the region
    first. Both passes use this one order, so that compose shows what estimate matched.
    """

    pairs: tuple[Pair, ...]
    optical: tuple[Scene, ...]
    sar: tuple[Scene, ...]

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """Those of both sensors."""
        return self.optical + self.sar

    @property
    def passes(self) -> tuple[str, str]:
        """What makes two pairs members of one group; "" where there is no optical pass."""
        return self.optical[0].pass_key if self.optical else "", self.sar[0].pass_key

    @property
    def name(self) -> str:
        """For people: the platforms and days of both passes."""
        return " × ".join(
            f"{scene.platform or scene.collection} {scene.datetime:%Y-%m-%d}"
            for scene in (*self.optical[:1], self.sar[0])
        )

    @property
    def judged(self) -> tuple[tuple[str, str], ...]:
        """What gets a verdict each: ids of the optical scene ("" for none) and the SAR scene."""
        if not self.optical:
            return tuple(("", scene.id) for scene in self.sar)
        return tuple((pair.optical.id, pair.sar.id) for pair in self.pairs)


def passes_of(pair: Pair) -> tuple[str, str]:
    """The optical and the SAR pass of a pair."""
    return pair.optical.pass_key, pair.sar.pass_key


def group_day(
    pairs: Sequence[Pair], sar: Sequence[Scene], region: BaseGeometry
) -> tuple[Group, ...]:
    """The groups of a SAR slot, by which its SAR scenes are registered.

    Those of the newest optical pass come first: of equally clear pixels, the newest is shown. Last
    come the SAR passes by themselves, for the ground that no optical scene shows.
    """
    newest: dict[str, float] = {}
    for pair in pairs:
        key, seconds = pair.optical.pass_key, pair.optical.datetime.timestamp()
        newest[key] = max(seconds, newest.get(key, seconds))
    paired = sorted(group_pairs(pairs, region), key=lambda group: -newest[group.passes[0]])

    def pass_of(scene: Scene) -> str:
        return scene.pass_key

    alone = [
        Group((), (), _order(mates, region))
        for _, mates in groupby(sorted(sar, key=pass_of), key=pass_of)
    ]

    def rank(group: Group) -> tuple[float, tuple[str, str]]:
        return _seen((scene.footprint for scene in group.sar), region), group.passes

    return (*paired, *sorted(alone, key=rank))


def group_pairs(pairs: Sequence[Pair], region: BaseGeometry) -> tuple[Group, ...]:
    """Pairs by (optical pass, SAR pass); the groups that cover most of the region first."""

    def rank(group: Group) -> tuple[float, tuple[str, str]]:
        return _seen((pair.overlap for pair in group.pairs), region), group.passes

    groups = []
    for _, members in groupby(sorted(pairs, key=passes_of), key=passes_of):
        mates = tuple(sorted(members, key=lambda pair: (pair.optical.id, pair.sar.id)))
        optical = _order({pair.optical.id: pair.optical for pair in mates}.values(), region)
        sar = _order({pair.sar.id: pair.sar for pair in mates}.values(), region)
        groups.append(Group(mates, optical, sar))
    return tuple(sorted(groups, key=rank))


def find_hidden(optical: Sequence[Scene], region: BaseGeometry) -> tuple[Unpaired, ...]:
    """Optical scenes whose part of the region their pass-mates show already (granules overlap)."""

    def pass_of(scene: Scene) -> str:
        return scene.pass_key

    hidden = []
    for _, mates in groupby(sorted(optical, key=pass_of), key=pass_of):
        shown: BaseGeometry = shapely.Polygon()
        for scene in _order(mates, region):
            part = scene.footprint & region
            if part.area > 0 and (part & shown).area >= COVERED_SHARE * part.area:
                hidden.append(Unpaired(scene, "other scenes of its pass show all of its ground"))
            else:
                shown = shown | part
    return tuple(hidden)


def common_bands(scenes: Sequence[Scene]) -> tuple[str, ...]:
    """Bands of all scenes, in the order of the first; they are what a mosaic can hold."""
    if not scenes:
        return ()
    shared = set.intersection(*(set(scene.bands) for scene in scenes))
    return tuple(band for band in scenes[0].bands if band in shared)


def _seen(parts: Iterable[BaseGeometry], region: BaseGeometry) -> float:
    """Minus the share of the region that they cover together, for sorting."""
    covered = shapely.union_all([part & region for part in parts])
    return -round(covered.area / region.area, 4)


def _order(scenes: Iterable[Scene], region: BaseGeometry) -> tuple[Scene, ...]:
    """By the area they cover of the region, then by id. Rounded: equal areas differ in the ulp."""

    def rank(scene: Scene) -> tuple[float, str]:
        return -round((scene.footprint & region).area / region.area, 4), scene.id

    return tuple(sorted(scenes, key=rank))
