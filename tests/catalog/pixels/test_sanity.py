"""Scenes that are not what their items say: found, named, and left out or put right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from catalog.archives.items import Scene, scene_from_item
from catalog.archives.providers import provider_named
from catalog.grid import Lattice, Window
from catalog.longitudes import as_geojson_has_it, facing, in_one_piece
from catalog.pixels import sanity
from catalog.pixels.sanity import examine
from catalog.pixels.scene import source_window
from tests.support.archives import CONVENTIONS, write_scene
from tests.support.scenes import (
    UTM,
    aligned_lattice,
    noise,
    read_window,
    scene_of,
    write_raster,
)

RGB = ("red", "green", "blue")
NIR_TOO = (*RGB, "nir")


def ground(kind: str, side: int = 240) -> dict[str, np.ndarray]:
    """Reflectances as over a kind of ground: by band, with what varies in it."""
    means = {
        "forest": (0.025, 0.045, 0.02, 0.28),
        "field": (0.09, 0.09, 0.06, 0.30),
        "sea": (0.012, 0.02, 0.03, 0.004),
        "snow": (0.85, 0.87, 0.9, 0.8),
        "desert": (0.35, 0.28, 0.2, 0.42),
    }[kind]
    drawn = np.random.default_rng(9)
    return {
        band: np.maximum(drawn.normal(mean, 0.008, (side, side)), -0.05)
        for band, mean in zip(NIR_TOO, means, strict=True)
    }


def scene_by(convention: str, folder: Path, **options: Any) -> Scene:
    kind = options.pop("kind", "forest")
    reflectance = options.pop("reflectance", ground(kind))
    item = write_scene(folder, CONVENTIONS[convention], reflectance, **options)
    return scene_from_item(item, "https://x.org", provider_named(CONVENTIONS[convention].provider))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", ["forest", "field", "sea", "snow", "desert"])
def test_a_sound_scene_has_nothing_to_be_told(tmp_path: Path, convention: str, kind: str) -> None:
    found = examine(scene_by(convention, tmp_path, kind=kind))
    assert found == sanity.Examination()


@pytest.mark.parametrize("kind", ["forest", "field", "sea"])
def test_an_offset_that_would_be_subtracted_twice_is_found(tmp_path: Path, kind: str) -> None:
    """As in Earth Search: the flag says it was not applied, but it was."""
    found = examine(scene_by("earth search, not applied", tmp_path, kind=kind, added=0))
    assert found.excluded is not None
    assert "its numbers have no offset left to subtract" in found.excluded


def with_dark_ground(kind: str, width: int = 24) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reflectances of a kind of ground with a river and trees in it, and its scene classes."""
    values, classes = ground(kind), np.full((240, 240), 11 if kind == "snow" else 5, np.uint8)
    for columns, dark, number in ((slice(width), "sea", 6), (slice(width, 2 * width), "forest", 4)):
        classes[:, columns] = number
        for band, other in ground(dark).items():
            values[band][:, columns] = other[:, columns]
    return values, classes


@pytest.mark.parametrize("kind", ["snow", "desert"])
@pytest.mark.parametrize("told", [True, False])
def test_an_offset_subtracted_twice_is_warned_of_over_bright_ground(
    tmp_path: Path, kind: str, told: bool
) -> None:
    """By what is dark in it, or, without scene classes, by the darkest of all."""
    values, classes = with_dark_ground(kind, width=10)
    scene = scene_by(
        "earth search, not applied", tmp_path, reflectance=values,
        classes=classes if told else None, added=0,
    )  # fmt: skip
    found = examine(scene)
    assert found.excluded is None
    (warning,) = found.warnings
    assert "the offset that is subtracted may be subtracted already" in warning


@pytest.mark.parametrize("kind", ["desert", "field"])
@pytest.mark.parametrize("told", [True, False])
def test_an_offset_that_was_not_subtracted_is_warned_of(
    tmp_path: Path, kind: str, told: bool
) -> None:
    values, classes = with_dark_ground(kind)
    scene = scene_by(
        "earth search, applied", tmp_path, reflectance=values,
        classes=classes if told else None, added=1000,
    )  # fmt: skip
    (warning,) = examine(scene).warnings
    assert "as if an offset was not subtracted" in warning


@pytest.mark.parametrize(
    "convention", ["earth search, applied", "planetary computer", "copernicus"]
)
@pytest.mark.parametrize("kind", ["snow", "field"])
def test_dark_ground_that_is_as_dark_as_it_should_be_is_not_told(
    tmp_path: Path, convention: str, kind: str
) -> None:
    values, classes = with_dark_ground(kind)
    found = examine(scene_by(convention, tmp_path, reflectance=values, classes=classes))
    assert found == sanity.Examination()


def test_an_empty_scene_is_found(tmp_path: Path) -> None:
    nothing = {band: np.full((240, 240), np.nan) for band in NIR_TOO}
    found = examine(scene_by("planetary computer", tmp_path, reflectance=nothing))
    assert found.excluded == "every pixel looked at in its asset B04 is zero or no data"


def test_the_square_of_a_tile_is_used_where_it_has_data(tmp_path: Path) -> None:
    """As items tell it of granules at the edge of a swath."""
    bordered = ground("forest")
    for values in bordered.values():
        values[60:, :] = np.nan
    scene = scene_by("copernicus", tmp_path, reflectance=bordered)
    found = examine(scene)
    assert found.excluded is None
    (warning,) = found.warnings
    assert "74% of its item's geometry is zero or no data in its asset B04_10m" in warning
    _, south, _, north = scene.footprint.bounds
    assert found.footprint is not None
    _, lowest, _, highest = found.footprint.bounds
    assert highest == pytest.approx(north, abs=1e-4)
    assert (north - lowest) / (north - south) == pytest.approx(0.26, abs=0.02)


def test_zeros_that_no_one_declared_are_no_ground_either(tmp_path: Path) -> None:
    values = noise((1, 300, 300))
    values[:, :, 100:] = 0
    scene = scene_of(write_raster(tmp_path / "x.tif", values), ("vh",))
    found = examine(scene)
    assert "67% of its item's geometry" in found.warnings[0]
    assert found.footprint is not None
    assert found.footprint.area / scene.footprint.area == pytest.approx(0.34, abs=0.02)


@pytest.mark.parametrize("band", ["vv", "red"])
def test_padding_of_digital_numbers_that_nothing_declares_is_told_and_no_data(
    tmp_path: Path, band: str
) -> None:
    values = 500 + noise((1, 64, 64), "uint16")
    values[:, :, :8] = 0
    scene = scene_of(write_raster(tmp_path / "x.tif", values), (band,))
    *_, warning = examine(scene).warnings
    assert warning.endswith("no data in data; zeros count as that")
    for shift in (0, 0.5):  # on its own pixels, and between them
        lattice = aligned_lattice() if shift == 0 else halfway_lattice()
        seen = read_window([scene], lattice, lattice.window, (band,))[0, 4:-4, 4:-4]
        assert np.isnan(seen[:, :3]).all()
        assert np.nanmin(seen) > 500
        found = source_window(scene, lattice, lattice.window.positions())
        assert found is not None
        assert np.isnan(found[0][0, :, :8]).all()
    declared = scene_of(tmp_path / "x.tif", (band,), nodata=65535.0)
    assert read_window([declared], aligned_lattice(), Window(0, 0, 64, 64), (band,)).min() == 0
    assert not [told for told in examine(declared).warnings if "zeros count" in told]


def halfway_lattice() -> Lattice:
    a, b, c, d, e, f = aligned_lattice().transform
    return Lattice(GeoBox((64, 64), Affine(a, b, c + a / 2, d, e, f + e / 2), UTM))


def test_a_narrow_swath_in_its_own_footprint_is_sound(tmp_path: Path) -> None:
    """Granules at the edge of a swath are mostly empty, and their items say so."""
    values = ground("field")
    for each in values.values():
        each[:, 40:] = np.nan
    scene = scene_by("earth search, applied", tmp_path, reflectance=values)
    west, south, east, north = scene.footprint.bounds
    narrow = shapely.box(west, south, west + (east - west) / 6, north)
    found = examine(replace(scene, footprint=narrow))
    assert found.excluded is None
    assert not found.warnings


def test_four_corners_far_north_leave_out_no_data(tmp_path: Path) -> None:
    """Their edges are straight in longitude and latitude, those of the raster on its map."""
    path = write_raster(
        tmp_path / "x.tif", noise((1, 400, 400)), crs="EPSG:32633", corner=(5e5, 8.9e6), pixel=600.0
    )
    scene = scene_of(path, ("vh",))
    corners = corners_of(path)
    found = examine(replace(scene, footprint=shapely.Polygon(corners)))
    assert found.footprint is not None
    assert found.excluded is None
    assert not found.warnings
    lattice = Lattice(GeoBox((400, 400), Affine(600, 0, 5e5, 0, -600, 8.9e6), "EPSG:32633"))
    assert lattice.mask_of(shapely.Polygon(corners), lattice.window).mean() < 0.985
    assert lattice.mask_of(found.footprint, lattice.window).mean() > 0.9999


@pytest.mark.parametrize("how", ["around the world", "split", "beyond 180"])
def test_a_raster_across_the_antimeridian_agrees_with_its_item(tmp_path: Path, how: str) -> None:
    path = write_raster(
        tmp_path / "x.tif", noise((1, 300, 300)), crs="EPSG:32660", corner=(7.135e5, 5.54e6)
    )
    whole = shapely.Polygon(corners_of(path))
    footprint = {
        "around the world": whole,
        "split": as_geojson_has_it(in_one_piece(whole))[0],
        "beyond 180": in_one_piece(whole),
    }[how]
    assert np.ptp(whole.bounds[::2]) > 359
    for middle in (180.0, -180.0):
        scene = scene_of(path, ("vh",))
        scene = replace(scene, footprint=facing(in_one_piece(footprint), middle))
        assert examine(scene) == sanity.Examination()


def corners_of(path: Path) -> list[tuple[float, float]]:
    """Longitude and latitude of a raster's corners."""
    with rasterio.open(path) as source:
        left, bottom, right, top = source.bounds
        to_lonlat = pyproj.Transformer.from_crs(source.crs.to_wkt(), "EPSG:4326", always_xy=True)
    return list(
        zip(
            *to_lonlat.transform([left, right, right, left], [top, top, bottom, bottom]),
            strict=True,
        )
    )


def test_a_geometry_that_its_raster_contradicts_gives_way(tmp_path: Path) -> None:
    found = scene_by("planetary computer", tmp_path)
    right = found.footprint
    elsewhere = shapely.transform(right, lambda xy: np.add(xy, (0.02, 0)))
    moved = type(found)(**{**vars(found), "footprint": elsewhere})
    examined = examine(moved)
    assert examined.excluded is None
    (warning,) = examined.warnings
    assert "the raster is believed" in warning
    assert examined.footprint is not None
    assert examined.footprint.intersection(right).area / right.area > 0.95
    small = shapely.transform(right, lambda xy: (xy - xy.min(axis=0)) * 0.2 + xy.min(axis=0))
    (warning,) = examine(type(found)(**{**vars(found), "footprint": small})).warnings
    assert "% of the data of its raster B04" in warning


def test_a_transform_that_is_not_the_files_is_warned_of(tmp_path: Path) -> None:
    transform = [10.0, 0.0, 600_500.0, 0.0, -10.0, 5_200_020.0, 0, 0, 1]
    wrong = scene_by("planetary computer", tmp_path, **{"proj:transform": transform})
    examined = examine(wrong)
    assert examined.footprint is None
    (warning,) = examined.warnings  # every asset has it from its item: it is told once
    assert "B04 begins at 600500, 5200020, its file at 600000, 5200020" in warning
    transform[2] = 600_000.0
    right = scene_by("planetary computer", tmp_path, **{"proj:transform": transform})
    assert examine(right).warnings == ()


def test_a_large_raster_without_overviews_costs_few_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = noise((1, 300, 300))
    values[:, :200] = 0
    found = scene_of(write_raster(tmp_path / "x.tif", values), ("vh",))
    asked = []
    genuine = sanity._read

    def read(source: Any, indexes: Any, window: Any, shape: Any) -> Any:
        asked.append(window.width * window.height)
        return genuine(source, indexes, window, shape)

    monkeypatch.setattr(sanity, "_read", read)
    monkeypatch.setattr(sanity, "SMALL_PX", 64)
    (warning,) = examine(found).warnings
    assert "60% of its item's geometry" in warning
    assert asked == [1] * 25
