"""One day's mosaic before it is made: what goes into it, and the name that this content determines.

Whatever changes a pixel is in the name: the scenes, the lattice, the weights, how scenes are read,
the memory of earlier days, and the fields of the request that `InName` marks. So a mosaic under its
name is never made anew, and one that would look different never hides behind a name that is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from catalog.archives.items import Scene
from catalog.archives.pairs import Pair
from catalog.archives.providers import PLAIN_STAC
from catalog.grid import Lattice, region_outline
from catalog.store.publish import generation_name
from flows.plan.fields import InName
from flows.plan.groups import Group, common_bands, group_day, group_pairs
from flows.plan.request import RegionRequest

CONTENT_VERSION = 4  # raise it when the same pairs and settings would give other pixels


@dataclass(frozen=True)
class SlotPlan:
    """One day's mosaic: its groups, and the name that its content determines.

    An optical slot is a day's optical passes and the SAR registered to them. A SAR slot is a day's
    SAR passes, over the newest optical passes up to that day; each SAR pass also has a group of its
    own, without optical scenes.

    `published` says whether readers see this generation, as far as the store was looked at.
    `requested` is the generation that all of the day's pairs and tiles would have made without
    memory, where this one is without scenes that turned out unreadable, without the matches of
    `failed_tiles`, or with `memory`: the versions, by name, that the day is registered by.
    """

    slot: str
    groups: tuple[Group, ...]
    generation: str
    published: bool = False
    requested: str | None = None
    failed_tiles: tuple[str, ...] = ()
    kind: Literal["optical", "sar"] = "optical"
    memory: Mapping[str, str] = field(default_factory=dict)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for group in self.groups for pair in group.pairs)

    @property
    def judged(self) -> tuple[tuple[str, str], ...]:
        """What gets a verdict each, as `Group.judged`."""
        return tuple(ids for group in self.groups for ids in group.judged)

    @property
    def optical(self) -> tuple[Scene, ...]:
        """The optical scenes, each once, in the order in which they fill the mosaic."""
        return _each_once(scene for group in self.groups for scene in group.optical)

    @property
    def sar(self) -> tuple[Scene, ...]:
        """The SAR scenes, each once, in the order in which they fill the mosaic."""
        return _each_once(scene for group in self.groups for scene in group.sar)

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """Those of both sensors."""
        return self.optical + self.sar

    @property
    def optical_bands(self) -> tuple[str, ...]:
        """The bands that every optical scene of the day has."""
        return common_bands(self.optical)

    @property
    def sar_bands(self) -> tuple[str, ...]:
        """The polarisations that every SAR scene of the day has."""
        return common_bands(self.sar)

    @property
    def sar_scenes(self) -> dict[str, datetime]:
        """When each SAR scene was taken, by id; the earliest first."""
        return _by_time(self.sar)

    @property
    def optical_scenes(self) -> dict[str, datetime]:
        """When each optical scene was taken, by id; the earliest first."""
        return _by_time(self.optical)


def plan_slot(
    slot: str,
    pairs: Sequence[Pair],
    request: RegionRequest,
    lattice: Lattice,
    weights_sha256: str,
    failed_tiles: Sequence[str] = (),
    *,
    sar: Sequence[Scene] = (),
    memory: Mapping[str, str] | None = None,
) -> SlotPlan:
    """Group a day's pairs and name their generation, without a look at the store.

    `sar` are all the SAR scenes of a SAR slot, with and without a pair; an optical slot has none.
    `memory` are the versions, by name, that the day is registered by.
    """
    region = region_outline(request.bbox)
    groups = group_day(pairs, sar, region) if sar else group_pairs(pairs, region)
    settings = configuration(request)
    content = {
        "content_version": CONTENT_VERSION,
        "pairs": [[[p.optical.id, p.sar.id] for p in group.pairs] for group in groups],
        "weights": weights_sha256,
        "configuration": settings,
        "lattice": lattice.fingerprint(),
    }
    if reading := _reading(groups, archive=request.provider != PLAIN_STAC.name):
        content["reading"] = reading
    if failed_tiles:
        content["failed_tiles"] = sorted(failed_tiles)
    if sar:
        content["sar"] = [[scene.id for scene in g.sar] for g in groups if not g.optical]
    sar_scenes = [scene for group in groups for scene in group.sar]
    if orbits := {s.id: Path(s.orbit_file).name for s in sar_scenes if s.orbit_file}:
        content["orbits"] = orbits
    if geoids := sorted({s.geoid for s in sar_scenes if s.geoid}):
        content["geoid"] = geoids
    if memory:
        content["memory"] = dict(memory)
    return SlotPlan(
        slot,
        groups,
        generation_name(content),
        failed_tiles=tuple(sorted(failed_tiles)),
        kind="sar" if sar else "optical",
        memory=dict(memory or {}),
    )


def configuration(request: RegionRequest) -> dict[str, Any]:
    """The settings that change a mosaic's content; part of its name and of its attributes.

    They are the fields of the request that are named by value. Those at their default are left
    out, so that a field that is added renames no mosaic; only `max_offset_px` is always told, as it
    was from the first mosaic on.
    """
    fields = {
        name: field
        for name, field in RegionRequest.model_fields.items()
        if InName.BY_VALUE in field.metadata
    }
    values = request.model_dump(mode="json", include=set(fields))
    given = {name: values[name] for name in fields if values[name] != fields[name].default}
    return {"max_offset_px": request.max_offset_px, **given}


def _by_time(scenes: Sequence[Scene]) -> dict[str, datetime]:
    """When each scene was taken, by id, each once; the earliest first."""
    times = {scene.id: scene.datetime for scene in scenes}
    return dict(sorted(times.items(), key=lambda each: (each[1], each[0])))


def _reading(groups: Sequence[Group], *, archive: bool) -> dict[str, Any]:
    """How the optical scenes of an archive, and those with a mask, are read.

    Archives correct the offsets that their items declare; what was made with others is made anew.
    """
    scenes = {scene.id: scene for group in groups for scene in group.optical}
    return {
        id_: [
            *([asset.key, asset.scale, asset.offset] for asset in scene.assets),
            *([scene.mask.asset.key] if scene.mask else []),
        ]
        for id_, scene in sorted(scenes.items())
        if archive or scene.mask
    }


def _each_once(scenes: Iterable[Scene]) -> tuple[Scene, ...]:
    return tuple({scene.id: scene for scene in scenes}.values())
