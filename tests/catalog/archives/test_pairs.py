"""Pairing: nothing is lost, nothing touches falsely, and every reason is the true one."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives.items import Asset, Scene
from catalog.archives.pairs import Pairing, pair_scenes, pairs_by_slot, sar_orbits
from catalog.archives.search import catalog_api, search
from catalog.errors import ArgumentError
from tests.support.scenes import NOON, REAL_ITEMS, needs_real_data, scene

REGION = (0.0, 0.0, 10.0, 10.0)
SIX_DAYS = timedelta(days=6)


def pair(optical: list[Scene], sar: list[Scene], **options: float) -> Pairing:
    return pair_scenes(optical, sar, REGION, SIX_DAYS, **options)


def ids(pairing: Pairing) -> list[tuple[str, str]]:
    return [(pair.optical.id, pair.sar.id) for pair in pairing.pairs]


def reason(pairing: Pairing, scene_id: str) -> str:
    return next(each.reason for each in pairing.unpaired if each.scene.id == scene_id)


boxes = st.tuples(st.integers(-2, 9), st.integers(-2, 9), st.integers(1, 4), st.integers(1, 4)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@st.composite
def scene_lists(draw: st.DrawFn, prefix: str) -> list[Scene]:
    return [
        scene(
            f"{prefix}{number}",
            draw(boxes),
            NOON + timedelta(hours=draw(st.integers(-200, 200))),
            relative_orbit=draw(st.integers(1, 3)),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


@given(scene_lists("optical"), scene_lists("sar"))
def test_every_scene_is_paired_or_has_its_reason(optical: list[Scene], sar: list[Scene]) -> None:
    pairing = pair(optical, sar)
    paired = {each for found in pairing.pairs for each in (found.optical.id, found.sar.id)}
    unpaired = [each.scene.id for each in pairing.unpaired]
    assert sorted([*paired, *unpaired]) == sorted(each.id for each in [*optical, *sar])
    assert all(each.reason for each in pairing.unpaired)
    region = shapely.box(*REGION)
    for found in pairing.pairs:
        assert timedelta() <= found.gap <= SIX_DAYS
        assert 0.05 <= found.overlap_share <= 1
        assert found.overlap.intersection(region).area > 0


@given(scene_lists("optical"), scene_lists("sar"), st.randoms())
def test_the_order_of_the_search_does_not_matter(
    optical: list[Scene], sar: list[Scene], random: st.DataObject
) -> None:
    before = set(ids(pair(optical, sar)))
    random.shuffle(optical)
    random.shuffle(sar)
    assert set(ids(pair(optical, sar))) == before


def test_neighbours_that_touch_are_no_pair() -> None:
    pairing = pair([scene("o", (0, 0, 1, 1))], [scene("s", (1, 0, 2, 1))])
    assert not pairing.pairs
    assert "no SAR scene overlaps" in reason(pairing, "o")
    assert "overlaps no usable optical" in reason(pairing, "s")


def test_the_gap_is_inclusive_and_its_excess_is_the_reason() -> None:
    optical = [scene("o")]
    at_limit = [scene("s", when=NOON - SIX_DAYS)]
    assert ids(pair(optical, at_limit)) == [("o", "s")]
    beyond = pair(optical, [scene("s", when=NOON + SIX_DAYS + timedelta(hours=12))])
    assert "s, is 6.5 days away, more than the 6 days allowed" in reason(beyond, "o")
    assert "o, is 6.5 days away" in reason(beyond, "s")


def test_slivers_are_refused_with_their_share() -> None:
    pairing = pair([scene("o", (0, 0, 1, 1))], [scene("s", (0.97, 0, 2, 1))])
    assert "s, covers 3.0% of it, less than the 5% needed" in reason(pairing, "o")
    assert "at most 3.0%" in reason(pairing, "s")


def test_shares_are_of_the_part_within_the_region() -> None:
    pairing = pair([scene("o", (9, 0, 11, 1))], [scene("s", (9, 0, 10, 1))])
    assert pairing.pairs[0].overlap_share == pytest.approx(1.0)


def test_clouds_and_unusable_and_outside_scenes_say_so() -> None:
    optical = [
        scene("cloudy", cloud_cover=81.0),
        scene("broken", unusable="its asset is a tape"),
        scene("elsewhere", (20, 20, 21, 21)),
        scene("unknown cloud", cloud_cover=None),
    ]
    pairing = pair(optical, [scene("s")], max_cloud_cover=80.0)
    assert ids(pairing) == [("unknown cloud", "s")]
    assert "81 %" in reason(pairing, "cloudy")
    assert reason(pairing, "broken") == "its asset is a tape"
    assert "outside the region" in reason(pairing, "elsewhere")
    assert "found no SAR scene" in reason(pair([scene("o")], []), "o")


def test_frames_of_a_pass_complement_each_other() -> None:
    west = scene("west", (0, 0, 0.6, 1), NOON)
    east = scene("east", (0.5, 0, 1, 1), NOON + timedelta(seconds=25))
    assert ids(pair([scene("o")], [east, west])) == [("o", "west"), ("o", "east")]


def test_one_orbit_is_kept_although_another_is_nearer() -> None:
    optical = [scene("o1", (0, 0, 1, 1)), scene("o2", (1, 0, 2, 1))]
    wide = scene("wide", (0, 0, 2, 1), NOON + timedelta(days=3), relative_orbit=71)
    near = scene("near", (0, 0, 1, 1), NOON + timedelta(days=1), relative_orbit=64)
    pairing = pair(optical, [near, wide])
    assert ids(pairing) == [("o1", "wide"), ("o2", "wide")]
    assert "already cover its ground" in reason(pairing, "near")


def two_orbits() -> tuple[list[Scene], list[Scene]]:
    """Two granules of a day; an ascending orbit over both, a descending one over the first, nearer
    in time, and a scene of which nobody knows the orbit.
    """
    optical = [scene("o1", (0, 0, 1, 1)), scene("o2", (1, 0, 2, 1))]
    up = {"relative_orbit": 44, "orbit_state": "ascending"}
    down = {"relative_orbit": 95, "orbit_state": "descending"}
    sar = [
        scene("up1", (0, 0, 1.1, 1), NOON + timedelta(days=3), **up),
        scene("up2", (1.1, 0, 2, 1), NOON + timedelta(days=3, seconds=25), **up),
        scene("down", (0, 0, 1, 1), NOON + timedelta(days=1), **down),
        scene("unknown", (0, 0, 2, 1), NOON, relative_orbit=None, orbit_state=None),
    ]
    return optical, sar


@pytest.mark.parametrize(
    ("policy", "orbit", "other", "told"),
    [
        ("ascending", 44, "down", "its orbit is descending, and ascending is asked for"),
        ("descending", 95, "up1", "its orbit is ascending, and descending is asked for"),
        ("44", 44, "down", "its relative orbit is 95, and 44 is asked for"),
        ("95", 95, "up1", "its relative orbit is 44, and 95 is asked for"),
    ],
)
def test_the_orbit_asked_for_is_the_only_one(
    policy: str, orbit: int, other: str, told: str
) -> None:
    optical, sar = two_orbits()
    pairing = pair_scenes(optical, sar, REGION, SIX_DAYS, orbit=policy)
    assert {found.sar.relative_orbit for found in pairing.pairs} == {orbit}
    assert reason(pairing, other) == told
    assert reason(pairing, "unknown").endswith(f"orbit is not told, and {policy} is asked for")
    if orbit == 95:  # it does not see the second granule
        assert "no SAR scene overlaps it" in reason(pairing, "o2")


def test_pairs_of_a_day_come_from_one_orbit_where_it_covers() -> None:
    optical, sar = two_orbits()
    pairing = pair(optical, sar[:3])
    assert ids(pairing) == [("o1", "up1"), ("o2", "up2"), ("o2", "up1")]
    assert sar_orbits(pair.sar for pair in pairing.pairs) == [
        {"platform": "sentinel-1a", "relative_orbit": 44, "orbit_state": "ascending"}
    ]
    # What the best orbit does not see is filled from the next.
    holes = pair(optical, [sar[0], sar[1], scene("down", (0, 0, 1, 1), relative_orbit=95)])
    assert [orbit["relative_orbit"] for orbit in sar_orbits(pair.sar for pair in holes.pairs)] == [
        44
    ]
    filled = pair(optical, [sar[0], scene("down", (1, 0, 2, 1), relative_orbit=95)])
    assert [orbit["relative_orbit"] for orbit in sar_orbits(pair.sar for pair in filled.pairs)] == [
        44,
        95,
    ]


def test_of_one_orbit_the_nearest_pass_wins() -> None:
    late = scene("late", when=NOON + timedelta(days=5))
    early = scene("early", when=NOON - timedelta(days=1))
    assert ids(pair([scene("o")], [late, early])) == [("o", "early")]


def test_slots_are_solar_days_in_order() -> None:
    # 23:30 UTC at 170 E is the morning of the next day there.
    optical = [
        scene("b", (169, 0, 170, 1), NOON.replace(hour=23, minute=30)),
        scene("a", (169, 1, 170, 2), NOON.replace(hour=0, minute=10)),
    ]
    sar = [scene("s", (169, 0, 170, 2))]
    pairing = pair_scenes(optical, sar, (169.0, 0.0, 170.0, 2.0), SIX_DAYS)
    by_day = pairs_by_slot(pairing.pairs)
    assert list(by_day) == ["2020-11-04", "2020-11-05"]
    assert [each.id for each in by_day["2020-11-05"]] == ["b__s"]


def test_a_bad_region_is_refused() -> None:
    with pytest.raises(ArgumentError, match="west"):
        pair_scenes([], [], (1.0, 0.0, 0.0, 1.0), SIX_DAYS)


@needs_real_data
@pytest.mark.real_data
@pytest.mark.parametrize(("block", "count"), [("T11SMT", 9), ("T11SLT", 18)])
def test_real_blocks_pair_one_to_one(block: str, count: int) -> None:
    november = date(2020, 11, 1), date(2020, 11, 30)
    world = (-119.5, 33.0, -117.0, 35.0)
    with catalog_api(str(REAL_ITEMS)) as url:
        optical = [s for s in search(url, "sentinel-2-visual", world, *november) if block in s.id]
        sar = search(url, "sentinel-1-grd-vh", world, *november)
    box = shapely.union_all([each.footprint for each in optical]).bounds
    pairing = pair_scenes(optical, sar, box, SIX_DAYS)
    assert len(pairing.pairs) == count
    # Each optical scene goes with the SAR cut of its own footprint.
    assert all(o.removeprefix("S2") == s.removeprefix("S1") for o, s in ids(pairing))
    assert all(each.scene.id.startswith("S1") for each in pairing.unpaired)
    assert list(pairs_by_slot(pairing.pairs)) == ["2020-11-04"]


def test_partners_without_a_common_band_are_left_out_for_those_that_show_more() -> None:
    def of(band: str, id_: str, box: tuple[float, float, float, float]) -> Scene:
        return scene(id_, box, assets=(Asset("data", "/nowhere.tif", (band,)),))

    optical = scene("optical", (0.0, 0.0, 1.0, 1.0), collection="o")
    north, south = of("vh", "north", (0.0, 0.4, 1.0, 1.0)), of("hh", "south", (0.0, 0.0, 1.0, 0.45))
    dual = scene("dual", (0.0, 0.0, 1.0, 0.4), assets=(Asset("data", "/x.tif", ("vh", "hh")),))
    pairing = pair_scenes([optical], [north, south], (0.0, 0.0, 1.0, 1.0), timedelta(days=6))
    assert [pair.sar.id for pair in pairing.pairs] == ["north"]
    assert "it has hh and not vh" in reason(pairing, "south")
    pairing = pair_scenes([optical], [north, south, dual], (0.0, 0.0, 1.0, 1.0), timedelta(days=6))
    assert {pair.sar.id for pair in pairing.pairs} == {
        "north",
        "dual",
    }  # it fills what south leaves
