"""Clouds, shadows and broken pixels: read from the mask beside a scene, kept from matching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from catalog.archives.items import Asset, Mask, scene_from_item
from catalog.archives.providers import provider_named
from catalog.errors import SceneReadError
from catalog.grid import Lattice, Window
from catalog.pixels.masks import (
    BROKEN,
    CIRRUS,
    CLASSES,
    CLEAR,
    CLOUD,
    CLOUDY,
    GROUND,
    LIKELY_CLOUD,
    SHADOW,
    SNOW,
    UNKNOWN,
    WATER,
    hiding,
    optical_classes,
)
from catalog.pixels.scene import probe
from catalog.store.open import open_mosaic
from catalog.store.publish import publish
from catalog.store.shards import write_shard
from tests.support.archives import CONVENTIONS, CORNER, CRS, write_scene
from tests.support.scenes import aligned_lattice, noise, read_window, same, scene_of, write_raster
from tests.support.slots import LATTICE, SCHEMA, pair_of_day, published, shard_pixels, slot_store

RGB = ("red", "green", "blue")
SCENE_CLASSES = {
    0: UNKNOWN, 1: BROKEN, 2: GROUND, 3: SHADOW, 4: GROUND, 5: GROUND, 6: WATER, 7: GROUND,
    8: LIKELY_CLOUD, 9: CLOUD, 10: CIRRUS, 11: SNOW,
}  # fmt: skip


def test_scene_classes_mean_what_hides_the_ground(tmp_path: Path) -> None:
    classes = np.arange(64 * 64, dtype=np.uint8).reshape(1, 64, 64) % 12
    mask = Asset("scl", str(write_raster(tmp_path / "scl.tif", classes)), ("scl",))
    path = write_raster(tmp_path / "x.tif", noise((3, 64, 64)))
    found = scene_of(path, RGB, mask=Mask(mask, "scene classes"))
    lattice = aligned_lattice()
    shown = optical_classes(found, lattice, lattice.window)
    assert np.array_equal(shown, np.vectorize(SCENE_CLASSES.get)(classes[0]))
    # Outside of its mask nothing is known of a scene, and unknown is not hidden.
    beside = optical_classes(found, lattice, Window(-10, -10, 10, 10))
    assert (beside == UNKNOWN).all()
    level = hiding(shown)
    assert not hiding(beside).any()
    assert np.array_equal(level == CLEAR, np.isin(classes[0], (0, 2, 4, 5, 6, 7, 11)))


def test_probabilities_serve_where_there_are_no_classes(tmp_path: Path) -> None:
    percent = np.array([[0, 20, 34, 35, 65, 66, 100, 255]], np.uint8)[None].repeat(8, axis=1)
    mask = Asset("cloud", str(write_raster(tmp_path / "c.tif", percent)), ("cloud",))
    path = write_raster(tmp_path / "x.tif", noise((3, 8, 8)))
    found = scene_of(path, RGB, mask=Mask(mask, "cloud probability"))
    lattice = aligned_lattice(8, 8)
    shown = [CLASSES[value] for value in optical_classes(found, lattice, lattice.window)[3]]
    assert shown[:3] == ["ground"] * 3
    assert shown[3:] == ["likely_cloud", "likely_cloud", "cloud", "cloud", "unknown"]


def test_without_a_mask_a_scene_is_clear_and_its_pixels_are_its_own(tmp_path: Path) -> None:
    values = noise((3, 64, 64))
    found = scene_of(write_raster(tmp_path / "x.tif", values), RGB)
    lattice = aligned_lattice()
    assert (optical_classes(found, lattice, lattice.window) == UNKNOWN).all()
    assert same(read_window([found], lattice, lattice.window, RGB), values.astype("float32"))


@pytest.mark.parametrize("name", ["earth search, applied", "planetary computer", "copernicus"])
def test_every_archives_classes_are_found_at_their_20_metres(tmp_path: Path, name: str) -> None:
    convention = CONVENTIONS[name]
    classes = np.full((120, 120), 5, np.uint8)
    classes[20:40, 60:80], classes[80:, :20] = 8, 3
    item = write_scene(tmp_path, convention, {"red": np.full((120, 120), 0.2)}, classes)
    found = scene_from_item(item, "https://x.org", provider_named(convention.provider))
    affine = Affine(10.0, 0.0, CORNER[0], 0.0, -10.0, CORNER[1])
    lattice = Lattice(GeoBox((120, 120), affine, CRS))
    level = optical_classes(found, lattice, lattice.window)
    assert np.array_equal(level == LIKELY_CLOUD, classes == 8)
    assert np.array_equal(level == SHADOW, classes == 3)
    assert SHADOW not in CLOUDY


def test_a_mask_that_cannot_be_read_is_found_by_probing(tmp_path: Path) -> None:
    mask = Asset("scl", str(tmp_path / "none.tif"), ("scl",))
    path = write_raster(tmp_path / "x.tif", noise((3, 64, 64)))
    with pytest.raises(SceneReadError, match=r"none\.tif"):
        probe(scene_of(path, RGB, mask=Mask(mask, "scene classes")))


def test_days_with_and_without_classes_open_together(tmp_path: Path) -> None:
    first = published(tmp_path)
    second = slot_store(tmp_path, slot="2020-11-09")
    second.create(LATTICE, replace(SCHEMA, classes=True), {})
    for shard in LATTICE.shards():
        classes = (("y", "x"), np.full(shard.window.shape, SNOW, np.uint8))
        write_shard(second, shard, shard_pixels(shard).assign(optical_class=classes))
    publish(second, LATTICE, [pair_of_day()], {})
    mosaic = open_mosaic(first.region_url)
    assert mosaic["optical_class"].dtype == np.uint8
    assert (mosaic["optical_class"][0] == UNKNOWN).all()
    assert (mosaic["optical_class"][1] == SNOW).all()
    assert mosaic["optical_class"].attrs["flag_meanings"].split()[SNOW] == "snow"
