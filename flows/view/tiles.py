"""The pictures of the map: Web Mercator tiles, read from the level of a day that fits their zoom.

rio-tiler warps them. It is handed the pixels around a tile, of the coarsest level that is no
coarser than the tile, so a tile costs the same at every zoom and for every size of region.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from rasterio.warp import transform_bounds
from rio_tiler.constants import WEB_MERCATOR_CRS, WEB_MERCATOR_TMS
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io.xarray import XarrayReader

from catalog.grid import Lattice, Window
from flows.view.chunks import Chunks
from flows.view.days import Day, Level
from flows.view.delivered import moved_back
from flows.view.layers import Layer, coloured

TILE_PX = 256
MOST_ZOOM = 24
MARGIN_PX = 2  # around a tile, of its level: warping looks at neighbours
FARTHEST_PX = 512.0  # what a displacement can be stored as
EDGE_POINTS = 21  # of a tile's side, which is no straight line in the CRS of the region
NO_FLAG = 255

Tile = tuple[int, int, int]
"""Zoom, column and row, as web maps count them."""


def draw_tile(chunks: Chunks, day: Day, layer: Layer, tile: Tile) -> bytes:
    """A layer on a tile as PNG, transparent where nothing is known. Raises StoreError."""
    values, known = read_tile(chunks, day, layer, tile)
    picture = Image.fromarray(coloured(layer, values, known), "RGBA")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_tile(
    chunks: Chunks, day: Day, layer: Layer, tile: Tile
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The bands of a layer on a tile, (N, 256, 256), and (256, 256) where all of them are known.

    One lattice pixel, or the mean of those that a pixel of the tile covers; of flags, one of them.
    Raises StoreError.
    """
    bands = 1 if layer.is_delivered else len(layer.variables)
    nothing = np.zeros((bands, TILE_PX, TILE_PX)), np.zeros((TILE_PX, TILE_PX), bool)
    level, px_per_px = _level_for(day, tile)
    margin = MARGIN_PX + (_farthest_px(day, level) if layer.is_delivered else 0)
    window = _window_of(level.lattice, tile, margin)
    if window is None:
        return nothing
    pixels = chunks.read(level, layer.variables, window)
    if layer.is_delivered:
        sar, dx, dy = pixels
        pixels = [moved_back(sar, dx / level.factor, dy / level.factor)]
    flags = pixels[0].dtype.kind != "f"
    method = "average" if px_per_px > 1.0 and not flags else "nearest"
    reader = XarrayReader(_georeferenced(pixels, level.lattice, window, NO_FLAG if flags else None))
    zoom, column, row = tile
    try:
        image = reader.tile(column, row, zoom, tilesize=TILE_PX, reproject_method=method)  # type: ignore[arg-type]
    except TileOutsideBounds:
        return nothing
    missing = np.ma.getmaskarray(image.array) | ~np.isfinite(image.array.data)
    return np.asarray(image.array.data), ~missing.any(axis=0)


def _level_for(day: Day, tile: Tile) -> tuple[Level, float]:
    """The level to read, and how many of its pixels lie side by side in one of the tile."""
    lattice = day.level(1).lattice
    west, south, east, north = _bounds(tile, lattice)
    per_pixel = math.sqrt((east - west) * (north - south)) / lattice.resolution / TILE_PX
    factor = max((f for f in day.factors if f <= per_pixel), default=1)
    return day.level(factor), per_pixel / factor


def _farthest_px(day: Day, level: Level) -> int:
    """How far SAR was moved at most, pixels of `level`; by the coarsest level, and a bit more."""
    small = day.coarsest.pixels
    lengths = np.hypot(small["dx"].values, small["dy"].values)
    known = lengths[np.isfinite(lengths)]
    farthest = min(1.5 * float(known.max()) if known.size else 0.0, FARTHEST_PX)
    return math.ceil(farthest / level.factor)


def _window_of(lattice: Lattice, tile: Tile, margin: int) -> Window | None:
    west, south, east, north = _bounds(tile, lattice)
    a, _, c, _, e, f = lattice.transform
    x0, x1 = math.floor((west - c) / a), math.ceil((east - c) / a)
    y0, y1 = math.floor((north - f) / e), math.ceil((south - f) / e)
    return Window(y0, x0, max(1, y1 - y0), max(1, x1 - x0)).expand(margin).clip(lattice.shape)


def _bounds(tile: Tile, lattice: Lattice) -> tuple[float, float, float, float]:
    """Of a tile, in the CRS of the lattice."""
    zoom, column, row = tile
    square = WEB_MERCATOR_TMS.xy_bounds(column, row, zoom)
    bounds = transform_bounds(
        WEB_MERCATOR_CRS, lattice.crs.to_wkt(), *square, densify_pts=EDGE_POINTS
    )
    west, south, east, north = (float(each) for each in bounds)
    return west, south, east, north


def _georeferenced(
    pixels: Sequence[NDArray[Any]], lattice: Lattice, window: Window, no_data: int | None
) -> xr.DataArray:
    a, _, c, _, e, f = lattice.transform  # `centres` is for lattices, not for their overviews
    x = c + a * (window.x0 + 0.5 + np.arange(window.width))
    y = f + e * (window.y0 + 0.5 + np.arange(window.height))
    bands = xr.DataArray(
        np.stack(pixels), dims=("band", "y", "x"), coords={"band": range(len(pixels))}
    ).assign_coords(y=y, x=x)
    located = bands.rio.write_crs(lattice.crs.to_wkt())
    return located.rio.write_nodata(np.nan if no_data is None else no_data)
