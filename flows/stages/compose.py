"""Pass two: one shard of the mosaic, from the scenes' own pixels to the store, in one write.

SAR is resampled once, straight from its source grid through the displacement field. Scenes fill
the shard in their group's order, the order in which the tiles were matched.
"""

from __future__ import annotations

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
    NO_SAR,
    NO_SCENE,
    REGISTERED,
    SlotSchema,
    optical_packing,
)
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from flows.plan.generation import SlotPlan
from flows.plan.groups import Group
from flows.stages.fit import GroupEstimate
from tar_engine.fields.field import Field

BLOCK_PX = 1024  # composed at a time: a shard's positions in double precision take memory

Mask = npt.NDArray[np.bool_]

Canvas = dict[str, npt.NDArray[Any]]
"""The arrays (H, W) of a shard by variable, while they fill up."""


@dataclass(frozen=True)
class Layer:
    """What one group contributes: its scenes in order, its field, and what became of its pairs."""

    optical: tuple[Scene, ...]
    sar: tuple[Scene, ...]
    field: Field | None
    error_px: dict[tuple[str, str], float]  # expected error of the accepted pairs
    refused: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class ShardJob:
    """Everything a worker needs to write one shard."""

    store: SlotStore
    lattice: Lattice
    shard: Shard
    layers: tuple[Layer, ...]
    schema: SlotSchema


def layers_of(groups: Sequence[Group], estimates: Sequence[GroupEstimate]) -> tuple[Layer, ...]:
    """One layer per group, in the groups' order."""
    layers = []
    for group, estimate in zip(groups, estimates, strict=True):
        accepted = {
            (v.optical, v.sar): v.expected_error_px for v in estimate.verdicts if v.accepted
        }
        refused = frozenset((v.optical, v.sar) for v in estimate.verdicts if not v.accepted)
        layers.append(Layer(group.optical, group.sar, estimate.field, accepted, refused))
    return tuple(layers)


def slot_schema(slot: SlotPlan) -> SlotSchema:
    """What the mosaic of a day holds per pixel: classes too where some optical scene has a mask."""
    masks = [scene.mask for group in slot.groups for scene in group.optical]
    classes = any(mask is not None for mask in masks)
    packings = {band: optical_packing(_assets_of(slot, band)) for band in slot.optical_bands}
    return SlotSchema(
        slot.optical_bands, slot.sar_bands, slot.sar_scenes, slot.optical_scenes, classes,
        {band: packing for band, packing in packings.items() if packing is not None},
    )  # fmt: skip


def _assets_of(slot: SlotPlan, band: str) -> list[Asset]:
    """The files that hold an optical band, of all scenes of the day."""
    scenes = [scene for group in slot.groups for scene in group.optical]
    return [asset for scene in scenes for asset, _ in assets_of(scene, (band,))]


def slot_shards(lattice: Lattice, groups: Sequence[Group]) -> tuple[Shard, ...]:
    """The shards that some pair touches; the others stay unwritten and read as nodata."""
    parts = [lattice.window_of(scene.footprint) for group in groups for scene in group.optical]
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
        canvas["quality"][np.isin(canvas["optical_class"], CLOUDY)] = CLOUD


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
    """Register the layer's SAR scenes to the optical pixels that are still without SAR."""
    window, quality = job.shard.window, canvas["quality"]
    if layer.field is not None:
        displacement = layer.field.displacement(window.x0, window.y0, window.width, window.height)
        positions = window.positions() + displacement
        for scene in layer.sar:
            targets = _targets(layer, scene, shown_by) & (quality == NO_SAR)
            if not targets.any():
                continue
            block = _bounds(targets)
            found = source_window(scene, job.lattice, positions[:, *block], job.schema.sar_bands)
            if found is None:
                continue
            image = resample(*found)
            new = np.zeros_like(targets)
            new[block] = targets[block] & np.isfinite(image).all(axis=0)
            for band, values in zip(job.schema.sar_bands, image, strict=True):
                canvas[band][new] = values[new[block]]
            canvas["dx"][new], canvas["dy"][new] = displacement[:, new]
            canvas["sar_scene"][new] = NO_SCENE + 1 + list(job.schema.sar_scenes).index(scene.id)
            quality[new] = REGISTERED
            _fill_expected_error(canvas, layer, scene, shown_by, new)
    for optical_id, sar_id in layer.refused:
        sar = next(scene for scene in layer.sar if scene.id == sar_id)
        abstained = shown_by[optical_id] & job.lattice.mask_of(sar.footprint, window)
        quality[abstained & (quality == NO_SAR)] = ABSTAINED


def _targets(layer: Layer, sar: Scene, shown_by: dict[str, Mask]) -> Mask:
    """Pixels of optical scenes that may take this SAR scene.

    Those of its accepted pairs; and, since a displacement reaches over the border between two SAR
    scenes, those of any other accepted optical scene with which it was not refused.
    """
    trusted = {optical_id for optical_id, _ in layer.error_px}
    masks = [
        shown_by[scene.id]
        for scene in layer.optical
        if scene.id in trusted and (scene.id, sar.id) not in layer.refused
    ]
    if not masks or not any(sar_id == sar.id for _, sar_id in layer.error_px):
        return np.zeros(next(iter(shown_by.values())).shape, dtype=np.bool_)
    return np.asarray(np.logical_or.reduce(masks))


def _bounds(mask: Mask) -> tuple[slice, slice]:
    """The smallest block of rows and columns that holds every true pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _fill_expected_error(
    canvas: Canvas, layer: Layer, sar: Scene, shown_by: dict[str, Mask], new: Mask
) -> None:
    """The error expected of the pair; over a border, the worst of the optical scene's pairs."""
    for scene in layer.optical:
        of_scene = {key: error for key, error in layer.error_px.items() if key[0] == scene.id}
        if of_scene:
            error = of_scene.get((scene.id, sar.id), max(of_scene.values()))
            canvas["expected_error"][new & shown_by[scene.id]] = error
