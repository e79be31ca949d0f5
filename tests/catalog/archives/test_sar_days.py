"""A SAR pass on a day of its own: which scenes it is shown with, and why others are not."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from catalog.archives.items import Asset, Scene
from catalog.archives.sar_days import MOST_PASSES, choose_sar, pair_latest
from tests.support.scenes import NOON, scene

REGION = (0.0, 0.0, 2.0, 1.0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_the_pass_that_sees_most_comes_first_and_the_other_fills_what_it_leaves() -> None:
    north = scene("north", (0.0, 0.5, 1.5, 1.0), relative_orbit=1)
    south = scene("south", (0.0, 0.0, 1.5, 0.55), NOON + timedelta(seconds=25), relative_orbit=1)
    evening = scene("evening", (1.2, 0.0, 2.0, 1.0), NOON + 12 * HOUR, relative_orbit=2)
    again = scene("again", (0.1, 0.0, 1.4, 1.0), NOON + 12 * HOUR, relative_orbit=3)
    outside = scene("outside", (3.0, 0.0, 4.0, 1.0))
    chosen, left = choose_sar([again, evening, outside, south, north], REGION)
    assert {each.id for each in chosen[:2]} == {"north", "south"}
    assert [each.id for each in chosen[2:]] == ["evening"]
    assert {each.scene.id: each.reason for each in left} == {
        "again": "other SAR scenes of its day already cover its ground",
        "outside": "it lies outside the region",
    }


def test_a_small_part_of_a_region_is_enough_if_nothing_else_shows_it() -> None:
    corner = scene("corner", (1.99, 0.99, 3.0, 2.0))
    assert choose_sar([corner], REGION) == ((corner,), ())


def test_an_orbit_that_was_not_asked_for_is_left_out() -> None:
    up, down = (scene(name, REGION, orbit_state=name) for name in ("ascending", "descending"))
    chosen, left = choose_sar([up, down], REGION, orbit="descending")
    assert chosen == (down,)
    assert [each.reason for each in left] == ["its orbit is ascending, and descending is asked for"]


@given(st.permutations(range(4)))
def test_the_order_of_scenes_does_not_matter(order: list[int]) -> None:
    sar = [
        scene(
            f"s{i}", (0.4 * i, 0.0, 0.4 * i + 0.8, 1.0), NOON + i % 2 * HOUR, relative_orbit=i % 2
        )
        for i in range(4)
    ]
    assert choose_sar([sar[i] for i in order], REGION)[0] == choose_sar(sar, REGION)[0]


def test_every_optical_scene_goes_with_every_sar_scene_that_covers_enough_of_it() -> None:
    sar = [scene("left", (0.0, 0.0, 1.0, 1.0)), scene("right", (0.97, 0.0, 2.0, 1.0))]
    optical = [
        scene("wide", (0.0, 0.0, 2.0, 1.0), NOON - 3 * DAY),
        scene("left-half", (-1.0, 0.0, 1.0, 1.0), NOON - DAY),
        scene("cloudy", REGION, NOON, cloud_cover=90.0),
        scene("beside", (0.0, 2.0, 1.0, 3.0), NOON),
    ]
    pairing = pair_latest(optical, sar, REGION, 0.05, max_cloud_cover=80.0)
    assert {(pair.optical.id, pair.sar.id): pair.gap for pair in pairing.pairs} == {
        ("wide", "left"): 3 * DAY, ("wide", "right"): 3 * DAY, ("left-half", "left"): DAY
    }  # fmt: skip
    assert {each.scene.id for each in pairing.unpaired} == {"cloudy", "beside"}


def test_only_the_newest_passes_are_kept() -> None:
    optical = [scene(f"o{age:02}", REGION, NOON - age * DAY) for age in range(MOST_PASSES + 3)]
    pairing = pair_latest(optical, [scene("s", REGION)], REGION)
    assert {pair.optical.id for pair in pairing.pairs} == {f"o{i:02}" for i in range(MOST_PASSES)}
    assert len(pairing.unpaired) == 3
    assert all("newer passes" in each.reason for each in pairing.unpaired)


def of(band: str, id_: str, box: tuple[float, float, float, float], seconds: float = 0.0) -> Scene:
    assets = (Asset("data", "/nowhere.tif", (band,)),)
    return scene(id_, box, NOON + timedelta(seconds=seconds), assets=assets)


def test_frames_without_a_common_band_are_left_out_for_those_that_show_more() -> None:
    frames = [
        of("vh", "north", (0.0, 0.4, 2.0, 1.0)),
        of("hh", "south", (0.0, 0.0, 2.0, 0.45), 25),
    ]
    chosen, (left,) = choose_sar(frames, REGION)
    assert [each.id for each in chosen] == ["north"]
    assert left.scene.id == "south"
    assert "it has hh and not vh" in left.reason


def test_optical_passes_without_a_common_band_are_left_out_too() -> None:
    optical = [of("red", "a", REGION), of("nir", "b", (0.0, 0.0, 1.0, 1.0))]
    pairing = pair_latest(optical, [of("vh", "sar", REGION)], REGION)
    assert {pair.optical.id for pair in pairing.pairs} == {"a"}
    assert "it has nir and not red" in pairing.unpaired[0].reason
