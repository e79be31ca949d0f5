"""Geometry across the antimeridian: one ground, however it is written."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from catalog.longitudes import as_geojson_has_it, facing, in_one_piece, longitudes_facing

WHOLE = Polygon([(179.2, 50.0), (180.9, 50.3), (180.7, 51.2), (179.0, 50.9)])
"""A tilted scene across the antimeridian."""


def written(scene: Polygon, how: str) -> BaseGeometry:
    """A scene across the antimeridian as archives write it."""
    if how == "split":
        east = shapely.transform(scene & box(180, -90, 540, 90), lambda xy: xy - [360, 0])
        return MultiPolygon([scene & box(-180, -90, 180, 90), east])
    if how == "around the world":
        wrapped = [((x + 180) % 360 - 180, y) for x, y in scene.exterior.coords]
        return Polygon(wrapped)
    return shapely.transform(scene, lambda xy: xy - [360, 0]) if how == "below -180" else scene


@pytest.mark.parametrize("how", ["split", "around the world", "beyond 180", "below -180"])
def test_however_it_is_written_it_is_one_ground(how: str) -> None:
    found = facing(in_one_piece(written(WHOLE, how)), 179.0)
    assert isinstance(found, Polygon)
    assert found.symmetric_difference(WHOLE).area < 1e-9


@given(
    west=st.floats(-180, 180), width=st.floats(0.01, 20), south=st.floats(-80, 70),
    height=st.floats(0.01, 10), longitude=st.floats(-180, 180),
)  # fmt: skip
def test_cut_and_joined_again_it_is_the_same_ground(
    west: float, width: float, south: float, height: float, longitude: float
) -> None:
    scene = box(west, south, west + width, south + height)
    cut, (left, bottom, right, top) = as_geojson_has_it(scene)
    assert -180 <= left <= 180
    assert -180 <= right <= 180
    assert (bottom, top) == (south, south + height)
    assert right - left + (360 if left > right else 0) == pytest.approx(width, abs=1e-9)
    assert cut.area == pytest.approx(scene.area, abs=1e-7)
    assert shapely.box(-180, -90, 180, 90).buffer(1e-9).contains(cut)
    again = facing(in_one_piece(cut), longitude)
    assert abs(again.centroid.x - longitude) <= 180 + width
    assert facing(again, scene.centroid.x).symmetric_difference(scene).area < 1e-7


@given(west=st.floats(-180, 170), width=st.floats(0.01, 9), south=st.floats(-80, 70))
def test_a_scene_elsewhere_is_left_as_it_is(west: float, width: float, south: float) -> None:
    scene = box(west, south, west + width, south + 1)
    assert in_one_piece(scene) is scene
    assert as_geojson_has_it(scene) == (scene, scene.bounds)


def test_what_spans_the_world_stays_so() -> None:
    for world in (box(-180, -90, 180, 90), box(-179.9, -60, 179.9, 80), box(-180, 40, 180, 50)):
        assert in_one_piece(world).area == world.area
    assert facing(box(-180, 40, 180, 50), 170.0).bounds == (-10, 40, 350, 50)


def test_a_ring_around_a_pole_holds_the_pole() -> None:
    ring = [(longitude, 84.0 + longitude / 180) for longitude in (-150, -90, -30, 30, 90, 150)]
    cap = in_one_piece(Polygon(ring))
    assert cap.bounds[3] == 90
    for longitude in (-100.0, 0.0, 179.0):
        around = facing(cap, longitude)
        lonlat = np.array([longitude]), np.array([88.0])
        assert shapely.contains_xy(around, *lonlat).all()
        assert not shapely.contains_xy(around, longitude, 80.0)


def test_holes_stay_where_they_are() -> None:
    hole = [(179.5, 50.5), (180.2, 50.5), (180.2, 50.7), (179.5, 50.7)]
    holed = Polygon(WHOLE.exterior.coords, [hole])
    wrapped = [
        [((x + 180) % 360 - 180, y) for x, y in ring.coords]
        for ring in (holed.exterior, *holed.interiors)
    ]
    found = facing(in_one_piece(Polygon(wrapped[0], wrapped[1:])), 180.0)
    assert found.symmetric_difference(holed).area < 1e-9


@given(st.floats(-720, 720), st.floats(-360, 360))
def test_longitudes_are_moved_by_whole_turns(degrees: float, longitude: float) -> None:
    (moved,) = longitudes_facing(np.array([degrees]), longitude)
    assert abs(moved - longitude) <= 180 + 1e-9
    assert (moved - degrees) / 360 == pytest.approx(round((moved - degrees) / 360), abs=1e-9)


@hypothesis.settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(-800, 800), st.integers(-180, 180)), min_size=4, max_size=9).map(
        lambda ring: [(x / 2, y / 2) for x, y in ring]
    ),
    st.sampled_from(["Polygon", "MultiPolygon", "LineString", "GeometryCollection"]),
)
def test_whatever_an_archive_serves_as_geometry_is_taken(
    ring: list[tuple[float, float]], kind: str
) -> None:
    polygon = Polygon(ring)
    geometry = {
        "Polygon": polygon,
        "MultiPolygon": MultiPolygon([polygon, box(179, 0, 180, 1)]),
        "LineString": shapely.LineString(ring),
        "GeometryCollection": shapely.GeometryCollection([polygon, shapely.Point(-180, 0)]),
    }[kind]
    whole = in_one_piece(geometry)
    assert np.isfinite(whole.bounds).all()
    if whole.is_valid:
        assert facing(whole, 180.0).area < np.inf
