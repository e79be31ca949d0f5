"""A day's pairs are its own: no other day, and no edge of a window, may change them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives.faults import share_a_band
from catalog.archives.items import Asset, Dropped, Scene
from catalog.archives.search import Found
from catalog.errors import SearchError
from flows.plan import days
from flows.plan.days import Day, Days, find_scenes, make_days
from flows.plan.request import RegionRequest
from tests.support.scenes import NOON, item, scene, write_items

BBOX = (0.0, 0.0, 1.0, 1.0)


def request(start: date, end: date, **changes: Any) -> RegionRequest:
    return RegionRequest.of(
        catalog="https://stac.example.org", optical="o", sar="s", bbox=BBOX, start=start, end=end,
        store="s3://x", **changes,
    )  # fmt: skip


def archive(monkeypatch: pytest.MonkeyPatch, scenes: Sequence[Scene]) -> None:
    """Make the search find these scenes, as a real one would: by collection and UTC day."""

    def look_up(
        _: str, collection: str, __: object, start: date, end: date, *___: object, **____: object
    ) -> Found:
        return Found(
            tuple(
                s
                for s in scenes
                if s.collection == collection and start <= s.datetime.date() <= end
            )
        )

    monkeypatch.setattr(days, "look_up", look_up)


def days_of(asked: RegionRequest) -> Days:
    found = find_scenes(asked)
    return make_days(found.optical, found.sar, asked)


def month() -> list[Scene]:
    """Optical every other day; SAR of two orbits, each every six days, one better by far."""
    optical = [
        scene(f"O{day:02}", BBOX, NOON + timedelta(days=day), collection="o")
        for day in range(0, 30, 2)
    ]
    wide = [
        scene(f"W{day:02}", BBOX, NOON + timedelta(days=day), collection="s", relative_orbit=1)
        for day in range(1, 30, 6)
    ]
    narrow = [
        scene(f"N{day:02}", (0, 0, 0.6, 1), NOON + timedelta(days=day), collection="s",
              relative_orbit=2)
        for day in range(2, 30, 6)
    ]  # fmt: skip
    return [*optical, *wide, *narrow]


@pytest.mark.parametrize("length", [1, 3, 5, 11])
def test_a_moving_window_gives_every_day_the_same_pairs(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    archive(monkeypatch, month())
    first = NOON.date()
    seen: dict[date, set[tuple[str, str]]] = {}
    for offset in range(30):
        start = first + timedelta(days=offset)
        asked = request(start, start + timedelta(days=length - 1))
        made = days_of(asked)
        by_day: dict[date, set[tuple[str, str]]] = {}
        for each in made.days:
            for pair in each.pairs:
                by_day.setdefault(pair.optical.solar_day, set()).add((pair.optical.id, pair.sar.id))
        assert all(asked.start <= day <= asked.end for day in by_day)
        for day, pairs in by_day.items():
            assert seen.setdefault(day, pairs) == pairs
    assert len(seen) == 15  # every optical day has a partner, by whichever window it was seen


def test_partners_outside_the_window_are_found_and_their_leftovers_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(monkeypatch, month())
    day = NOON.date() + timedelta(days=4)
    made = days_of(request(day, day))
    (only,) = made.days
    assert {pair.optical.id for pair in only.pairs} == {"O04"}
    assert all(pair.sar.solar_day != day for pair in only.pairs)
    assert made.unpaired == ()


def test_a_pass_across_midnight_utc_is_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    east = (150.0, 0.0, 151.0, 1.0)
    midnight = NOON.replace(hour=23, minute=59, second=58)
    pass_ = [
        scene("before", east, midnight, collection="o"),
        scene("after", east, midnight + timedelta(seconds=5), collection="o"),
    ]
    archive(monkeypatch, pass_)
    solar_day = pass_[0].solar_day
    assert solar_day == midnight.date() + timedelta(days=1)
    for start in (solar_day, solar_day - timedelta(days=1)):
        assert {s.id for s in find_scenes(request(start, solar_day)).optical} == {"before", "after"}
    assert find_scenes(request(midnight.date(), midnight.date())).optical == ()


@st.composite
def archives(draw: st.DrawFn) -> list[Scene]:
    """Three weeks of passes, with gaps; optical under cloud, SAR of one polarisation or another."""
    scenes = []
    for day in range(21):
        when = NOON + timedelta(days=day)
        if draw(st.booleans()):
            cloud = draw(st.sampled_from([0.0, 50.0, 95.0]))
            scenes.append(scene(f"O{day:02}", BBOX, when, collection="o", cloud_cover=cloud))
        for orbit, box in ((1, BBOX), (2, (0.3, 0.0, 1.0, 1.0))):
            if draw(st.integers(0, 3)) == 0:
                bands = draw(st.sampled_from([("vh",), ("vh",), ("hh",), ("vv", "vh")]))
                assets = tuple(Asset(band, f"/{band}.tif", (band,)) for band in bands)
                scenes.append(
                    scene(f"S{day:02}-{orbit}", box, when + timedelta(hours=orbit), collection="s",
                          relative_orbit=orbit, assets=assets)
                )  # fmt: skip
    return scenes


@given(
    scenes=archives(),
    slots=st.sampled_from(["optical", "sar", "both"]),
    age=st.integers(0, 25),
    start=st.integers(0, 20),
    length=st.integers(1, 21),
)
def test_no_window_changes_what_a_day_is_made_of(
    scenes: list[Scene], slots: str, age: int, start: int, length: int
) -> None:
    def made_of(start: int, length: int) -> dict[str, Day]:
        first = NOON.date() + timedelta(days=start)
        asked = request(first, first + timedelta(days=length - 1), slots=slots,
                        max_optical_age_days=age, max_gap_days=2)  # fmt: skip
        made = days_of(asked)
        told = {left.scene.id: left.scene for left in made.unpaired}
        assert all(asked.start <= each.solar_day <= asked.end for each in told.values())
        used = {id_ for day in made.days for id_ in day.scene_ids}
        inside = {s.id for s in scenes if asked.start <= s.solar_day <= asked.end}
        assert told.keys() == inside - used  # each is used, or its reason is told
        for day in made.days:
            assert share_a_band([*day.sar, *(pair.sar for pair in day.pairs)])
        return {day.slot: day for day in made.days}

    with pytest.MonkeyPatch.context() as monkeypatch:
        archive(monkeypatch, scenes)
        whole, part = made_of(0, 21), made_of(start, length)
    first = NOON.date() + timedelta(days=start)
    span = {(first + timedelta(days=i)).isoformat() for i in range(length)}
    assert part == {slot: day for slot, day in whole.items() if slot in span}


@given(scenes=archives(), age=st.integers(0, 25))
def test_every_sar_day_is_a_slot_and_shows_nothing_older_than_asked(
    scenes: list[Scene], age: int
) -> None:
    first, last = NOON.date(), NOON.date() + timedelta(days=20)
    made = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        archive(monkeypatch, scenes)
        for slots in ("optical", "sar", "both"):
            asked = request(first, last, slots=slots, max_optical_age_days=age, max_gap_days=2)
            made[slots] = {day.slot: day for day in days_of(asked).days}
    passes = {s.solar_day.isoformat() for s in scenes if s.collection == "s"}
    assert made["sar"].keys() == passes
    assert made["both"] == {**made["sar"], **made["optical"]}
    for slot, day in made["sar"].items():
        assert {each.solar_day.isoformat() for each in day.sar} == {slot}
        ages = {(date.fromisoformat(slot) - pair.optical.solar_day).days for pair in day.pairs}
        assert all(0 <= each <= age for each in ages)
        assert all((pair.optical.cloud_cover or 0) <= 80 for pair in day.pairs)


def test_what_the_archive_has_twice_is_told_for_the_days_asked_for_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day = NOON.date()
    dropped = {
        "inside": Dropped("inside", "a newer one", day),
        "before": Dropped("before", "a newer one", day - timedelta(days=3)),
        "somewhere": Dropped("somewhere", "is no valid STAC item"),
    }
    found = Found((), (dropped["somewhere"],), (dropped["before"], dropped["inside"]))
    monkeypatch.setattr(days, "look_up", lambda *_, **__: found)
    told = {each.id for each in find_scenes(request(day, day)).dropped}
    assert told == {"inside", "somewhere"}


def test_an_odd_tile_of_a_dem_ends_the_plan_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ground without a tile would count as sea."""
    odd = Dropped("tile 7", "is no valid STAC item: its assets is 7, not an object")
    day = NOON.date()
    tile = scene("tile", BBOX, collection="dem")
    monkeypatch.setattr(days, "look_up", lambda *_, **__: Found((tile,), (odd,)))
    with pytest.raises(SearchError, match="DEM tile tile 7: is no valid"):
        find_scenes(request(day, day, dem="dem"))
    sound = [item(name, "/x.tif", collection=name) for name in ("o", "s", "dem")]
    path = write_items(tmp_path, *sound, {**sound[2], "id": "tile 7", "assets": 7})
    monkeypatch.setattr(days, "look_up", lambda *_, **__: Found((tile,)))
    asked = request(day, day, dem="dem").model_copy(update={"catalog": path})
    with pytest.raises(SearchError, match="DEM tile tile 7: is no valid"):
        find_scenes(asked)
