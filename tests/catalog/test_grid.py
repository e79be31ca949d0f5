"""The lattice: coverage, coordinates and windows, as properties and against PROJ and rasterio."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pyproj
import pytest
import rasterio.transform
import shapely
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import ArgumentError
from catalog.grid import (
    Lattice,
    Window,
    lattice_for,
    region_outline,
    validated_bbox,
    widened_bbox,
)
from catalog.longitudes import facing

BOX = (-118.08, 33.72, -117.80, 33.96)
LATTICE = lattice_for(BOX)
COARSE = lattice_for(BOX, resolution=100.0)

sides = st.integers(1, 60)
corners = st.integers(-40, 40)
windows = st.builds(Window, corners, corners, sides, sides)


def test_default_lattice_is_utm_of_the_centre_at_ten_metres() -> None:
    assert LATTICE.crs_code == "EPSG:32611"
    assert LATTICE.resolution == 10.0
    assert lattice_for((10.0, -35.0, 10.5, -34.5)).crs_code == "EPSG:32732"
    assert lattice_for((179.0, 1.0, 180.0, 2.0)).crs_code == "EPSG:32660"


def test_lattice_covers_its_box_without_waste() -> None:
    west, south, east, north = BOX
    edge = np.linspace(0, 1, 50)
    lon = np.concatenate([west + edge * (east - west)] * 2 + [np.full(50, west), np.full(50, east)])
    lat = np.concatenate(
        [np.full(50, south), np.full(50, north)] + [south + edge * (north - south)] * 2
    )
    x, y = LATTICE.px_from_lonlat(np.stack([lon, lat]))
    height, width = LATTICE.shape
    assert -0.5 <= x.min() < 0.5
    assert -0.5 <= y.min() < 0.5
    assert width - 1.5 < x.max() <= width - 0.5
    assert height - 1.5 < y.max() <= height - 0.5


def test_origin_is_a_multiple_of_the_resolution() -> None:
    lattice = lattice_for(BOX, resolution=30.0)
    _, _, left, _, _, top = lattice.transform
    assert left % 30 == 0
    assert top % 30 == 0


def test_overlapping_regions_share_bit_equal_coordinates() -> None:
    crs, resolution = "EPSG:4326", 0.0001  # not representable: rounding would show
    wide = lattice_for((10.0, 50.0, 10.2, 50.2), crs, resolution)
    part = lattice_for((10.05, 50.05, 10.1, 50.1), crs, resolution)
    wide_x, wide_y = wide.centres(wide.window)
    part_x, part_y = part.centres(part.window)
    assert np.isin(part_x, wide_x).all()
    assert np.isin(part_y, wide_y).all()


def test_centres_agree_with_rasterio() -> None:
    window = Window(100, 37, 5, 7)
    x, y = LATTICE.centres(window)
    rows, cols = np.meshgrid(np.arange(100, 105), np.arange(37, 44), indexing="ij")
    there = rasterio.transform.xy(LATTICE.geobox.affine, rows.ravel(), cols.ravel())
    np.testing.assert_allclose(np.broadcast_to(x, (5, 7)).ravel(), there[0], atol=1e-6)
    np.testing.assert_allclose(np.repeat(y, 7), there[1], atol=1e-6)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 100))
def test_shards_and_tiles_cover_every_pixel_once(height: int, width: int, side: int) -> None:
    geobox = LATTICE.window_geobox(Window(0, 0, height, width))
    lattice = Lattice(geobox, shard_px=side)
    seen = np.zeros((height, width), dtype=int)
    for shard in lattice.shards():
        assert shard.window.y0 == shard.row * side
        assert shard.window.x0 == shard.col * side
        seen[shard.window.slices] += 1
    assert (seen == 1).all()
    assert lattice.tiles(side) == tuple(shard.window for shard in lattice.shards())


@given(windows, windows, st.integers(0, 9))
def test_windows_intersect_expand_and_clip_as_sets_of_pixels(
    one: Window, other: Window, halo: int
) -> None:
    shared = one.intersect(other)
    assert shared == other.intersect(one)
    pixels = {(y, x) for y in range(one.y0, one.y1) for x in range(one.x0, one.x1)}
    others = {(y, x) for y in range(other.y0, other.y1) for x in range(other.x0, other.x1)}
    assert (shared.height * shared.width if shared else 0) == len(pixels & others)
    assert one.expand(halo).intersect(one) == one
    clipped = one.clip((30, 30))
    assert clipped is None or (clipped.y0 >= 0 and clipped.y1 <= 30)


@given(st.floats(-500, 5000), st.floats(-500, 5000))
def test_crs_from_px_and_px_from_crs_are_inverse(x: float, y: float) -> None:
    there = LATTICE.crs_from_px(np.array([x, y]))
    np.testing.assert_allclose(LATTICE.px_from_crs(there), [x, y], atol=1e-6)


def test_longitudes_and_latitudes_agree_with_proj() -> None:
    xy = np.array([[0.0, 700.5, 2000.0], [0.0, 3.25, 2400.0]])
    to_lonlat = pyproj.Transformer.from_crs(LATTICE.crs, "EPSG:4326", always_xy=True)
    lonlat = np.stack(to_lonlat.transform(*LATTICE.crs_from_px(xy)))
    np.testing.assert_allclose(LATTICE.px_from_lonlat(lonlat), xy, atol=1e-4)


@given(
    st.floats(-118.2, -117.7), st.floats(33.6, 34.0), st.floats(0.001, 0.2), st.floats(0.001, 0.2)
)
def test_a_window_holds_the_pixels_of_its_geometry(
    west: float, south: float, width: float, height: float
) -> None:
    geometry = shapely.box(west, south, west + width, south + height)
    mask = COARSE.mask_of(geometry, COARSE.window)
    window = COARSE.window_of(geometry)
    if window is None:
        assert not mask.any()
        return
    assert window.clip(COARSE.shape) == window
    assert np.array_equal(COARSE.mask_of(geometry, window), mask[window.slices])
    assert mask[window.slices].sum() == mask.sum()


def test_mask_follows_pixel_centres() -> None:
    edges = np.array([[19.4, 9.6], [23.4, 9.6], [23.4, 12.3], [19.4, 12.3]])
    to_lonlat = pyproj.Transformer.from_crs(LATTICE.crs, "EPSG:4326", always_xy=True)
    outline = np.stack(to_lonlat.transform(*LATTICE.crs_from_px(edges.T)), axis=1)
    mask = LATTICE.mask_of(shapely.Polygon(outline), LATTICE.window)
    rows, cols = np.nonzero(mask)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (10, 12, 20, 23)


def test_touching_and_distant_geometries_have_no_window() -> None:
    assert LATTICE.window_of(shapely.box(0, 0, 1, 1)) is None
    west, *_ = LATTICE.lonlat_extent().bounds
    assert LATTICE.window_of(shapely.box(west - 1, 33.0, west - 0.5, 34.0)) is None
    assert not LATTICE.mask_of(shapely.box(0, 0, 1, 1), LATTICE.window).any()


def test_extent_holds_the_box() -> None:
    assert LATTICE.lonlat_extent().buffer(1e-9).contains(shapely.box(*BOX))


@pytest.mark.parametrize("latitude", [-75.0, 0.5, 60.0, 83.0])
@pytest.mark.parametrize(("west", "east"), [(179.9, -179.7), (179.5, -179.95), (179.0, 180.0)])
def test_a_region_across_the_antimeridian_is_one_lattice_in_one_zone(
    west: float, east: float, latitude: float
) -> None:
    box = west, latitude, east, latitude + 0.1
    region = region_outline(box)
    lattice = lattice_for(box)
    middle = region.centroid.x
    assert lattice.crs_code in (
        f"EPSG:32{'6' if latitude > 0 else '7'}{'60' if middle < 180 else '01'}",
    )
    extent = facing(lattice.lonlat_extent(), middle)
    assert extent.buffer(1e-6).contains(region)
    assert extent.area < 1.5 * region.area
    assert lattice.window_of(region) == lattice.window
    for longitudes in (region, facing(region, 0.0), facing(region, 359.0)):
        seen = lattice.mask_of(longitudes, lattice.window)
        assert seen.mean() == pytest.approx(region.area / extent.area, rel=0.05)


def test_a_map_that_is_torn_at_the_antimeridian_cannot_show_it() -> None:
    box = (179.9, 70.0, -179.9, 70.1)
    for crs, resolution in (("EPSG:4326", 1e-4), ("EPSG:3857", 10.0)):
        with pytest.raises(ArgumentError, match="torn at the antimeridian") as caught:
            lattice_for(box, crs=crs, resolution=resolution)
        assert caught.value.argument == "crs"
    height, width = lattice_for(box, crs="EPSG:3413").shape
    assert max(height, width) < 2000


def test_a_box_is_widened_across_the_antimeridian_and_up_to_the_pole() -> None:
    assert widened_bbox((1.0, 2.0, 3.0, 4.0), 0.5) == (0.5, 1.5, 3.5, 4.5)
    assert widened_bbox((-180.0, 80.0, -179.0, 90.0), 0.5) == (179.5, 79.5, -178.5, 90.0)
    assert widened_bbox((179.0, -90.0, 179.75, -80.0), 0.5) == (178.5, -90.0, -179.75, -79.5)
    assert widened_bbox((179.0, 1.0, -179.0, 2.0), 0.5) == (178.5, 0.5, -178.5, 2.5)
    assert widened_bbox((-180.0, 1.0, 179.9, 2.0), 0.5) == (-180.0, 0.5, 180.0, 2.5)


def test_lattices_survive_pickling_and_fingerprints_tell_them_apart() -> None:
    assert pickle.loads(pickle.dumps(LATTICE)) == LATTICE
    fingerprint = json.loads(json.dumps(LATTICE.fingerprint()))
    assert fingerprint == lattice_for(BOX).fingerprint()
    assert fingerprint != lattice_for(BOX, resolution=20.0).fingerprint()


def test_positions_are_pixel_centres() -> None:
    positions = Window(5, 7, 2, 3).positions()
    assert positions.shape == (2, 2, 3)
    assert positions[:, 1, 2].tolist() == [9.0, 6.0]


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((-117.8, 33.7, -118.1, 33.9), "west"),
        ((-118.1, 33.9, -117.8, 33.7), "south"),
        ((-118.1, 33.7, -118.1, 33.9), "west"),
        ((-190.0, 33.7, -118.1, 33.9), "leaves the world"),
        ((33.7, -118.1, 33.9, -117.8), "leaves the world"),
        ((math.nan, 33.7, -118.1, 33.9), "four numbers"),
        ((1.0, 2.0, 3.0), "four numbers"),
    ],
)
def test_bad_boxes_are_named(box: tuple[float, float, float, float], words: str) -> None:
    with pytest.raises(ArgumentError, match=words) as caught:
        validated_bbox(box)
    assert caught.value.argument == "bbox"


def test_other_bad_arguments_are_named() -> None:
    cases = [
        ({"crs": "EPSG:nonsense"}, "crs"),
        ({"crs": "EPSG:4978"}, "crs"),  # geocentric
        ({"crs": "EPSG:4979"}, "crs"),  # with heights
        ({"crs": "EPSG:5773"}, "crs"),  # heights alone
        ({"crs": "EPSG:4326"}, "resolution"),  # ten degrees are no default
        ({"crs": "EPSG:2229"}, "resolution"),  # nor are ten feet
        ({"resolution": 0.0}, "resolution"),
        ({"resolution": math.inf}, "resolution"),
        ({"resolution": 1e-4}, "resolution"),
        ({"shard_px": 0}, "shard_px"),
    ]
    for arguments, name in cases:
        with pytest.raises(ArgumentError) as caught:
            lattice_for(BOX, **arguments)  # type: ignore[arg-type]
        assert caught.value.argument == name
    with pytest.raises(ArgumentError, match=r"resolution has to be given .* units of degree"):
        lattice_for(BOX, crs="EPSG:4326")
    assert lattice_for(BOX, crs="EPSG:4326", resolution=1e-4).shape[0] > 100
    with pytest.raises(ArgumentError, match="EPSG:3413"):
        lattice_for((0.0, 84.5, 1.0, 85.0))
    assert lattice_for((0.0, 84.5, 1.0, 85.0), crs="EPSG:3413").crs_code == "EPSG:3413"
