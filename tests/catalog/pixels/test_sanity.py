"""Scenes that are not what their items say: found, named, and left out or put right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from catalog.archives.items import Scene, scene_from_item
from catalog.archives.providers import provider_named
from catalog.pixels import sanity
from catalog.pixels.sanity import examine
from tests.support.archives import CONVENTIONS, write_scene
from tests.support.scenes import noise, scene_of, write_raster

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


def test_an_empty_scene_and_a_border_are_found(tmp_path: Path) -> None:
    nothing = {band: np.full((240, 240), np.nan) for band in NIR_TOO}
    found = examine(scene_by("planetary computer", tmp_path / "a", reflectance=nothing))
    assert found.excluded == "every pixel looked at in its asset B04 is zero or no data"
    bordered = ground("forest")
    for values in bordered.values():
        values[60:, :] = np.nan
    found = examine(scene_by("copernicus", tmp_path / "b", reflectance=bordered))
    assert found.excluded is not None
    assert "74% of its footprint is zero or no data in its asset B04_10m" in found.excluded


def test_zeros_that_no_one_declared_are_a_border_too(tmp_path: Path) -> None:
    values = noise((1, 300, 300))
    values[:, :, 100:] = 0
    found = examine(scene_of(write_raster(tmp_path / "x.tif", values), ("vh",)))
    assert found.excluded is not None
    assert "67% of its footprint" in found.excluded


def test_a_narrow_swath_in_its_own_footprint_is_sound(tmp_path: Path) -> None:
    """Granules at the edge of a swath are mostly empty, and their items say so."""
    values = ground("field")
    for each in values.values():
        each[:, 40:] = np.nan
    scene = scene_by("earth search, applied", tmp_path, reflectance=values)
    west, south, east, north = scene.footprint.bounds
    narrow = shapely.box(west, south, west + (east - west) / 6, north)
    found = examine(type(scene)(**{**vars(scene), "footprint": narrow}))
    assert found == sanity.Examination()


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
    excluded = examine(found).excluded
    assert excluded is not None
    assert "60% of its footprint" in excluded
    assert asked == [1] * 25
