"""Tiles show the store's own pixels, in the colours of the legend, and nothing elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pyproj import Transformer
from rio_tiler.constants import WEB_MERCATOR_TMS

from catalog.grid import lattice_for
from catalog.store.open import load_window
from flows.colours import COLOURS
from flows.view.chunks import Chunks
from flows.view.days import Day
from flows.view.delivered import moved_back
from flows.view.layers import Layer, layers_of
from flows.view.tiles import TILE_PX, Tile, draw_tile, read_tile
from tests.support.slots import (
    BOX,
    LATTICE,
    ONE_SHARD,
    moved_evenly,
    published,
    rioxarray_is_older_than_affine,
)

pytestmark = rioxarray_is_older_than_affine
FINE = 17  # a zoom at which a lattice pixel is some ten pixels of a tile
SAME = 0.985  # of a tile: on the border of two pixels either may be shown
IN_DEGREES = lattice_for(BOX, crs="EPSG:4326", resolution=1e-4, shard_px=32)


@pytest.fixture(scope="module", params=["UTM", "degrees"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    lattice = LATTICE if request.param == "UTM" else IN_DEGREES
    store = published(tmp_path_factory.mktemp("store"), lattice)
    return Day("la", store.slot, store.url)


@pytest.fixture(scope="module")
def layers(day: Day) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers_of(day)}


def tiles_of(day: Day, zoom: int) -> Iterator[Tile]:
    bounds = day.level(1).lattice.lonlat_extent().bounds
    for tile in WEB_MERCATOR_TMS.tiles(*bounds, [zoom]):
        yield zoom, tile.x, tile.y


def middle_tile(day: Day, zoom: int) -> Tile:
    west, south, east, north = day.level(1).lattice.lonlat_extent().bounds
    tile = WEB_MERCATOR_TMS.tile((west + east) / 2, (south + north) / 2, zoom)
    return zoom, tile.x, tile.y


def lattice_px(day: Day, tile: Tile) -> NDArray[np.float64]:
    """(2, 512, 512): x and y on the lattice of the centres of a tile's pixels."""
    zoom, column, row = tile
    west, south, east, north = WEB_MERCATOR_TMS.xy_bounds(column, row, zoom)
    centres = (np.arange(TILE_PX) + 0.5) / TILE_PX
    x, y = np.meshgrid(west + (east - west) * centres, north - (north - south) * centres)
    to_degrees = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    return day.level(1).lattice.px_from_lonlat(np.stack(to_degrees.transform(x, y)))


def test_a_pixel_of_a_tile_is_the_pixel_of_the_store(day: Day, layers: dict[str, Layer]) -> None:
    tile, lattice = middle_tile(day, FINE), day.level(1).lattice
    column, row = np.rint(lattice_px(day, tile)).astype(int)
    inside = (row >= 0) & (row < lattice.shape[0]) & (column >= 0) & (column < lattice.shape[1])
    there = np.clip(row, 0, lattice.shape[0] - 1), np.clip(column, 0, lattice.shape[1] - 1)
    for name in ("optical", "sar-vh", "displacement", "expected_error", "quality"):
        values, known = read_tile(Chunks(), day, layers[name], tile)
        stored = load_window(day.level(1).pixels, layers[name].variables, lattice.window)
        for variable, shown in zip(layers[name].variables, values, strict=True):
            expected = stored[variable].values[there]
            same = (shown == expected) & known
            neither = ~known & (~inside | ~np.isfinite(expected))
            assert (same | neither).mean() > SAME, (name, variable)
            assert known.any()


def test_every_overview_pixel_is_shown_where_it_lies(day: Day, layers: dict[str, Layer]) -> None:
    """At the zoom of an overview, tiles are its pixels."""
    layer, factor = layers["quality"], day.factors[-1]
    level = day.level(factor)
    zoom = next(z for z in range(16, 0, -1) if _px_per_px(day, middle_tile(day, z)) > factor)
    tile = middle_tile(day, zoom)
    values, known = read_tile(Chunks(), day, layer, tile)
    x, y = (lattice_px(day, tile) + 0.5) / factor
    height, width = level.lattice.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    stored = level.pixels["quality"].values
    expected = stored[np.clip(y.astype(int), 0, height - 1), np.clip(x.astype(int), 0, width - 1)]
    assert ((known == inside) & (~inside | (values[0] == expected)))[inside].mean() > 0.9
    assert (known == inside).mean() > SAME


def _px_per_px(day: Day, tile: Tile) -> float:
    x, _ = lattice_px(day, tile)
    return float(x[256, 257] - x[256, 256])


def test_what_was_moved_evenly_is_moved_back_evenly(tmp_path: Path) -> None:
    store = moved_evenly(published(tmp_path, ONE_SHARD), 3.0, -2.0)
    day = Day("la", store.slot, store.url)
    tile = middle_tile(day, FINE)
    layer = next(each for each in layers_of(day) if each.name == "delivered-vh")
    shown, known = read_tile(Chunks(), day, layer, tile)
    whole = load_window(day.level(1).pixels, ("vh", "dx", "dy"), day.level(1).lattice.window)
    moved = moved_back(*(whole[name].values for name in ("vh", "dx", "dy")))
    x, y = lattice_px(day, tile)
    # In the middle of a lattice pixel, for towards its border SAR of two pixels is mixed.
    middle = (np.abs(x - np.rint(x)) < 0.2) & (np.abs(y - np.rint(y)) < 0.2)
    height, width = moved.shape
    inside = (x > 4) & (x < width - 5) & (y > 4) & (y < height - 5) & middle
    rows, columns = np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)
    expected, found = moved[rows, columns], shown[0][inside]
    both = np.isfinite(expected) & known[inside]
    assert both.mean() > 0.5
    assert (np.abs(found - expected)[both] < 1e-3).mean() > SAME


def test_colours_are_those_of_the_legend(day: Day, layers: dict[str, Layer]) -> None:
    tile = middle_tile(day, FINE)
    values, known = read_tile(Chunks(), day, layers["quality"], tile)
    with Image.open(io.BytesIO(draw_tile(Chunks(), day, layers["quality"], tile))) as image:
        picture = np.asarray(image)
    assert picture.shape == (TILE_PX, TILE_PX, 4)
    np.testing.assert_array_equal(picture[..., 3] > 0, known)
    for each in layers["quality"].classes:
        colour = COLOURS[each.meaning.replace(" SAR", " sar").replace(" ", "_")]
        assert colour == each.colour
        painted = picture[known & (values[0] == each.value)][:, :3]
        assert (painted == list(bytes.fromhex(colour[1:]))).all()


@settings(max_examples=4)
@given(st.integers(0, 20))
def test_tiles_beside_and_around_the_region_are_drawn(day: Day, zoom: int) -> None:
    """Also those that its last line of pixels only touches."""
    _, column, row = middle_tile(day, zoom)
    chunks, layer = Chunks(), layers_of(day)[0]
    shown = 0
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            if 0 <= column + dx < 2**zoom and 0 <= row + dy < 2**zoom:
                _, known = read_tile(chunks, day, layer, (zoom, column + dx, row + dy))
                shown += int(known.sum())
    assert shown or zoom < 8


def test_every_tile_of_the_edge_is_drawn(day: Day, layers: dict[str, Layer]) -> None:
    for tile in tiles_of(day, FINE - 1):
        read_tile(Chunks(), day, layers["quality"], tile)
