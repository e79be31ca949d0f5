"""Who publish into one region at once: in the end its cube shows exactly what is published."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from catalog import objects
from catalog.cube.repository import open_repository
from catalog.cube.update import CubeChange, update_cube
from catalog.store.publish import published_generation
from catalog.store.slot import SlotStore
from tests.support.cubes import (
    FORKS,
    aws_variables,
    open_cube,
    publish_day,
    require_days,
    written_day,
)

PATIENCE_S = 1700
CREATED = 4  # of which two at once would spoil every other


def publish_days(days: Sequence[SlotStore], start: Barrier, environment: Mapping[str, str]) -> None:
    """One after the other, each with the cube's update."""
    os.environ.update(environment)
    start.wait()
    for day in days:
        publish_day(day)
        update_cube(day.store_url, day.region)


def publish_at_once(lists: Sequence[Sequence[SlotStore]]) -> None:
    """Each list by a process of its own, which all begin together; none of them fails."""
    start = FORKS.Barrier(len(lists))
    publishers = [
        FORKS.Process(target=publish_days, args=(days, start, aws_variables())) for days in lists
    ]
    for each in publishers:
        each.start()
    for each in publishers:
        each.join(PATIENCE_S)
    assert [each.exitcode for each in publishers] == [0] * len(publishers)


def require_published(folder: str, days: Sequence[SlotStore]) -> None:
    """The cube shows of each slot the generation that its item names, without another update."""
    slots = sorted({day.slot for day in days})
    shown = {(slot, published_generation(folder, "la", slot)) for slot in slots}
    require_days(
        open_cube(f"{folder}/la"),
        sorted((d for d in days if (d.slot, d.generation) in shown), key=lambda day: day.slot),
    )
    assert update_cube(folder, "la", recheck=True) == CubeChange()


def days_of_two(folder: str, count: int) -> list[list[SlotStore]]:
    """By turns one's and the other's, and one that both of them make."""
    days = [written_day(folder, f"2020-{3 + n // 28:02d}-{1 + n % 28:02d}", f"{n}", seed=n)
            for n in range(2 * count)]  # fmt: skip
    both = [written_day(folder, "2020-01-01", name, seed=99) for name in ("one", "other")]
    return [[both[0], *days[::2]], [*days[1::2], both[1]]]


def test_two_publishers_at_once(tmp_path: Path) -> None:
    lists = days_of_two(str(tmp_path), 3)
    publish_at_once(lists)
    require_published(str(tmp_path), [day for days in lists for day in days])


def create_cubes(folder: str, start: Barrier) -> None:
    for number in range(CREATED):
        start.wait(60)
        open_repository(f"{folder}/{number}")


def test_two_that_create_a_cube_at_once_both_open_it(tmp_path: Path) -> None:
    start = FORKS.Barrier(2)
    creators = [FORKS.Process(target=create_cubes, args=(str(tmp_path), start)) for _ in range(2)]
    for each in creators:
        each.start()
    for each in creators:
        each.join(PATIENCE_S)
    assert [each.exitcode for each in creators] == [0, 0]


@pytest.mark.faults
def test_two_publishers_of_many_days(store: str) -> None:
    count = 30 if objects.is_local(store) else 6
    lists = days_of_two(store, count)
    publish_at_once(lists)
    require_published(store, [day for days in lists for day in days])
    print(f"\n| two publishers, {2 * count + 2} publications in {store[:5]} | all in the cube |"
          f" {len(objects.names(f'{store}/la/cube/snapshots'))} commits |")  # fmt: skip


def test_a_day_before_others_waits_for_who_publishes_many(tmp_path: Path) -> None:
    store = str(tmp_path)
    days = [publish_day(written_day(store, f"2020-11-0{n}", f"{n}", seed=n)) for n in (5, 6)]
    assert update_cube(store, "la", moving=False).added == ("2020-11-05", "2020-11-06")
    before = [publish_day(written_day(store, f"2020-11-0{n}", f"{n}", seed=n)) for n in (1, 2)]
    last = publish_day(written_day(store, "2020-11-07", "7", seed=7))
    assert update_cube(store, "la", moving=False) == CubeChange()
    require_days(open_cube(f"{store}/la"), days)
    assert update_cube(store, "la").added == ("2020-11-01", "2020-11-02", "2020-11-07")
    require_days(open_cube(f"{store}/la"), [*before, *days, last])
