"""Radar held to radar: where a SAR pass lies on the ground, by the reference image of its geometry.

Clouds do not matter to it. The reference has half the lattice's resolution, which tells a pass's
shift and tilt to a twentieth of a pixel, at a quarter of the cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from catalog.archives.items import Scene
from catalog.grid import Lattice, Window
from catalog.memory.encoding import db_from_codes
from catalog.memory.layout import REFERENCE_FACTOR as SIZE
from catalog.memory.store import MemoryStore
from flows.cluster.workers import Workers, load_registrar
from flows.memory.recall import SAMPLED, Remembered, knows, start_of
from flows.plan.plan import Plan
from flows.progress import Bar
from flows.stages.group_matches import Collected, GroupMatches, TileMatches
from flows.stages.match import (
    LEAST_VALID_SHARE,
    REMAINDER_PX,
    TILE_PX,
    collect_matches,
    is_inside,
    name_tile,
    read_what_can_be_read,
    scenes_in,
    window_around,
)
from flows.stages.slices import SliceShifts, find_slice_shifts, without_slice_shifts
from tar_engine.config import FitConfig
from tar_engine.fields.field import Field
from tar_engine.fields.fit import Verdict, fit
from tar_engine.fields.matches import Matches
from tar_engine.fields.nodes import MATCH_SPACING_PX

Floats = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

MOST_TILES = 3  # that are all matched
REMAINDER = FitConfig(stiffness=())  # a pass differs from memory by a shift or a tilt
LEAST_POWER = 1e-6  # of linear SAR, below which there is nothing to take the logarithm of


@dataclass(frozen=True)
class RadarTile:
    """A tile of one SAR pass and of its reference; windows in pixels of the lattice."""

    window: Window
    core: Window
    sar: tuple[Scene, ...]
    store: MemoryStore
    version: str
    band: str
    decibel: bool
    start: Floats


@dataclass(frozen=True)
class RadarImages:
    """(1, H, W) decibels at half the lattice's resolution, NaN for no data; what would not read."""

    reference: Floats
    sar: Floats
    unreadable: dict[str, str]


@dataclass(frozen=True)
class PassPosition:
    """How far a SAR pass lies from the ground: an affine beyond its field, if it could be told.

    slice_shifts: what slices of it lie off beside that, by scene id.
    """

    verdict: Verdict
    beyond: Field
    slice_shifts: SliceShifts = dataclasses.field(default_factory=dict)

    @property
    def affine(self) -> Float64:
        """(2, 3) displacement: linear part times (x, y), plus shift, pixels."""
        return self.beyond.affine - np.eye(2, 3)


def radar_tiles(
    lattice: Lattice, sar: Sequence[Scene], remembered: Remembered
) -> tuple[RadarTile, ...]:
    """The tiles that a pass and the known ground share; of many every other."""
    parts = [(scene, lattice.window_of(scene.footprint)) for scene in sar]
    field = remembered.field
    tiles = []
    for core in lattice.tiles(TILE_PX):
        window = window_around(core)
        mine = scenes_in(window, parts)
        if mine and knows(remembered.ground, core):
            tiles.append((window, core, mine))
    if len(tiles) > MOST_TILES:
        tiles = [each for each in tiles if (each[1].y0 + each[1].x0) // TILE_PX % SAMPLED == 0]
    return tuple(
        RadarTile(
            window=window,
            core=core,
            sar=mine,
            store=remembered.store,
            version=remembered.version,
            band=remembered.band,
            decibel=remembered.decibel,
            start=start_of(field, window, MATCH_SPACING_PX * SIZE) / np.float32(SIZE),
        )
        for window, core, mine in tiles
    )


def match_pass(
    workers: Workers, plan: Plan, tiles: Sequence[RadarTile], bar: Bar, found: Collected
) -> GroupMatches:
    """Match tiles of a SAR pass with its reference, on the workers.

    Raises as `collect_matches` does.
    """
    match = partial(
        match_radar_tiles, weights=plan.request.weights, weights_sha256=plan.weights_sha256
    )
    passed = tiles[0].sar[0].pass_key if tiles else ""
    named = {f"{name_tile(tile.core)} of {passed}, radar to radar": tile for tile in tiles}
    return collect_matches(workers, plan.lattice, named, read_radar_tiles, match, bar, found)


def locate_pass(
    sar: Sequence[Scene], matches: Matches, remembered: Remembered, lattice: Lattice
) -> PassPosition:
    """Where a pass lies, by its matches (lattice pixels) with the reference."""
    beyond = less(matches, remembered.field)
    shifts = find_slice_shifts(sar, beyond, lattice)
    found = fit(without_slice_shifts(sar, beyond, shifts, lattice), REMAINDER)
    return PassPosition(found.verdict, found.field, shifts)


def less(matches: Matches, known: Field) -> Matches:
    """The matches as they would be without what is known of the displacement."""
    return Matches(
        matches.optical_xy,
        matches.sar_xy - known.at(matches.optical_xy),
        matches.confidence,
        matches.error_px,
    )


def read_radar_tiles(lattice: Lattice, tiles: Sequence[RadarTile]) -> list[RadarImages]:
    """Runs on a worker: reference and pass, tile by tile."""
    return [read_radar_tile(lattice, tile) for tile in tiles]


def read_radar_tile(lattice: Lattice, tile: RadarTile) -> RadarImages:
    """Runs on a worker: both images at half resolution; a scene that cannot be read is left out."""
    unreadable: dict[str, str] = {}
    shown = read_what_can_be_read(lattice, tile.window, tile.sar, [tile.band], unreadable).values
    half = Window(*(each // SIZE for each in (tile.window.y0, tile.window.x0, *tile.window.shape)))
    codes = tile.store.read_reference(tile.version, half)
    sar = halve(in_decibels(shown[0], decibel=tile.decibel))
    return RadarImages(db_from_codes(codes)[None], sar[None], unreadable)


def match_radar_tiles(
    tiles: Sequence[RadarTile], images: Sequence[RadarImages], **options: Any
) -> list[TileMatches]:
    """Runs on a worker that offers GPU: `match_radar_tile` for each."""
    return [match_radar_tile(*each, **options) for each in zip(tiles, images, strict=True)]


def match_radar_tile(
    tile: RadarTile,
    images: RadarImages,
    *,
    weights: Path | None,
    weights_sha256: str | None = None,
) -> TileMatches:
    """Runs on a worker that offers GPU: the matches inside the tile's core, lattice pixels.

    Raises `WeightsError` when the checkpoint on this worker is not `weights_sha256`.
    """
    both = np.isfinite(images.reference) & np.isfinite(images.sar)
    if both.mean() < LEAST_VALID_SHARE:
        return TileMatches.of(Matches.concatenate(()), images.unreadable)
    engine = load_registrar(weights, weights_sha256)
    found = engine.match_batch(
        torch.from_numpy(images.reference)[None],
        torch.from_numpy(images.sar)[None],
        max_offset_px=REMAINDER_PX,
        of_reference="sar",
        start=torch.from_numpy(tile.start)[None],
    ).of_pair(0)
    centre = (SIZE - 1) / 2  # of a pixel of the reference, in pixels of the lattice
    matches = Matches(
        found.optical_xy * SIZE + centre,
        found.sar_xy * SIZE + centre,
        found.confidence,
        found.error_px * SIZE,
    )
    in_lattice = matches.optical_xy + np.array([tile.window.x0, tile.window.y0])
    kept = np.isfinite(matches.error_px) & is_inside(tile.core, in_lattice)
    return TileMatches.of(matches.select(kept), images.unreadable)


def in_decibels(sar: Floats, *, decibel: bool) -> Floats:
    """SAR as decibels, whichever of the two it comes in."""
    if decibel:
        return sar
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(np.maximum(sar, LEAST_POWER)), np.float32)


def halve(image: Floats) -> Floats:
    """(H, W) averaged over squares of 2 px; NaN where any of them is. Sides are even."""
    height, width = image.shape
    squares = image.reshape(height // SIZE, SIZE, width // SIZE, SIZE)
    return np.asarray(squares.mean(axis=(1, 3)), np.float32)
