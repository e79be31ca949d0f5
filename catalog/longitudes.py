"""Geometry across the antimeridian: in one piece to compute with, in two to write down.

GeoJSON keeps longitudes within -180 and 180 and cuts in two what crosses the antimeridian (RFC
7946, 3.1.9). Archives also write it whole, with longitudes beyond 180, or with an edge that leads
around the rest of the world if it is taken at its word. In this package a geometry is in one piece;
its longitudes are those of the region in question or go on from them, beyond 180 or below -180.
"""

from __future__ import annotations

import math

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

TURN = 360.0
# What spans more latitudes than this is no scene: where it spans most longitudes, it means them.
TALLEST_SCENE_DEGREES = 60.0


def in_one_piece(geometry: BaseGeometry) -> BaseGeometry:
    """A geometry of one scene, however it is written where it crosses the antimeridian.

    An edge longer than half a turn is taken the short way, and a ring around a pole holds the pole.
    """
    west, south, east, north = geometry.bounds
    # False for NaN, which is the width of nothing.
    if not TURN / 2 < east - west < math.inf or north - south > TALLEST_SCENE_DEGREES:
        return geometry
    first, *others = (_unrolled(part) for part in shapely.get_parts(geometry))
    beside = [facing(part, _middle(first)) for part in others]
    return shapely.union_all([first, *beside]) if others else first


def facing(geometry: BaseGeometry, longitude: float) -> BaseGeometry:
    """The same ground in longitudes within half a turn of `longitude`, degrees."""
    if geometry.is_empty:
        return geometry
    moved = _turned(geometry, round((longitude - _middle(geometry)) / TURN))
    west, _, east, _ = moved.bounds
    ground = [part for part in shapely.get_parts(moved) if part.area > 0]
    if east - west <= TURN / 2 or not ground:
        return moved
    around = shapely.union_all([_turned(part, turns) for part in ground for turns in (-1, 0, 1)])
    half = shapely.box(longitude - TURN / 2, -90, longitude + TURN / 2, 90)
    return around.intersection(half)


def longitudes_facing(degrees: NDArray[np.float64], longitude: float) -> NDArray[np.float64]:
    """The same longitudes, of any shape, each within half a turn of `longitude`."""
    return np.asarray(degrees - TURN * np.round((degrees - longitude) / TURN))


def as_geojson_has_it(
    geometry: BaseGeometry,
) -> tuple[BaseGeometry, tuple[float, float, float, float]]:
    """A geometry cut at the antimeridian, and its box, west greater than east if it crosses."""
    west, south, east, north = geometry.bounds
    first = math.floor((west + TURN / 2) / TURN)
    last = math.ceil((east + TURN / 2) / TURN) - 1
    # Turned around the world, an edge at the antimeridian may end an ulp beyond it.
    box = max(west - TURN * first, -TURN / 2), south, min(east - TURN * last, TURN / 2), north
    if first == last:
        return _turned(geometry, -first), box
    world = shapely.box(-TURN / 2, -90, TURN / 2, 90)
    parts = [_turned(geometry, -turns) & world for turns in range(first, last + 1)]
    return shapely.union_all(parts), box


def _unrolled(part: BaseGeometry) -> BaseGeometry:
    """A polygon with its rings the short way around; anything else as it is."""
    if not isinstance(part, shapely.Polygon):
        return part
    shell = _unrolled_ring(part.exterior.coords)
    middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
    holes = []
    for ring in part.interiors:
        hole = _unrolled_ring(ring.coords)
        holes.append(hole - [TURN * round((hole[0, 0] - middle) / TURN), 0])
    whole = shapely.make_valid(shapely.Polygon(shell, holes))
    return whole if whole.area > 0 else part  # a belt around the world


def _unrolled_ring(coordinates: object) -> NDArray[np.float64]:
    """Longitude and latitude (N, 2) without a leap; around a pole, by way of it."""
    ring = np.array(coordinates)[:, :2]
    ring[:, 0] = np.unwrap(ring[:, 0], period=TURN)
    if abs(ring[-1, 0] - ring[0, 0]) < TURN / 2:
        return ring
    pole = math.copysign(90.0, ring[:, 1].mean())
    return np.concatenate([ring, [[ring[-1, 0], pole], [ring[0, 0], pole], ring[0]]])


def _middle(geometry: BaseGeometry) -> float:
    west, _, east, _ = geometry.bounds
    return (west + east) / 2


def _turned(geometry: BaseGeometry, turns: int) -> BaseGeometry:
    if turns == 0:
        return geometry
    moved: BaseGeometry = shapely.transform(
        geometry, lambda lonlat: lonlat + np.array([TURN * turns, 0])
    )
    return moved
