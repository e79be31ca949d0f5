"""A scene's pixels: on the lattice, or in its own grid with the way there.

Everything comes back as float32 in physical values, NaN where there is no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Asset, Numbers, Scene
from catalog.archives.providers import ELEVATION
from catalog.archives.reach import is_local
from catalog.errors import ArgumentError, SceneReadError, raise_portably, shown
from catalog.grid import Lattice, Window
from catalog.pixels.clearest import show_clearest
from catalog.pixels.positions import (
    Grid,
    crop_around,
    grid_of,
    raster_from_lattice,
    same_grid,
    window_around,
)
from catalog.pixels.radar import read_radar_crop
from catalog.pixels.rasters import (
    Crop,
    check_blocks,
    has_padding_to_keep_out,
    read_asset,
    read_crop,
    read_on_grid,
)
from catalog.pixels.relief import (
    radar_from_lattice,
    range_doppler_from_lattice,
    view_by_control_points,
    view_by_range_doppler,
)
from catalog.pixels.resample import resample_bilinear
from catalog.sentinel1 import geoid
from catalog.sentinel1.annotation import AnnotationError
from catalog.sentinel1.calibration import sigma_table
from catalog.sentinel1.gcps import GcpGrid, gcp_grid_of, has_only_gcps
from catalog.sentinel1.noise import noise_table
from catalog.sentinel1.range_doppler import RangeDoppler, range_doppler_of
from catalog.sentinel1.terrain import LookGeometry, look_geometry

# Footprints are rounded by their authors: pixels this close to one are worth a look.
FOOTPRINT_MARGIN_PX = 2
PROBE_PX = 16


def read_scene(
    scene: Scene, lattice: Lattice, window: Window, bands: Sequence[str]
) -> NDArray[np.float32] | None:
    """One scene resampled to a window of the lattice, which the window may leave.

    Returns float32 (bands, H, W), bilinear, NaN for no data; where the scene's grid is the
    lattice's, the file's pixels to the bit. None when the scene does not reach the window.

    Raises SceneReadError when it cannot be read.
    """
    if not _may_touch(scene, lattice, window):
        return None
    geobox = lattice.window_geobox(window)
    placed: dict[Grid, NDArray[np.float64]] = {}  # assets share their grid, and the way is long

    def read(asset: Asset, indexes: list[int], source: DatasetReader) -> NDArray[np.float32]:
        if not (has_only_gcps(source) or has_padding_to_keep_out(source, asset, geobox)):
            return read_on_grid(source, asset, indexes, geobox)
        grid = grid_of(source)
        if grid not in placed:
            placed[grid] = _raster_positions(scene, asset, grid, lattice, window.positions())
        crop = crop_around(placed[grid], grid.shape)
        if crop is None:
            return np.full((len(indexes), *window.shape), np.nan, np.float32)
        values = _read_crop(source, scene, asset, indexes, crop)
        return resample_bilinear(values, crop.crop_from_raster(placed[grid]))

    return np.concatenate(
        [
            read_asset(scene, asset, partial(read, asset, indexes))
            for asset, indexes in assets_of(scene, bands)
        ]
    )


def source_window(
    scene: Scene,
    lattice: Lattice,
    positions_xy: NDArray[np.float64],
    bands: Sequence[str] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
    """The part of a scene's own grid that lattice positions fall on, for one exact resampling.

    `positions_xy` is float64 (2, H, W): lattice pixel coordinates, not necessarily integer, NaN
    where unknown. Returns `values`, float32 (bands, h, w) in the source grid, and
    `source_xy`, float64 (2, H, W): where in `values` each position falls, pixel centres at
    integers. None when no position falls on the raster.

    A source grid at least twice as fine as the lattice is averaged down by a whole factor first,
    so that resampling neither aliases nor reads more than the lattice can show.

    Raises SceneReadError when the scene cannot be read or its assets are on different grids.
    """
    by_asset = assets_of(scene, bands or scene.bands)
    around = window_around(positions_xy)
    if around is None or not _may_touch(scene, lattice, around):
        return None
    grids = {asset.key: read_asset(scene, asset, grid_of) for asset, _ in by_asset}
    first, *others = grids.values()
    if not all(same_grid(first, other) for other in others):
        raise SceneReadError(
            f"scene {scene.id}: its assets {', '.join(grids)} are on different pixel grids, so "
            "they cannot be resampled together",
            scene_id=scene.id,
            href=shown(by_asset[0][0].href),
        )
    raster_xy = _raster_positions(scene, by_asset[0][0], first, lattice, positions_xy)
    crop = crop_around(raster_xy, first.shape)
    if crop is None:
        return None
    values = [
        read_asset(
            scene, asset, partial(_read_crop, scene=scene, asset=asset, indexes=indexes, crop=crop)
        )
        for asset, indexes in by_asset
    ]
    return np.concatenate(values), crop.crop_from_raster(raster_xy)


def probe(scene: Scene) -> Scene:
    """Open every asset of a scene and read its middle and its last pixels; of local files, all.

    Finds scenes that are missing, truncated or without georeference while planning, at the price
    of a few small requests; and files that are damaged somewhere, where reading them is cheap.
    Returns the scene, its assets with what their files hold, and what its DEM is above. Raises
    SceneReadError.
    """
    masks = [] if scene.mask is None else [(scene.mask.asset, [1])]
    found = {
        asset.key: read_asset(
            scene, asset, partial(_probe, scene=scene, asset=asset, indexes=indexes)
        )
        for asset, indexes in [*assets_of(scene, scene.bands), *masks]
    }
    for tile in scene.terrain:
        for asset in tile.assets:
            read_asset(tile, asset, grid_of)
    assets = tuple(replace(asset, found=found.get(asset.key)) for asset in scene.assets)
    scene = replace(scene, assets=assets)
    return replace(scene, geoid=_known_geoid(scene) if _is_placed_by_dem(scene) else None)


def odd_heights(scene: Scene) -> str | None:
    """What is odd about the heights that a probed scene is placed by, None where nothing is."""
    return geoid.UNKNOWN if scene.geoid is None and _is_placed_by_dem(scene) else None


def assets_of(scene: Scene, bands: Sequence[str]) -> list[tuple[Asset, list[int]]]:
    """The assets that hold `bands`, with 1-based band indexes, together in the order asked."""
    where = {
        band: (asset, index)
        for asset in scene.assets
        for index, band in enumerate(asset.bands, start=1)
    }
    missing = [band for band in bands if band not in where]
    if missing or not bands:
        raise ArgumentError(
            f"scene {scene.id} has no band {', '.join(missing) or 'at all'}; it has: "
            f"{', '.join(scene.bands) or 'none'}",
            argument="bands",
        )
    grouped: list[tuple[Asset, list[int]]] = []
    for band in bands:
        asset, index = where[band]
        if grouped and grouped[-1][0] is asset:
            grouped[-1][1].append(index)
        else:
            grouped.append((asset, [index]))
    return grouped


def _may_touch(scene: Scene, lattice: Lattice, window: Window) -> bool:
    near = window.expand(FOOTPRINT_MARGIN_PX)
    block = shapely.box(near.x0 - 0.5, near.y0 - 0.5, near.x1 - 0.5, near.y1 - 0.5)
    outline = _outline(scene.footprint, lattice.transform, str(lattice.geobox.crs))
    return bool(outline.intersection(block).area > 0)


@lru_cache(maxsize=256)
def _outline(footprint: BaseGeometry, transform: tuple[float, ...], crs: str) -> BaseGeometry:
    """A footprint in pixels of a lattice, the same for every window.

    By what makes it, because comparing whole lattices takes longer than a window has time.
    """
    return Lattice(GeoBox((1, 1), Affine(*transform), crs)).outline_of(footprint)


def _raster_positions(
    scene: Scene,
    asset: Asset,
    grid: Grid,
    lattice: Lattice,
    positions_xy: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Raster pixel coordinates of lattice positions, both (2, H, W), relief and all."""
    if not isinstance(grid, GcpGrid):
        return raster_from_lattice(lattice, grid, positions_xy)
    geometry = _range_doppler(scene, asset, grid.shape)
    if not scene.terrain:
        if geometry is None:
            return raster_from_lattice(lattice, grid, positions_xy)
        return range_doppler_from_lattice(lattice, geometry, positions_xy)

    def heights(window: Window) -> NDArray[np.float32]:
        try:
            return show_clearest(
                scene.terrain, lattice, window, (ELEVATION,), read_scene
            ).values.squeeze(axis=0)
        except SceneReadError as error:  # it is this scene that cannot be read without it
            raise_portably(_unreadable(scene, error.href, f"its terrain, {error}"), cause=error)

    undulation = _undulation(scene)
    view = (
        view_by_control_points(lattice, grid, _look_geometry(scene, asset, grid), undulation)
        if geometry is None
        else view_by_range_doppler(lattice, geometry, undulation)
    )
    return radar_from_lattice(view, heights, positions_xy)


def _range_doppler(scene: Scene, asset: Asset, shape: tuple[int, int]) -> RangeDoppler | None:
    """What the annotation of an image in radar geometry tells, None where it has none."""
    if asset.annotation is None:
        return None
    try:
        geometry = range_doppler_of(asset.annotation, asset.access, scene.orbit_file)
    except AnnotationError as error:
        raise _unreadable(scene, shown(asset.annotation), str(error)) from error
    if geometry.shape != shape:
        raise _unreadable(
            scene,
            shown(asset.href),
            f"{shown(asset.href)} has {shape[0]} lines of {shape[1]} pixels, and its annotation "
            f"{shown(asset.annotation)} tells of {geometry.shape[0]} of {geometry.shape[1]}",
        )
    return geometry


def _look_geometry(scene: Scene, asset: Asset, grid: GcpGrid) -> LookGeometry:
    try:
        return look_geometry(grid)
    except ValueError as error:
        raise _unreadable(scene, shown(asset.href), f"{shown(asset.href)} {error}") from error


def _is_placed_by_dem(scene: Scene) -> bool:
    found = (asset.found for asset in scene.assets)
    return bool(scene.terrain) and any(each and each.in_radar_geometry for each in found)


def _known_geoid(scene: Scene) -> str | None:
    """What a scene's DEM is above, by the first of its tiles, if PROJ knows how far that is."""
    tile = scene.terrain[0]
    vertical = read_asset(tile, tile.assets[0], _vertical_of)
    return None if geoid.undulation_of(vertical) is None else vertical


def _undulation(scene: Scene) -> geoid.Undulation:
    """Of what a scene's DEM is above, as it was when the scene was probed."""
    if scene.geoid is None:
        return geoid.no_undulation
    known = geoid.undulation_of(scene.geoid)
    if known is None:
        raise _unreadable(
            scene,
            scene.terrain[0].id,
            f"PROJ has no grid of {scene.geoid} here, and had one where this was planned",
        )
    return known


def _vertical_of(dem: DatasetReader) -> str:
    return geoid.vertical_of(pyproj.CRS.from_wkt(dem.crs.to_wkt()))


def _read_crop(
    source: DatasetReader, scene: Scene, asset: Asset, indexes: list[int], crop: Crop
) -> NDArray[np.float32]:
    """Bands of a part of a raster in its own grid, whatever kind of grid: (bands, h, w)."""
    if not has_only_gcps(source):
        return read_crop(source, asset, indexes, crop)
    if asset.calibration is None:
        return read_radar_crop(source, asset, indexes, crop)
    try:
        table = sigma_table(asset.calibration, asset.access)
        noise = None if asset.noise is None else noise_table(asset.noise, asset.access)
    except AnnotationError as error:  # which names the file
        raise _unreadable(scene, shown(asset.calibration), str(error)) from error
    if noise is not None:
        geometry = _range_doppler(scene, asset, source.shape)
        if geometry is not None and geometry.noise_removed:
            noise = None
    return read_radar_crop(source, asset, indexes, crop, table, noise)


def _unreadable(scene: Scene, href: str, why: str) -> SceneReadError:
    return SceneReadError(f"scene {scene.id}: {why}", scene_id=scene.id, href=href)


def _probe(source: DatasetReader, scene: Scene, asset: Asset, indexes: list[int]) -> Numbers:
    height, width = source.shape
    for y0, x0 in ((height // 2, width // 2), (height - PROBE_PX, width - PROBE_PX)):
        crop = Crop(max(0, y0), max(0, x0), min(PROBE_PX, height), min(PROBE_PX, width))
        _read_crop(source, scene, asset, indexes, crop)
    in_radar_geometry = has_only_gcps(source)
    if in_radar_geometry:
        geometry = _range_doppler(scene, asset, source.shape)
        if scene.terrain and geometry is None:
            _look_geometry(scene, asset, gcp_grid_of(source))
    if is_local(asset.href):
        check_blocks(source)
    return Numbers(str(np.result_type(*source.dtypes)), source.nodata, in_radar_geometry)
