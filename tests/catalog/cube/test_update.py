"""The cube of a region: every published day along time, for whoever does not have this package."""

from __future__ import annotations

import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import catalog
from catalog import objects
from catalog.cube.repository import container_prefix, cube_url
from catalog.cube.update import CubeChange, tidy_cube, update_cube
from catalog.errors import StoreError
from catalog.grid import lattice_for
from catalog.retention import old_days, oldest_kept, retire
from catalog.store.publish import publish, withdraw
from catalog.store.schema import Packing, SlotSchema
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from tests.support.cubes import (
    LATTICE,
    copied_day,
    cube_in_a_bare_process,
    open_cube,
    publish_day,
    require_days,
    written_day,
)
from tests.support.scenes import NOON
from tests.support.slots import BOX, pair_of_day, shard_pixels, slot_store


def files_of(folder: str | Path) -> set[str]:
    return {entry.name for entry in objects.entries(str(folder))}


def published_day(folder: str, slot: str, generation: str, seed: int = 0) -> SlotStore:
    return publish_day(written_day(folder, slot, generation, seed))


def test_whoever_has_no_more_than_xarray_and_icechunk_sees_every_day(
    store: str, tmp_path: Path
) -> None:
    second = published_day(store, "2020-11-06", "b", seed=2)
    assert update_cube(store, "la") == CubeChange(added=("2020-11-06",))
    first = published_day(store, "2020-11-04", "a", seed=1)
    assert update_cube(store, "la") == CubeChange(added=("2020-11-04",))
    require_days(cube_in_a_bare_process(f"{store}/la", tmp_path), [first, second])

    withdraw(store, "la", ["2020-11-04"])
    before = files_of(store)
    assert tidy_cube(store, "la", timedelta(0)) == CubeChange(removed=("2020-11-04",))
    assert len(files_of(store)) < len(before)
    assert str(open_cube(f"{store}/la").time.values[0])[:10] == "2020-11-06"


def test_it_opens_as_the_mosaic_does(tmp_path: Path) -> None:
    store = str(tmp_path)
    for number in (1, 2):
        published_day(store, f"2020-11-0{number}", f"{number}", seed=number)
    with pytest.raises(StoreError, match=r"there is no cube.*`tar-pipeline cube STORE` makes it"):
        catalog.open_cube(f"{store}/la")
    update_cube(store, "la")
    cube, mosaic = catalog.open_cube(tmp_path / "la"), catalog.open_mosaic(tmp_path / "la")
    assert cube.rio.crs == mosaic.rio.crs
    assert cube.attrs["spatial:transform"] == mosaic.attrs["spatial:transform"]
    assert cube.sizes["time"] == 2
    assert set(cube.data_vars) == set(mosaic.data_vars)
    for name, variable in mosaic.data_vars.items():
        assert cube[name].chunks is not None
        assert cube[name].dtype == variable.dtype
        if not str(name).endswith("_scene"):
            xr.testing.assert_equal(cube[name].drop_vars(cube[name].coords),
                                    variable.drop_vars(variable.coords))  # fmt: skip
    for sensor in ("sar", "optical"):
        of_day = cube[f"{sensor}_time"].isel(time=1).compute()
        seen = of_day[cube[f"{sensor}_scene"].isel(time=1).compute()]
        of_all = mosaic[f"{sensor}_time"].compute()
        expected = of_all[mosaic[f"{sensor}_scene"].isel(time=1).compute()]
        np.testing.assert_array_equal(seen.values, expected.values)
    shutil.move(tmp_path / "la", tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="of another place"):
        catalog.open_cube(tmp_path / "elsewhere")


def test_who_opened_it_before_a_day_was_made_again_goes_on_reading_what_it_was(
    tmp_path: Path,
) -> None:
    store = str(tmp_path)
    days = [published_day(store, f"2020-11-0{n}", "a", seed=n) for n in (1, 2)]
    update_cube(store, "la")
    before, old = files_of(store), open_cube(f"{store}/la")
    assert update_cube(store, "la") == CubeChange()
    assert files_of(store) == before  # nothing was to be done

    remade = published_day(store, "2020-11-01", "b", seed=3)
    assert update_cube(store, "la") == CubeChange(remade=("2020-11-01",))
    require_days(open_cube(f"{store}/la"), [remade, days[1]])
    require_days(old, days)

    withdraw(store, "la", ["2020-11-01", "2020-11-02"])
    update_cube(store, "la")
    assert not files_of(cube_url(f"{store}/la"))


def test_a_day_can_be_added_anywhere(tmp_path: Path) -> None:
    store = str(tmp_path)
    middle = published_day(store, "2020-11-05", "a")
    days = {"2020-11-05": middle}
    update_cube(store, "la")
    for slot in ("2020-11-09", "2020-11-02", "2020-11-07"):
        days[slot] = publish_day(copied_day(middle, slot, f"of-{slot}"))
        assert update_cube(store, "la").added == (slot,)
    require_days(open_cube(f"{store}/la"), [days[slot] for slot in sorted(days)])


def test_an_update_makes_up_for_those_that_were_missed(tmp_path: Path) -> None:
    store = str(tmp_path)
    days = [published_day(store, f"2020-11-0{n}", f"{n}", seed=n) for n in (1, 2, 3)]
    update_cube(store, "la")
    remade = published_day(store, "2020-11-02", "again", seed=8)
    later = published_day(store, "2020-11-04", "4", seed=4)
    withdraw(store, "la", ["2020-11-01"])
    assert update_cube(store, "la") == CubeChange(
        added=("2020-11-04",), remade=("2020-11-02",), removed=("2020-11-01",)
    )
    require_days(open_cube(f"{store}/la"), [remade, days[2], later])


def test_one_more_day_writes_no_more_the_more_days_there_are(tmp_path: Path) -> None:
    store = str(tmp_path)
    first, cube = written_day(store, "2020-01-01", "a"), cube_url(f"{store}/la")
    written = []
    for number in range(1, 9):
        publish_day(copied_day(first, f"2020-02-{number:02d}", "a"))
        before = files_of(cube)
        update_cube(store, "la")
        written.append(len(files_of(cube) - before))
    assert set(written[2:]) == {written[2]}


def test_what_a_day_does_not_have_is_no_data(tmp_path: Path) -> None:
    store = str(tmp_path)
    few = SlotStore(store, "la", "2020-11-03", "few")
    few.create(LATTICE, SlotSchema(("red",), (), {"s": NOON}, {"o": NOON}), {})
    (shard,) = LATTICE.shards()
    names = ["red", "dx", "dy", "expected_error", "quality", "sar_scene", "optical_scene"]
    write_shard(few, shard, shard_pixels(shard, 5)[names])
    days = [publish_day(few), published_day(store, "2020-11-04", "all")]
    update_cube(store, "la")
    cube = open_cube(f"{store}/la")
    require_days(cube, days)
    assert {"blue", "vh"} <= set(cube.data_vars)


def test_numbers_that_a_day_stores_in_another_way_are_the_same_in_the_cube(tmp_path: Path) -> None:
    (shard,) = LATTICE.shards()
    days = []
    for number, offset in enumerate((0.0, -0.1), start=1):
        day = SlotStore(str(tmp_path), "la", f"2020-11-0{number}", "a")
        packings = dict.fromkeys(("red", "green", "blue"), Packing("uint16", 1e-4, offset))
        scenes = {"s": NOON}, {"o": NOON}
        schema = SlotSchema(("red", "green", "blue"), ("vh",), *scenes, False, packings)
        day.create(LATTICE, schema, {})
        pixels = shard_pixels(shard, number)
        for band in packings:
            pixels[band] = (pixels[band] / pixels[band].max()).astype("float32")
        write_shard(day, shard, pixels)
        publish_day(day)
        days.append(day)
    update_cube(str(tmp_path), "la")
    cube = open_cube(f"{tmp_path}/la")
    for at, day in enumerate(days):
        np.testing.assert_allclose(cube.red[at].values, day.open().red.values, atol=1e-6)


def test_days_on_another_grid_than_the_latest_are_left_out(tmp_path: Path) -> None:
    store, other = str(tmp_path), lattice_for((*BOX[:2], BOX[2] - 0.002, BOX[3]), shard_px=512)
    before = published_day(store, "2020-11-03", "a")
    after = slot_store(store, slot="2020-11-05", generation="b")
    update_cube(store, "la")
    after.create(other, SlotSchema(("red",), (), {"s": NOON}, {"o": NOON}), {})
    publish(after, other, [pair_of_day()], {})
    change = CubeChange(added=("2020-11-05",), removed=("2020-11-03",), left_out=("2020-11-03",))
    assert update_cube(store, "la") == change
    cube = open_cube(f"{store}/la")
    require_days(cube, [after])
    assert cube.attrs["days_on_other_grids"] == {"2020-11-03": "a"}
    assert update_cube(store, "la") == CubeChange(left_out=("2020-11-03",))
    earlier = publish_day(copied_day(before, "2020-11-02", "c"))
    assert update_cube(store, "la").left_out == ("2020-11-02", "2020-11-03")
    withdraw(store, "la", ["2020-11-05"])
    update_cube(store, "la")
    require_days(open_cube(f"{store}/la"), [earlier, before])


def test_a_store_that_was_moved_gets_its_cube_again(tmp_path: Path) -> None:
    there, here = str(tmp_path / "there"), str(tmp_path / "my mosaics")
    published_day(there, "2020-11-04", "a")
    update_cube(there, "la")
    shutil.move(there, here)
    assert update_cube(here, "la") == CubeChange(added=("2020-11-04",))
    assert container_prefix(f"{here}/la") == f"file://{tmp_path}/"  # a blank cannot be in it
    require_days(open_cube(f"{here}/la"), [slot_store(here, slot="2020-11-04", generation="a")])


def test_days_that_are_retired_leave_the_cube_before_they_are_deleted(tmp_path: Path) -> None:
    store = str(tmp_path)
    days = [published_day(store, f"2020-11-0{n}", f"{n}", seed=n) for n in (1, 2)]
    update_cube(store, "la")
    retire(store, "la", old_days(store, "la", oldest_kept(1, date(2020, 11, 2))))
    require_days(open_cube(f"{store}/la"), days[1:])


def test_a_region_without_a_cube_gets_none_by_losing_days(tmp_path: Path) -> None:
    day = published_day(str(tmp_path), "2020-11-01", "a")
    retire(day.store_url, "la", [])
    assert not files_of(cube_url(day.region_url))


@pytest.mark.parametrize("recheck", [False, True])
def test_items_that_were_changed_by_hand_are_seen_when_asked_for(
    tmp_path: Path, recheck: bool
) -> None:
    store = str(tmp_path)
    published_day(store, "2020-11-01", "a")
    update_cube(store, "la")
    day = published_day(store, "2020-11-01", "b")
    os.utime(day.item_url, (0, 0))  # as from a backup
    assert bool(update_cube(store, "la", recheck=recheck).remade) == recheck


def test_a_day_made_again_by_a_machine_whose_clock_is_an_hour_behind_is_shown(
    tmp_path: Path,
) -> None:
    published_day(str(tmp_path), "2020-11-04", "a", seed=1)
    update_cube(str(tmp_path), "la")
    again = published_day(str(tmp_path), "2020-11-04", "b", seed=2)
    item = tmp_path / "la" / "items" / "2020-11-04.json"
    behind = item.stat().st_mtime - 3600
    os.utime(item, (behind, behind))
    change = update_cube(str(tmp_path), "la", published=["2020-11-04"])
    assert change == CubeChange(remade=("2020-11-04",))
    require_days(open_cube(f"{tmp_path}/la"), [again])
