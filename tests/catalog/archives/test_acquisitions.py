"""Every acquisition once, in its newest processing, with all of its bands."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from catalog.archives import acquisitions
from catalog.archives.acquisitions import one_of_each
from catalog.archives.items import Asset, Scene, scene_from_item
from tests.support.scenes import NOON, item, scene


def ids(scenes: list[Scene]) -> list[str]:
    return [each.id for each in one_of_each(scenes)[0]]


def product(made: str, baseline: str = "N0500") -> str:
    return f"S2A_MSIL2A_20201104T183541_{baseline}_R027_T11SLT_{made}"


@pytest.mark.parametrize(
    ("name", "older", "newer"),
    [
        ("s2:processing_baseline", "05.09", "05.10"),
        ("s2:processing_baseline", "02.09", "5.0"),
        ("processing:version", "003.9", "003.71"),
        ("processing:software", {"Sentinel-1 IPF": "003.9"}, {"Sentinel-1 IPF": "003.71"}),
        ("created", "2021-01-01T00:00:00Z", "2022-01-01T00:00:00Z"),
        ("processing:datetime", "2021-01-01T00:00:00Z", "2021-01-01T00:00:01Z"),
        ("s2:generation_time", "2021-01-01T09:00:00+10:00", "2021-01-01T00:00:00Z"),
        ("s2:product_uri", product("20201104T203551"), product("20210104T203551")),
        ("s2:product_uri", product("20210104T203551", "N0209"), product("20201104T203551")),
        ("id", "S2A_11SLT_20201104_2_L2A", "S2A_11SLT_20201104_10_L2A"),
    ],
)
def test_the_newest_processing_is_taken(name: str, older: Any, newer: Any) -> None:
    def read(id_: str, told: Any) -> Scene:
        made = item(told if name == "id" else id_, "/x.tif", **{name: told})
        return scene_from_item(made, "https://api")

    old, new = read("z", older), read("a", newer)
    for order in permutations([old, new]):
        kept, (dropped,) = one_of_each(order)
        assert kept == (new,)
        assert dropped.id == old.id
        assert new.id in dropped.reason
        assert dropped.solar_day == old.solar_day


def test_what_is_another_acquisition_stays() -> None:
    old, new, again = scene("x", version=(2, 9)), scene("a", version=(5, 0)), scene("a")
    neighbour = scene("y", (1, 0, 2, 1))
    later = scene("z", when=NOON.replace(hour=19))
    assert ids([old, again, neighbour, new, later]) == ["a", "y", "z"]
    strips = [scene("one", strip="20201104T183500"), scene("two", strip="20201104T183812")]
    assert ids(strips) == ["one", "two"]


def test_a_newer_processing_that_cannot_be_used_replaces_nothing() -> None:
    broken = scene("new", version=(5, 0), assets=(), unusable="it has no raster")
    assert ids([broken, scene("old", version=(2, 9))]) == ["new", "old"]


def test_one_item_per_polarisation_is_one_scene_of_the_newest_of_each() -> None:
    def one(id_: str, band: str, version: tuple[int, ...]) -> Scene:
        return scene(id_, assets=(Asset("data", f"/{id_}.tif", (band,)),), version=version)

    items = [one("A_VV", "vv", (3,)), one("A_VH", "vh", (3,)), one("A_VV_2", "vv", (2,))]
    for order in permutations(items):
        (joined,), (dropped,) = one_of_each(order)
        assert joined.id == "A_VH+A_VV"
        assert set(joined.bands) == {"vv", "vh"}
        assert {a.href for a in joined.assets} == {"/A_VV.tif", "/A_VH.tif"}
        assert len({a.key for a in joined.assets}) == 2
        assert dropped.id == "A_VV_2"


def test_only_scenes_of_one_place_and_moment_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a DEM share their date, and the passes of years their ground."""
    compared: list[str] = []
    same = acquisitions._same_acquisition

    def count(one: Scene, other: Scene) -> bool:
        compared.append(one.id)
        return same(one, other)

    monkeypatch.setattr(acquisitions, "_same_acquisition", count)
    tiles = [scene(f"tile {n}", (n % 20, n // 20, n % 20 + 1, n // 20 + 1)) for n in range(400)]
    passes = [scene(f"pass {n}", when=NOON + timedelta(days=n)) for n in range(1, 400)]
    assert len(ids([*tiles, *passes])) == 799
    assert len(compared) <= 8 * 799
