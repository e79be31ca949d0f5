"""Which scenes share a memory: those that look at the ground alike, whoever wrote their items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from catalog.archives.items import Asset, scene_from_item
from catalog.archives.providers import PLANETARY_COMPUTER
from catalog.memory.geometry import Geometry, geometry_of, memory_name
from catalog.memory.store import MEMORY_NAME
from tests.support.scenes import scene
from tests.support.slots import BOX, FEW_CHUNKS, LATTICE

SCENE = replace(scene("s", BOX), orbit_state="ascending", relative_orbit=64)
DEM_TILE = scene("dem", BOX)


def item(collection: str, **properties: Any) -> dict[str, Any]:
    return {
        "id": "s",
        "collection": collection,
        "bbox": list(BOX),
        "properties": {"datetime": "2020-11-04T00:00:00Z", "sat:orbit_state": "descending",
                       "sat:relative_orbit": 7, **properties},
        "assets": {"vh": {"href": "/vh.tif", "type": "image/tiff; application=geotiff"}},
    }  # fmt: skip


def test_satellites_and_passes_of_one_orbit_share_a_geometry() -> None:
    others = (replace(SCENE, platform="sentinel-1b"), replace(SCENE, id="later"))
    assert {geometry_of(each) for each in (SCENE, *others)} == {Geometry("ascending", 64, "grd")}


@pytest.mark.parametrize("orbit_state", ["ascending", "ASCENDING", "Ascending"])
@pytest.mark.parametrize("relative_orbit", [7, "7", "007"])
def test_an_orbit_is_understood_however_it_is_written(
    orbit_state: str, relative_orbit: Any
) -> None:
    found = geometry_of(replace(SCENE, orbit_state=orbit_state, relative_orbit=relative_orbit))
    assert found is not None
    assert found.name == "ascending-007-grd"


@pytest.mark.parametrize(
    "unknown",
    [{"orbit_state": None}, {"orbit_state": "geostationary"}, {"relative_orbit": None},
     {"relative_orbit": "?"}],
)  # fmt: skip
def test_a_scene_without_an_orbit_has_no_geometry(unknown: dict[str, Any]) -> None:
    assert geometry_of(replace(SCENE, **unknown)) is None


def test_a_dem_matters_to_what_is_not_corrected_yet() -> None:
    assert geometry_of(replace(SCENE, terrain=(DEM_TILE,))) == Geometry("ascending", 64, "grd-dem")
    corrected = replace(SCENE, terrain=(DEM_TILE,), terrain_corrected=True)
    assert geometry_of(corrected) == Geometry("ascending", 64, "rtc")


def test_scenes_that_are_placed_otherwise_share_no_memory() -> None:
    by_orbit = replace(SCENE, assets=(Asset("vv", "/vv.tif", ("vv",), annotation="/vv.xml"),))
    ways = {
        "grd-orbit": by_orbit,
        "grd-orbit-dem": replace(by_orbit, terrain=(DEM_TILE,)),
        "grd-orbit-dem-geoid": replace(by_orbit, terrain=(DEM_TILE,), geoid="EPSG:3855"),
        "grd-dem-geoid": replace(SCENE, terrain=(DEM_TILE,), geoid="EPSG:3855"),
    }
    for kind, found in ways.items():
        geometry = Geometry("ascending", 64, kind)
        assert geometry_of(found) == geometry
        assert MEMORY_NAME.fullmatch(memory_name(geometry, LATTICE))


@pytest.mark.parametrize(
    ("collection", "properties", "kind"),
    [
        ("sentinel-1-grd", {}, "grd"),
        ("sentinel-1-rtc", {}, "rtc"),
        ("mine", {}, "grd"),
        ("mine", {"sar:product_type": "GRD"}, "grd"),
        ("mine", {"sar:product_type": "RTC"}, "rtc"),
        ("mine", {"product:type": "NRB"}, "rtc"),
        ("artcollection", {}, "grd"),
    ],
)
def test_an_item_says_whether_relief_is_taken_out(
    collection: str, properties: dict[str, Any], kind: str
) -> None:
    found = geometry_of(scene_from_item(item(collection, **properties), "https://api"))
    assert found is not None
    assert found.kind == kind


def test_the_corrected_collections_of_archives_are_known() -> None:
    kinds = {}
    for collection in PLANETARY_COMPUTER.collections:
        if collection.role == "sar":
            found = geometry_of(
                scene_from_item(item(collection.id), "https://api", PLANETARY_COMPUTER)
            )
            assert found is not None
            kinds[collection.geometry] = found.kind
    assert kinds == {"map": "rtc", "gcps": "grd"}


def test_another_lattice_has_a_memory_of_its_own() -> None:
    geometry = Geometry("ascending", 64, "grd")
    names = {memory_name(geometry, lattice) for lattice in (LATTICE, FEW_CHUNKS)}
    assert len(names) == 2
    assert all(name.startswith("ascending-064-grd-") for name in names)
