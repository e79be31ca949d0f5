"""Pass two: one shard of the mosaic, from the scenes' own pixels to the store, in one write.

SAR is resampled once, straight from its source grid through the displacement field. Scenes fill
the shard in their group's order, the order in which the tiles were matched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from catalog.archives.items import Asset, Scene
from catalog.grid import Lattice, Shard, Window
from catalog.pixels.clearest import NONE_SHOWN
from catalog.pixels.composite import read_composite
from catalog.pixels.masks import CLOUDY
from catalog.pixels.resample import resample
from catalog.pixels.scene import assets_of, source_window
from catalog.store.schema import (
    ABSTAINED,
    CLOUD,
    LAYOVER_OR_SHADOW,
    NO_OPTICAL,
    NO_SAR,
    NO_SCENE,
    QUALITY,
    REGISTERED,
    REGISTERED_FROM_MEMORY,
    REGISTERED_RADAR_TO_RADAR,
    SlotSchema,
    optical_packing,
)
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from flows.plan.generation import SlotPlan
from flows.plan.groups import Group
from flows.stages.estimate import GroupEstimate
from flows.stages.slices import SliceShifts
from tar_engine.fields.field import Field
from tar_engine.fields.nodes import NodeMap

BLOCK_PX = 1024  # composed at a time: a shard's positions in double precision take memory

MOST_REMEMBERED_ERROR_PX = 3.0  # expected where only memory tells; where it is more, none is shown
STILL_WITHOUT_SAR = (NO_SAR, LAYOVER_OR_SHADOW)  # of what optical scenes show
SEEN_THROUGH = (REGISTERED_FROM_MEMORY, REGISTERED_RADAR_TO_RADAR)  # clouds do not matter to them

Mask = npt.NDArray[np.bool_]

Canvas = dict[str, npt.NDArray[Any]]
"""The arrays (H, W) of a shard by variable, while they fill up."""


@dataclass(frozen=True)
class Layer:
    """What one group contributes: its scenes in order, its field, and what became of its pairs.

    Without optical scenes it fills the ground that none shows; ids of pairs then have "" for one.
    """

    optical: tuple[Scene, ...]
    sar: tuple[Scene, ...]
    field: Field | None
    error_px: NodeMap | None  # expected of the field
    accepted: frozenset[tuple[str, str]]  # ids of pairs
    refused: frozenset[tuple[str, str]]
    quality: int = REGISTERED  # of the pixels that it registers
    slice_shifts: SliceShifts = dataclasses.field(default_factory=dict)  # of SAR scenes, by id

    def within(self, window: Window) -> Layer:
        """With no more of field and error than a window needs; there the same to the bit."""
        extent = _extent(window)
        return replace(
            self,
            field=self.field and self.field.within(*extent),
            error_px=self.error_px and self.error_px.within(*extent),
        )


@dataclass(frozen=True)
class ShardJob:
    """Everything a worker needs to write one shard."""

    store: SlotStore
    lattice: Lattice
    shard: Shard
    layers: tuple[Layer, ...]
    schema: SlotSchema

    def cut(self) -> ShardJob:
        """The same job, light to send: of a region's fields a shard needs little."""
        layers = tuple(layer.within(self.shard.window) for layer in self.layers)
        return replace(self, layers=layers)


def layers_of(groups: Sequence[Group], estimates: Sequence[GroupEstimate]) -> tuple[Layer, ...]:
    """One layer per group, in the groups' order."""
    layers = []
    for group, estimate in zip(groups, estimates, strict=True):
        accepted, refused = (
            frozenset((v.optical, v.sar) for v in estimate.verdicts if v.accepted == wanted)
            for wanted in (True, False)
        )
        layers.append(
            Layer(
                optical=group.optical,
                sar=group.sar,
                field=estimate.field,
                error_px=None if estimate.error_px is None else NodeMap(estimate.error_px),
                accepted=accepted,
                refused=refused,
                quality=QUALITY.index(estimate.quality),
                slice_shifts=estimate.slice_shifts,
            )
        )
    return tuple(layers)


def slot_schema(slot: SlotPlan) -> SlotSchema:
    """What the mosaic of a day holds per pixel: classes too where some optical scene has a mask."""
    classes = any(scene.mask is not None for scene in slot.optical)
    packings = {band: optical_packing(_assets_of(slot, band)) for band in slot.optical_bands}
    return SlotSchema(
        slot.optical_bands, slot.sar_bands, slot.sar_scenes, slot.optical_scenes, classes,
        {band: packing for band, packing in packings.items() if packing is not None},
    )  # fmt: skip


def _assets_of(slot: SlotPlan, band: str) -> list[Asset]:
    """The files that hold an optical band, of all scenes of the day."""
    return [asset for scene in slot.optical for asset, _ in assets_of(scene, (band,))]


def slot_shards(lattice: Lattice, groups: Sequence[Group]) -> tuple[Shard, ...]:
    """The shards that an optical scene touches, or a SAR scene that needs none.

    The others stay unwritten and read as nodata.
    """
    shown = {scene.id: scene for group in groups for scene in group.optical or group.sar}
    parts = [lattice.window_of(scene.footprint) for scene in shown.values()]
    return tuple(
        shard
        for shard in lattice.shards()
        if any(part is not None and part.intersect(shard.window) for part in parts)
    )


def compose_shard(job: ShardJob) -> None:
    """Runs on a worker: compose one shard and write it.

    Raises `SceneReadError` when a scene that could be matched cannot be read any more, and
    `StoreError` when the shard does not read back as written.
    """
    write_shard(job.store, job.shard, compose(job))


def compose(job: ShardJob) -> xr.Dataset:
    """Fill a shard: layer by layer, optical first, then the SAR registered to those pixels.

    The variables of the slot's schema, dims (y, x) of the shard's window, in memory.
    """
    whole = job.shard.window
    shard = job.schema.empty(whole.shape).copy(deep=True)
    for y0, x0 in product(range(0, whole.height, BLOCK_PX), range(0, whole.width, BLOCK_PX)):
        block = Window(y0, x0, BLOCK_PX, BLOCK_PX).clip(whole.shape)
        assert block is not None
        canvas = {str(name): variable.values[block.slices] for name, variable in shard.items()}
        window = replace(block, y0=whole.y0 + y0, x0=whole.x0 + x0)
        _compose_block(canvas, replace(job, shard=replace(job.shard, window=window)))
    return shard


def _compose_block(canvas: Canvas, job: ShardJob) -> None:
    shown_by = _fill_optical(canvas, job)
    for layer in job.layers:
        _fill_sar(canvas, job, layer, shown_by)
    if job.schema.classes:  # radar sees through: what there is of SAR stays
        cloudy = np.isin(canvas["optical_class"], CLOUDY)
        canvas["quality"][cloudy & ~np.isin(canvas["quality"], SEEN_THROUGH)] = CLOUD


def _fill_optical(canvas: Canvas, job: ShardJob) -> dict[str, Mask]:
    """The composite of all layers' optical scenes. Returns, per scene, the pixels it shows."""
    scenes = {scene.id: scene for layer in job.layers for scene in layer.optical}
    window, bands = job.shard.window, job.schema.optical_bands
    shown = read_composite(tuple(scenes.values()), job.lattice, window, bands)
    for band, values in zip(bands, shown.values, strict=True):
        canvas[band][:] = values
    if job.schema.classes:
        canvas["optical_class"][:] = shown.optical_class
    canvas["quality"][shown.scene != NONE_SHOWN] = NO_SAR
    shown_by = {id_: shown.scene == index for index, id_ in enumerate(scenes)}
    numbers = list(job.schema.optical_scenes)
    for id_, shows in shown_by.items():
        canvas["optical_scene"][shows] = NO_SCENE + 1 + numbers.index(id_)
    return shown_by


def _fill_sar(canvas: Canvas, job: ShardJob, layer: Layer, shown_by: dict[str, Mask]) -> None:
    """Register the layer's SAR scenes to the pixels that are still without SAR.

    Those of its optical scenes; if it has none, those that no optical scene of the day shows.
    """
    window, quality = job.shard.window, canvas["quality"]
    still_open = np.isin(quality, STILL_WITHOUT_SAR if layer.optical else NO_OPTICAL)
    if layer.field is not None and layer.error_px is not None:
        displacement = layer.field.displacement(*_extent(window))
        expected_error = layer.error_px.on_window(*_extent(window))
        if layer.quality != REGISTERED:  # of ground that memory does not know
            unsure = still_open & (expected_error > MOST_REMEMBERED_ERROR_PX)
            still_open &= ~unsure
            for scene in layer.sar:
                quality[unsure & job.lattice.mask_of(scene.footprint, window)] = ABSTAINED
        for scene in layer.sar:
            shift = np.array(layer.slice_shifts.get(scene.id, (0.0, 0.0)), np.float32)
            moved = displacement + shift[:, None, None]
            targets = _targets(layer, scene, shown_by, still_open)
            if not targets.any():
                continue
            block = _bounds(targets)
            found = source_window(
                scene, job.lattice, (window.positions() + moved)[:, *block], job.schema.sar_bands
            )
            if found is None:
                continue
            image = resample(*found)
            new = np.zeros_like(targets)
            new[block] = targets[block] & np.isfinite(image).all(axis=0)
            for band, values in zip(job.schema.sar_bands, image, strict=True):
                canvas[band][new] = values[new[block]]
            canvas["dx"][new], canvas["dy"][new] = moved[:, new]
            canvas["sar_scene"][new] = NO_SCENE + 1 + list(job.schema.sar_scenes).index(scene.id)
            quality[new] = layer.quality
            still_open &= ~new
            canvas["expected_error"][new] = expected_error[new]
            if layer.optical and scene.terrain:
                hidden = np.zeros_like(targets)
                hidden[block] = targets[block] & np.isnan(found[1]).any(axis=0)
                hidden &= job.lattice.mask_of(scene.footprint, window)
                quality[hidden] = LAYOVER_OR_SHADOW
    for optical_id, sar_id in layer.refused:
        sar = next(scene for scene in layer.sar if scene.id == sar_id)
        abstained = still_open & job.lattice.mask_of(sar.footprint, window)
        if optical_id:
            abstained &= shown_by[optical_id]
        quality[abstained] = ABSTAINED


def _targets(layer: Layer, sar: Scene, shown_by: dict[str, Mask], still_open: Mask) -> Mask:
    """Open pixels that may take this SAR scene.

    Of a layer without optical scenes all, if the SAR scene was accepted. Else those of its accepted
    pairs; and, since a displacement reaches over the border between two SAR scenes, those of any
    other accepted optical scene with which it was not refused.
    """
    if not any(sar_id == sar.id for _, sar_id in layer.accepted):
        return np.zeros_like(still_open)
    if not layer.optical:
        return still_open.copy()
    trusted = {optical_id for optical_id, _ in layer.accepted}
    masks = [
        shown_by[scene.id]
        for scene in layer.optical
        if scene.id in trusted and (scene.id, sar.id) not in layer.refused
    ]
    return np.asarray(np.logical_or.reduce(masks) & still_open)


def _extent(window: Window) -> tuple[int, int, int, int]:
    """x0, y0, width, height."""
    return window.x0, window.y0, window.width, window.height


def _bounds(mask: Mask) -> tuple[slice, slice]:
    """The smallest block of rows and columns that holds every true pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
