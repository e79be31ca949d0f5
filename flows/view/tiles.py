"""The pictures of the map: Web Mercator tiles, read from the level of a day that fits their zoom.

rio-tiler warps them. It is handed the pixels around a tile, of the coarsest level that is no
coarser than the tile, so a tile costs the same at every zoom and for every size of region.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, Literal

import morecantile
import numpy as np
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from pyproj import Transformer
from rasterio.warp import transform_bounds
from rio_tiler.constants import WEB_MERCATOR_CRS, WEB_MERCATOR_TMS
from rio_tiler.io.xarray import XarrayReader
from rioxarray.exceptions import NoDataInBounds

from catalog.grid import Lattice, Window
from flows.view.chunks import Chunks
from flows.view.days import Day, Level
from flows.view.delivered import moved_back
from flows.view.layers import Layer, coloured

TILE_PX = 512  # four times as many pixels as usual: most of what a small tile costs is its making
MOST_ZOOM = 24
MARGIN_PX = 2  # around a tile, of its level: warping looks at neighbours
SAFETY = 1.5  # displacements of the coarsest level are means
EDGE_POINTS = 21  # of a tile's side, which is no straight line in the CRS of the region
NO_FLAG = 255

Tile = tuple[int, int, int]
"""Zoom, column and row, as web maps count them."""
Square = tuple[float, float, float, float]
"""West, south, east, north."""


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
    """The bands of a layer on a tile, (N, 512, 512), and (512, 512) where all of them are known.

    One lattice pixel, or the mean of those that a pixel of the tile covers; of flags, one of them.
    Raises StoreError.
    """
    if not layer.is_delivered:
        return _read_square(chunks, day, layer, _square(tile), TILE_PX)
    margin, to_tile = _farthest_px(day, tile), _tile_px_per_px(day, tile)
    side = TILE_PX + 2 * margin
    (sar, dx, dy), known = _read_square(chunks, day, layer, _square(tile, margin), side)
    displacement = np.einsum("ij,jyx->iyx", to_tile, np.stack([dx, dy]))
    moved = moved_back(np.where(known, sar, np.nan), *displacement)
    shown = moved[margin : margin + TILE_PX, margin : margin + TILE_PX]
    return shown[None], np.isfinite(shown)


def _read_square(
    chunks: Chunks, day: Day, layer: Layer, square: Square, side: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The same for any square of Web Mercator, in `side` x `side` pixels."""
    nothing = np.zeros((len(layer.variables), side, side)), np.zeros((side, side), bool)
    level, px_per_px = _level_for(day, square, side)
    window = _window_of(level.lattice, square)
    if window is None:
        return nothing
    pixels = chunks.read(level, layer.variables, window)
    flags = layer.kind == "classes"
    no_data = NO_FLAG if flags else np.nan
    method: Literal["average", "nearest"] = "average" if px_per_px > 1 and not flags else "nearest"
    reader = XarrayReader(_georeferenced(pixels, level.lattice, window, no_data))
    try:
        image = reader.part(
            square, dst_crs=WEB_MERCATOR_CRS, bounds_crs=WEB_MERCATOR_CRS, height=side, width=side,
            reproject_method=method,
        )  # fmt: skip
    except NoDataInBounds:  # they only touch
        return nothing
    missing = np.ma.getmaskarray(image.array) | ~np.isfinite(image.array.data)
    return np.asarray(image.array.data), ~missing.any(axis=0)


def _square(tile: Tile, margin: int = 0) -> Square:
    """Of a tile and so many of its pixels around it, in metres of Web Mercator."""
    zoom, column, row = tile
    west, south, east, north = WEB_MERCATOR_TMS.xy_bounds(morecantile.Tile(column, row, zoom))
    more = margin * (east - west) / TILE_PX
    return west - more, south - more, east + more, north + more


def _level_for(day: Day, square: Square, side: int) -> tuple[Level, float]:
    """The level to read, and how many of its pixels lie side by side in one of the picture."""
    lattice = day.level(1).lattice
    west, south, east, north = _bounds(square, lattice)
    per_pixel = math.sqrt((east - west) * (north - south)) / lattice.resolution / side
    factor = max((f for f in day.factors if f <= per_pixel), default=1)
    return day.level(factor), per_pixel / factor


def _farthest_px(day: Day, tile: Tile) -> int:
    """How far SAR was moved at most, pixels of a tile; by the coarsest level, and a bit more."""
    small = day.coarsest.pixels
    lengths = np.hypot(small["dx"].values, small["dy"].values)
    known = lengths[np.isfinite(lengths)]
    farthest = SAFETY * float(known.max()) if known.size else 0.0
    longest = float(np.abs(_tile_px_per_px(day, tile)).sum(axis=1).max())
    return min(math.ceil(farthest * longest), TILE_PX)


def _tile_px_per_px(day: Day, tile: Tile) -> NDArray[np.float64]:
    """(2, 2): a step in lattice pixels (x, y) as one in pixels of a tile, at its centre."""
    west, south, east, north = _square(tile)
    x, y, step = (west + east) / 2, (south + north) / 2, (east - west) / TILE_PX
    lattice = day.level(1).lattice
    to_crs = Transformer.from_crs("EPSG:3857", lattice.crs, always_xy=True)
    there = np.stack(to_crs.transform([x, x + step, x], [y, y, y - step]))
    centre, right, below = lattice.px_from_crs(there).T
    return np.linalg.inv(np.stack([right - centre, below - centre], axis=1))


def _window_of(lattice: Lattice, square: Square) -> Window | None:
    west, south, east, north = _bounds(square, lattice)
    a, _, c, _, e, f = lattice.transform
    x0, x1 = math.floor((west - c) / a), math.ceil((east - c) / a)
    y0, y1 = math.floor((north - f) / e), math.ceil((south - f) / e)
    return Window(y0, x0, max(1, y1 - y0), max(1, x1 - x0)).expand(MARGIN_PX).clip(lattice.shape)


def _bounds(square: Square, lattice: Lattice) -> Square:
    """Of a square of Web Mercator, in the CRS of the lattice."""
    bounds = transform_bounds(
        WEB_MERCATOR_CRS, lattice.crs.to_wkt(), *square, densify_pts=EDGE_POINTS
    )
    west, south, east, north = (float(each) for each in bounds)
    return west, south, east, north


def _georeferenced(
    pixels: Sequence[NDArray[Any]], lattice: Lattice, window: Window, no_data: float
) -> xr.DataArray:
    """Pixels of a window and a margin of no data: how wide is a single line of pixels?"""
    wider = window.expand(MARGIN_PX)
    stacked = np.full((len(pixels), *wider.shape), no_data, pixels[0].dtype)
    inside = slice(MARGIN_PX, -MARGIN_PX)
    for target, values in zip(stacked, pixels, strict=True):
        target[inside, inside] = values
    a, _, c, _, e, f = lattice.transform  # `centres` is for lattices, not for their overviews
    x = c + a * (wider.x0 + 0.5 + np.arange(wider.width))
    y = f + e * (wider.y0 + 0.5 + np.arange(wider.height))
    bands = xr.DataArray(
        stacked,
        dims=("band", "y", "x"),
        coords={"band": range(len(pixels)), "y": y, "x": x},
    )
    # In place, for otherwise each of them copies every pixel.
    bands.rio.write_crs(lattice.crs.to_wkt(), inplace=True)
    bands.rio.write_nodata(no_data, inplace=True)
    return bands
