"""Pass one, on the workers: tiles of both sensors become matches.

Tiles overlap by a halo and are composites of all scenes of their pass, so a tile on a scene border
sees both sides. What comes back is small; `fit_group` makes a field of it, once per group.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from distributed import Future

from catalog.archives.items import Scene
from catalog.errors import SceneReadError
from catalog.grid import Lattice, Window
from catalog.pixels.clearest import Composite
from catalog.pixels.composite import read_composite
from catalog.pixels.masks import CLEAR, hiding
from flows.cluster.stream import Done, stream
from flows.cluster.workers import Workers, load_registrar
from flows.plan.groups import Group, common_bands
from flows.plan.plan import Plan
from flows.progress import Bar
from flows.stages.group_matches import Collected, EngineSpan, GroupMatches, TileMatches
from tar_engine.errors import WeightsError
from tar_engine.fields.fit import fit
from tar_engine.fields.matches import Matches

Floats = npt.NDArray[np.float32]
Images = TypeVar("Images")


class Tiled(Protocol):
    """A tile of any kind: all that collecting asks of it."""

    @property
    def window(self) -> Window:
        """In lattice pixels; matches come in pixels of it."""

    @property
    def core(self) -> Window:
        """The part of it whose matches are kept."""


AnyTile = TypeVar("AnyTile", bound=Tiled)

TILE_PX = 512
HALO_PX = 64  # context on every side; matches found in it belong to the neighbouring tile
SURE_CONFIRMED = 0.75  # share of a tile's matches confirmed: needs no, or believes a, search
MOST_TILES_PER_JOB = 4
JOBS_ARE_MANY = 250
REMAINDER_PX = 8.0  # looked for around what is remembered: one round of windows reaches that far
LEAST_VALID_SHARE = 0.02  # of a tile's pixels seen by both sensors; less cannot be matched


@dataclass(frozen=True)
class Tile:
    """What is read (`window`, with halo) and what is kept (`core`) of one estimation tile.

    start: (2, rows, columns) float32, the displacement that is remembered at the centres of the
    window's cells of 16 px; None where nothing is, and the whole prior has to be searched.
    """

    window: Window
    core: Window
    optical: tuple[Scene, ...]
    sar: tuple[Scene, ...]
    optical_bands: tuple[str, ...]
    sar_bands: tuple[str, ...]
    start: Floats | None = None


@dataclass(frozen=True)
class TileImages:
    """Both sensors on one tile's window, (bands, H, W) with NaN nodata; and what would not read."""

    optical: Floats
    sar: Floats
    unreadable: dict[str, str]


def match_group(
    workers: Workers, plan: Plan, group: Group, tiles: Sequence[Tile], bar: Bar, found: Collected
) -> GroupMatches:
    """Match tiles of a group on the workers. Raises as `collect_matches` does."""
    match = partial(
        match_tiles,
        weights=plan.request.weights,
        weights_sha256=plan.weights_sha256,
        max_offset_px=plan.request.max_offset_px,
    )
    passes = " × ".join(group.passes)
    named = {f"{name_tile(tile.core)} of {passes}": tile for tile in tiles}
    return collect_matches(workers, plan.lattice, named, read_tiles, match, bar, found)


def collect_matches(
    workers: Workers,
    lattice: Lattice,
    tiles: Mapping[str, AnyTile],
    read: Callable[[Lattice, Sequence[AnyTile]], Images],
    match: Callable[[Sequence[AnyTile], Images], list[TileMatches]],
    bar: Bar,
    found: Collected,
) -> GroupMatches:
    """Read tiles, by their names, and match what was read, on the workers.

    Only matches come to this process. They are collected in `found`, by the tile's place, so that a
    second call after a lost scheduler goes on where the first one stopped. A tile that fails
    whoever tries it is left out and named in the result.

    Raises `DispatchError`, and `WeightsError` when workers have another checkpoint.
    """
    names, every = list(tiles), list(tiles.values())
    bar.expect(len(every))
    bar.advance(len(found))

    def submit(batch: Sequence[int]) -> Future[list[TileMatches]]:
        chosen = [every[place] for place in batch]
        images = workers.read_ahead(read, lattice, chosen)
        return workers.match(match, chosen, images)

    failed: dict[str, str] = {}
    batches: list[Sequence[int]] = [
        batch for batch in batch_tiles(len(every)) if any(place not in found for place in batch)
    ]
    while batches:
        singly: list[Sequence[int]] = []
        for batch, outcome in stream(workers, submit, batches):
            if isinstance(outcome, Done):
                tiles_of = zip(batch, outcome.result, strict=True)
                new = [(place, tile) for place, tile in tiles_of if place not in found]
                for place, tile in new:
                    found.add(place, tile)
                bar.advance(len(new))
            elif isinstance(outcome.error, WeightsError):
                raise outcome.error
            elif len(batch) > 1:  # one of them is to blame
                singly += [[place] for place in batch]
            else:
                failed[names[batch[0]]] = outcome.reason
                bar.advance()
        batches = singly
    return found.of_group(corners_of(every), failed)


def batch_tiles(count: int) -> list[range]:
    """Places that are read and matched as one job: of many, few at once; of few, one by one.

    A job costs the scheduler the same however many tiles it has; but the last ones should end
    together on all workers. Which tiles share a job depends on all of them, not on which are found
    already: else their last digits could differ after a restart.
    """
    size = min(MOST_TILES_PER_JOB, max(1, count // JOBS_ARE_MANY))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def corners_of(tiles: Sequence[Tiled]) -> list[tuple[int, int]]:
    """x, y of each tile's window in the lattice."""
    return [(tile.window.x0, tile.window.y0) for tile in tiles]


def name_tile(core: Window) -> str:
    """For people, and unique in a lattice."""
    return f"tile at column {core.x0}, row {core.y0}"


def group_tiles(lattice: Lattice, group: Group) -> tuple[Tile, ...]:
    """The estimation tiles that touch any pair's overlap, each with the scenes it needs."""
    overlaps = [lattice.window_of(pair.overlap) for pair in group.pairs]
    optical = [(scene, lattice.window_of(scene.footprint)) for scene in group.optical]
    sar = [(scene, lattice.window_of(scene.footprint)) for scene in group.sar]
    tiles = []
    for core in lattice.tiles(TILE_PX):
        if not any(part is not None and core.intersect(part) is not None for part in overlaps):
            continue
        window = window_around(core)
        tiles.append(
            Tile(
                window=window,
                core=core,
                optical=scenes_in(window, optical),
                sar=scenes_in(window, sar),
                optical_bands=common_bands(group.optical),
                sar_bands=common_bands(group.sar),
            )
        )
    return tuple(tiles)


def read_tile(lattice: Lattice, tile: Tile) -> TileImages:
    """Runs on a worker: both sensors' composites; a scene that cannot be read is left out."""
    unreadable: dict[str, str] = {}
    optical = _read_clear_ground(lattice, tile.window, tile.optical, tile.optical_bands, unreadable)
    sar = _read_clear_ground(lattice, tile.window, tile.sar, tile.sar_bands, unreadable)
    return TileImages(optical, sar, unreadable)


def read_tiles(lattice: Lattice, tiles: Sequence[Tile]) -> list[TileImages]:
    """Runs on a worker: `read_tile` for each."""
    return [read_tile(lattice, tile) for tile in tiles]


def match_tiles(
    tiles: Sequence[Tile], images: Sequence[TileImages], **options: Any
) -> list[TileMatches]:
    """Runs on a worker that offers GPU: `match_tile` for each."""
    each = zip(tiles, images, strict=True)
    return [match_tile(tile, both, **options) for tile, both in each]


def match_tile(
    tile: Tile,
    images: TileImages,
    *,
    weights: Path | None,
    weights_sha256: str | None = None,
    max_offset_px: float,
) -> TileMatches:
    """Runs on a worker that offers GPU: the matches inside the tile's core.

    From what is remembered only a pass's own remainder is looked for. Else the georeference is
    tried first; where many of its matches are not confirmed, SAR may lie further off or be turned,
    and the whole tile is searched. Returns the matches with the scenes that could not be read. One
    tile fills a GPU; more at once would only cost memory.

    Raises `WeightsError` when the checkpoint on this worker is not `weights_sha256`.
    """
    if not _worth_matching(images):
        return TileMatches.of(Matches.concatenate(()), images.unreadable)
    started = time.monotonic()
    engine = load_registrar(weights, weights_sha256)
    optical, sar = torch.from_numpy(images.optical)[None], torch.from_numpy(images.sar)[None]
    if tile.start is not None:
        start, reach_px = torch.from_numpy(tile.start)[None], REMAINDER_PX
        matches = engine.match_batch(optical, sar, max_offset_px=reach_px, start=start).of_pair(0)
    else:
        matches = engine.match_batch(optical, sar, max_offset_px=max_offset_px).of_pair(0)
    if tile.start is None and matches.confirmed_share < SURE_CONFIRMED:
        searched = engine.match_batch(optical, sar).of_pair(0)
        sure = searched.confirmed_share >= SURE_CONFIRMED  # against the georeference, be sure
        if sure and fit(searched).verdict.accepted:
            matches = searched
    matches = settle_rivals(matches)
    in_lattice = matches.optical_xy + np.array([tile.window.x0, tile.window.y0])
    kept = np.isfinite(matches.error_px) & is_inside(tile.core, in_lattice)
    span = EngineSpan(f"{socket.gethostname()}:{os.getpid()}", started, time.monotonic())
    return TileMatches.of(matches.select(kept), images.unreadable, span)


def settle_rivals(matches: Matches) -> Matches:
    """A tile's matches without confidence where it would be believed, but fits elsewhere as well.

    The tiles around it tell where such ground lies. A tile that is only weak has rivals by chance:
    it stays as it is, for its group to judge.
    """
    if not np.isfinite(matches.rivals()).any():
        return matches
    if np.isfinite(fit(matches).verdict.rival_px):
        return matches.without_doubted()
    return replace(matches, rival_px=None)


def window_around(core: Window) -> Window:
    """What is read for a tile: its core and the halo. Cores are cut off at the lattice's far edges;
    windows are not, the engine likes one size."""
    side = TILE_PX + 2 * HALO_PX
    return Window(core.y0 - HALO_PX, core.x0 - HALO_PX, side, side)


def scenes_in(window: Window, scenes: Sequence[tuple[Scene, Window | None]]) -> tuple[Scene, ...]:
    return tuple(s for s, part in scenes if part is not None and part.intersect(window) is not None)


def _read_clear_ground(
    lattice: Lattice,
    window: Window,
    scenes: Sequence[Scene],
    bands: Sequence[str],
    unreadable: dict[str, str],
) -> Floats:
    """`read_what_can_be_read`, less what clouds and shadows hide: it would match nothing."""
    shown = read_what_can_be_read(lattice, window, scenes, bands, unreadable)
    np.copyto(shown.values, np.nan, where=hiding(shown.optical_class) != CLEAR)
    return shown.values


def read_what_can_be_read(
    lattice: Lattice,
    window: Window,
    scenes: Sequence[Scene],
    bands: Sequence[str],
    unreadable: dict[str, str],
) -> Composite:
    """The composite of the scenes that can be read; the others go into `unreadable`."""
    try:
        return read_composite(scenes, lattice, window, bands)
    except SceneReadError as error:
        others = [scene for scene in scenes if scene.id != error.scene_id]
        if len(others) == len(scenes):
            raise
        unreadable[error.scene_id] = str(error)
        return read_what_can_be_read(lattice, window, others, bands, unreadable)


def _worth_matching(image: TileImages) -> bool:
    both = np.isfinite(image.optical).all(axis=0) & np.isfinite(image.sar).all(axis=0)
    return bool(both.mean() >= LEAST_VALID_SHARE)


def is_inside(window: Window, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which positions (N, 2) fall in the window's pixels; borders belong to one window only."""
    x, y = xy[:, 0] + 0.5 - window.x0, xy[:, 1] + 0.5 - window.y0
    return np.asarray((x >= 0) & (x < window.width) & (y >= 0) & (y < window.height))
