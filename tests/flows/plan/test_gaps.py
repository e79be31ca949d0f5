"""What is not there is told: bands that a day loses, passes that the archive lacks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from catalog.archives.items import Asset, Scene
from flows.plan.gaps import find_lost_bands, find_missing_passes
from flows.plan.generation import SlotPlan
from flows.plan.groups import Group
from tests.support.scenes import NOON, scene

START = NOON.date()


def of(*bands: str) -> Scene:
    assets = tuple(Asset(band, f"/{band}.tif", (band,)) for band in bands)
    return scene("-".join(bands), assets=assets)


def test_a_band_that_one_scene_lacks_is_told_by_its_name() -> None:
    group = Group((), (of("red", "nir"),), (of("vv", "vh"), of("vh")))
    (warned,) = find_lost_bands(SlotPlan("2020-11-04", (group,), "g"))
    assert warned.scene_id == "vh"
    assert "no vv, so the mosaic of 2020-11-04 has none" in warned.text
    same = Group((), (), (of("vv", "vh"), of("vh", "vv")))
    assert not list(find_lost_bands(SlotPlan("2020-11-04", (same,), "g")))


def passes(
    days: Iterable[int], platform: str | None = "sentinel-1a", orbit: int | None = 168
) -> list[Scene]:
    return [
        scene(
            f"{platform}-{orbit}-{day}",
            when=NOON + timedelta(days=day),
            platform=platform,
            relative_orbit=orbit,
            orbit_state="descending",
        )
        for day in days
    ]


def missing(scenes: list[Scene], days: int = 60) -> list[str]:
    return [each.text for each in find_missing_passes(scenes, START, START + timedelta(days=days))]


@pytest.mark.parametrize(
    ("platform", "found", "day"),
    [
        ("sentinel-1a", (0, 12, 36, 48), 24),
        ("SENTINEL-1B", (12, 24, 36), 0),
        ("Sentinel-2A", (0, 10, 30, 40), 20),
    ],
)
def test_a_pass_that_the_archive_lacks_is_told_by_orbit_and_date(
    platform: str, found: tuple[int, ...], day: int
) -> None:
    # Another pass is newer: so far the archive reaches.
    (told,) = missing([*passes(found, platform), *passes([47], platform, 7)], 48)
    assert f"{platform}, relative orbit 168 descending: {START + timedelta(days=day)};" in told


def test_both_satellites_of_an_orbit_are_each_expected_on_their_own_days() -> None:
    both = [*passes((0, 12, 24, 36)), *passes((6, 18, 30), "sentinel-1b")]
    assert missing(both) == []
    assert len(missing(both[:1] + both[2:])) == 1


@pytest.mark.parametrize(
    "scenes",
    [
        passes((0, 12, 24, 36)),  # none is newer
        passes((0, 24)),  # too few
        passes((0, 24, 48, 84), orbit=None),
        passes((0, 24, 48, 84), platform="landsat-8"),
        passes((0, 24, 48)) + passes((60,), orbit=9),  # every other: as many lack
        [],
    ],
)
def test_where_too_little_is_known_nothing_is_told(scenes: list[Scene]) -> None:
    assert missing(scenes) == []


def test_days_outside_of_those_asked_for_are_not_told() -> None:
    found = [*passes((-24, 0, 12, 24, 48)), *passes((70,), orbit=9)]
    (told,) = find_missing_passes(found, START, START + timedelta(days=40))
    assert str(START + timedelta(days=36)) in told.text
    assert str(START - timedelta(days=12)) not in told.text
