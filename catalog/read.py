"""A scene's pixels: on the lattice, or in its own grid with the way there.

Everything comes back as float32 in physical values, NaN where there is no data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from urllib.parse import urlsplit

import dask.array as da
import numpy as np
import pyproj
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import shapely
import xarray as xr
from affine import Affine
from dask.delayed import delayed
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from scipy.ndimage import map_coordinates
from shapely.geometry.base import BaseGeometry

from catalog.errors import ArgumentError, SceneReadError, shown
from catalog.grid import Lattice, Window
from catalog.items import Asset, Scene
from catalog.masks import CLEAR, hiding, optical_classes
from catalog.rasters import (
    Crop,
    RasterGrid,
    attempt,
    check_blocks,
    grid_of,
    read_crop,
    read_on_grid,
)

# `source_window` interpolates the projection between nodes while it stays this exact.
MAPPING_TOLERANCE_PX = 0.01
MAPPING_STEPS_PX = (64, 16)
# Pixels around the source window for the support of the caller's resampling kernel.
SOURCE_MARGIN_PX = 4
# Footprints are rounded by their authors: pixels this close to one are worth a look.
FOOTPRINT_MARGIN_PX = 2
PROBE_PX = 16


def scene_on_lattice(
    scene: Scene,
    lattice: Lattice,
    window: Window | None = None,
    bands: Sequence[str] | None = None,
) -> xr.DataArray:
    """A scene resampled to the lattice, lazily: float32 (band, y, x), NaN for no data.

    Chunks are shards of the window (the whole lattice by default). Resampling is bilinear; where
    the scene's grid is the lattice's, pixels are the file's to the bit. Reading happens on
    compute and raises SceneReadError there.
    """
    window = window or lattice.window
    names = tuple(bands or scene.bands)
    _assets_of(scene, names)  # an unknown band is an error now, not on compute
    side = lattice.shard_px
    rows = [
        [
            da.from_delayed(
                delayed(_read_scene)(scene, lattice, block, names),
                shape=(len(names), *block.shape),
                dtype=np.float32,
            )
            for x0 in range(window.x0, window.x1, side)
            if (block := window.intersect(Window(y0, x0, side, side))) is not None
        ]
        for y0 in range(window.y0, window.y1, side)
    ]
    x, y = lattice.centres(window)
    array = xr.DataArray(
        da.block(rows),
        dims=("band", "y", "x"),
        coords={"band": list(names), "y": y, "x": x},
        name=scene.id,
    )
    located: xr.DataArray = array.rio.write_crs(lattice.crs)
    return located


def read_window(
    scenes: Sequence[Scene],
    lattice: Lattice,
    window: Window,
    bands: Sequence[str],
    *,
    clear_only: bool = False,
) -> NDArray[np.float32]:
    """The scenes composited on a window: float32 (bands, H, W), NaN where none has data.

    Each pixel comes whole from the first scene, in the order given, that has data there; with
    `clear_only`, data that no cloud, shadow or broken pixel hides. The window may leave the
    lattice.

    Raises SceneReadError for the first scene that cannot be read.
    """
    composite: NDArray[np.float32] | None = None
    for scene in scenes:
        if not _may_touch(scene, lattice, window):
            continue
        empty = None if composite is None else np.isnan(composite).all(axis=0)
        if empty is not None and not empty.any():
            break
        values = _read_scene(scene, lattice, window, bands)
        if clear_only and scene.mask is not None:
            hidden = hiding(optical_classes(scene, lattice, window)) != CLEAR
            np.copyto(values, np.nan, where=hidden)
        if composite is None or empty is None:
            composite = values
        else:
            np.copyto(composite, values, where=empty)
    if composite is None:
        return np.full((len(bands), *window.shape), np.nan, dtype=np.float32)
    return composite


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
    by_asset = _assets_of(scene, bands or scene.bands)
    around = _window_around(positions_xy)
    if around is None or not _may_touch(scene, lattice, around):
        return None
    grids = {asset.key: attempt(scene, asset, grid_of) for asset, _ in by_asset}
    first, *others = grids.values()
    if any(other != first for other in others):
        raise SceneReadError(
            f"scene {scene.id}: its assets {', '.join(grids)} are on different pixel grids, so "
            "they cannot be resampled together",
            scene_id=scene.id,
            href=shown(by_asset[0][0].href),
        )
    raster_xy = _raster_from_lattice(lattice, first, positions_xy)
    crop = _crop_around(raster_xy, first.shape)
    if crop is None:
        return None
    values = [
        attempt(scene, asset, partial(read_crop, asset=asset, indexes=indexes, crop=crop))
        for asset, indexes in by_asset
    ]
    return np.concatenate(values), crop.crop_from_raster(raster_xy)


def probe(scene: Scene) -> None:
    """Open every asset of a scene and read its middle and its last pixels; of local files, all.

    Finds scenes that are missing, truncated or without georeference while planning, at the price
    of a few small requests; and files that are damaged somewhere, where reading them is cheap.
    Raises SceneReadError.
    """
    masks = [] if scene.mask is None else [(scene.mask.asset, [1])]
    for asset, indexes in [*_assets_of(scene, scene.bands), *masks]:
        attempt(scene, asset, partial(_probe, asset=asset, indexes=indexes))


def _assets_of(scene: Scene, bands: Sequence[str]) -> list[tuple[Asset, list[int]]]:
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


def _window_around(positions_xy: NDArray[np.float64]) -> Window | None:
    """The smallest window that holds all known positions (2, H, W), None when none is known."""
    flat = positions_xy.reshape(2, -1)
    low, high = np.fmin.reduce(flat, axis=1), np.fmax.reduce(flat, axis=1)  # these pass over NaN
    if np.isinf([low, high]).any():
        raise ArgumentError("positions_xy has infinite values", argument="positions_xy")
    if np.isnan([low, high]).any():
        return None
    x0, y0 = np.floor(low).astype(int).tolist()
    x1, y1 = np.ceil(high).astype(int).tolist()
    return Window(y0, x0, y1 - y0 + 1, x1 - x0 + 1)


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


def _read_scene(
    scene: Scene, lattice: Lattice, window: Window, bands: Sequence[str]
) -> NDArray[np.float32]:
    """One scene resampled to a window of the lattice: float32 (bands, H, W)."""
    geobox = lattice.window_geobox(window)
    return np.concatenate(
        [
            attempt(
                scene, asset, partial(read_on_grid, asset=asset, indexes=indexes, geobox=geobox)
            )
            for asset, indexes in _assets_of(scene, bands)
        ]
    )


def _raster_from_lattice(
    lattice: Lattice, grid: RasterGrid, positions_xy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Raster pixel coordinates of lattice pixel coordinates, both float64 (2, H, W)."""
    same_crs = grid.crs.equals(lattice.crs, ignore_axis_order=True)
    project = pyproj.Transformer.from_crs(lattice.crs, grid.crs, always_xy=True)
    inverse = ~grid.transform

    def exact(xy_px: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = lattice.crs_from_px(xy_px)
        if not same_crs:
            x, y = project.transform(x, y)
        columns = inverse.a * x + inverse.b * y + inverse.c - 0.5
        rows = inverse.d * x + inverse.e * y + inverse.f - 0.5
        return np.stack([columns, rows])

    return exact(positions_xy) if same_crs else _interpolated(exact, positions_xy)


def _interpolated(
    exact: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    positions_xy: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A smooth mapping by bilinear interpolation between nodes, or exactly where that is off."""
    known = np.isfinite(positions_xy).all(axis=0)
    corner = np.fmin.reduce(positions_xy.reshape(2, -1), axis=1).reshape(2, 1, 1)
    x, y = np.where(known, positions_xy, corner) - corner
    for step in MAPPING_STEPS_PX:
        cells_x, cells_y = (int(axis.max() // step) + 1 for axis in (x, y))
        if 4 * cells_x * cells_y >= x.size:
            break  # no cheaper than mapping every position
        # Nodes, and between them the middles of the cells' edges to judge by.
        halves_x, halves_y = (step / 2 * np.arange(2 * cells + 1) for cells in (cells_x, cells_y))
        halves = exact(corner + np.stack(np.meshgrid(halves_x, halves_y)))
        if _bilinear_error(halves) <= MAPPING_TOLERANCE_PX:  # false for NaN: off the projection
            cells = np.stack([y, x]) / step
            mapped = np.stack(
                [map_coordinates(nodes, cells, order=1) for nodes in halves[:, ::2, ::2]]
            )
            mapped[:, ~known] = np.nan
            return mapped
    mapped = exact(positions_xy)
    mapped[:, ~np.isfinite(mapped).all(axis=0)] = np.nan
    return mapped


def _bilinear_error(halves: NDArray[np.float64]) -> float:
    """Bound on the error of interpolating between every other node of a (2, H, W) mapping.

    Measured on the edges of the cells and not in their middles: between conformal projections the
    curvatures along x and y are opposite, and cancel there.
    """
    nodes = halves[:, ::2, ::2]
    along_x = halves[:, ::2, 1::2] - (nodes[:, :, :-1] + nodes[:, :, 1:]) / 2
    along_y = halves[:, 1::2, ::2] - (nodes[:, :-1, :] + nodes[:, 1:, :]) / 2
    return float(np.abs(along_x).max() + np.abs(along_y).max())


def _crop_around(raster_xy: NDArray[np.float64], shape: tuple[int, int]) -> Crop | None:
    """The part of a raster that positions (2, H, W) fall on, with its margin, or None."""
    height, width = shape
    x, y = raster_xy
    # NaN compares false: unknown positions are on no raster.
    on_raster = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if not on_raster.any():
        return None
    factor = _reduction(raster_xy)
    margin = SOURCE_MARGIN_PX * factor
    x0 = max(0, int(np.floor(x[on_raster].min())) - margin)
    y0 = max(0, int(np.floor(y[on_raster].min())) - margin)
    x1 = min(width, int(np.ceil(x[on_raster].max())) + margin + 1)
    y1 = min(height, int(np.ceil(y[on_raster].max())) + margin + 1)
    # Rows and columns that do not fill a last averaged pixel are left out.
    crop = Crop(y0, x0, (y1 - y0) // factor, (x1 - x0) // factor, factor)
    return crop if crop.height and crop.width else None


def _reduction(raster_xy: NDArray[np.float64]) -> int:
    """How many raster pixels go into one lattice pixel along a side, rounded down, at least 1."""
    every = 64  # the scale changes slowly: some rows and columns tell it
    along_x = np.hypot(*np.diff(raster_xy[:, ::every, :], axis=2))
    along_y = np.hypot(*np.diff(raster_xy[:, :, ::every], axis=1))
    steps = np.concatenate([along_x.ravel(), along_y.ravel()])
    known = steps[np.isfinite(steps)]
    return max(1, int(np.median(known) + 0.01)) if known.size else 1


def _probe(source: DatasetReader, asset: Asset, indexes: list[int]) -> None:
    height, width = source.shape
    for y0, x0 in ((height // 2, width // 2), (height - PROBE_PX, width - PROBE_PX)):
        crop = Crop(max(0, y0), max(0, x0), min(PROBE_PX, height), min(PROBE_PX, width))
        read_crop(source, asset, indexes, crop)
    if urlsplit(asset.href).scheme in ("", "file"):
        check_blocks(source)
