"""Days that are no longer kept go as a whole, wherever the call that deletes them is stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import objects
from catalog.errors import ArgumentError
from catalog.retention import old_days, oldest_kept, retire
from catalog.store.days import page_url, published_slots
from catalog.store.open import open_mosaic
from catalog.store.upkeep import generations
from tests.support.memories import committed
from tests.support.slots import (
    FIRST,
    HALF,
    ONE_SHARD,
    SECOND,
    created,
    digests,
    make_old,
    published,
    slot_store,
)

DAYS = ("2020-11-01", "2020-11-05", "2020-11-09")
LAST = date(2020, 11, 9)


class Stopped(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A region of four days with pages, one day of two generations, and a memory."""
    folder = tmp_path_factory.mktemp("full")
    fill(str(folder), DAYS)
    return folder


def fill(store: str, days: tuple[str, ...]) -> None:
    for seed, day in enumerate(days):
        published(store, ONE_SHARD, seed, slot=day, generation=FIRST)
        objects.put(page_url(f"{store}/la", day), b"<html>")
    published(store, ONE_SHARD, 9, slot=days[0], generation=SECOND)
    committed(store)


def delete_before(store: Path | str, oldest: date) -> None:
    retire(str(store), "la", old_days(str(store), "la", oldest))


@contextmanager
def stopped_after(calls: int) -> Iterator[None]:
    """Only so many writing calls to the store happen; the next is the end of the process."""
    left = iter(range(calls))

    def counted(name: str):  # type: ignore[no-untyped-def]
        call = getattr(objects, name)

        def wrapped(*args: object) -> None:
            if next(left, None) is None:
                raise Stopped
            call(*args)

        return patch.object(objects, name, wrapped)

    with counted("put"), counted("remove"), counted("remove_tree"):
        yield


def require_whole(store: Path, before: dict[str, str]) -> None:
    """Each day that readers find is as it was, and what the collection's derived from is there."""
    shown = published_slots(f"{store}/la")
    now = digests(store)
    for slot in shown:
        mine = {name: known for name, known in before.items() if slot in name}
        assert {name: now.get(name) for name in mine} == mine
    if shown:
        assert [str(day)[:10] for day in open_mosaic(f"{store}/la").time.values] == shown


@settings(max_examples=8)  # each copies the region twice
@given(keep_days=st.integers(1, 12), calls=st.integers(0, 40))
def test_wherever_it_is_stopped_nothing_is_half_visible_and_the_next_call_finishes(
    full: Path, tmp_path_factory: pytest.TempPathFactory, keep_days: int, calls: int
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    stopped, whole = folder / "stopped", folder / "whole"
    for copy in (stopped, whole):
        shutil.copytree(full, copy)
    before, oldest = digests(full), oldest_kept(keep_days, LAST)
    try:
        with stopped_after(calls):
            delete_before(stopped, oldest)
    except Stopped:
        require_whole(stopped, before)
    delete_before(stopped, oldest)
    delete_before(whole, oldest)
    after = digests(whole)
    assert digests(stopped) == after
    kept = [day for day in DAYS if (LAST - date.fromisoformat(day)).days < keep_days]
    assert published_slots(f"{whole}/la") == kept
    gone = [day for day in DAYS if day not in kept]
    left = {n: d for n, d in before.items() if not any(day in n for day in gone)}
    assert {n: d for n, d in after.items() if "collection" not in n} == {
        n: d for n, d in left.items() if "collection" not in n
    }  # memory among it
    assert not any(path.name in gone for path in whole.rglob("*"))
    shutil.rmtree(folder)


def test_a_killed_process_leaves_whole_days_and_the_next_one_finishes(
    full: Path, tmp_path: Path
) -> None:
    before, oldest, total = digests(full), date(2020, 11, 9), len(digests(full))
    context = multiprocessing.get_context("forkserver")
    kills = 0
    for number, share in enumerate((0.98, 0.7, 0.4)):
        store = tmp_path / str(number)
        shutil.copytree(full, store)
        process = context.Process(target=delete_slowly, args=(store, oldest))
        process.start()
        while process.is_alive() and count_files(store) > share * total:
            time.sleep(0.001)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        require_whole(store, before)
        delete_before(store, oldest)
        assert published_slots(f"{store}/la") == [DAYS[-1]]
        assert not any(path.name in DAYS[:-1] for path in store.rglob("*"))
        linked = json.loads((store / "la" / "collection.json").read_bytes())["links"]
        assert [each["href"] for each in linked if each["rel"] == "item"] == [
            f"./items/{DAYS[-1]}.json"
        ]
    assert kills >= 2


def delete_slowly(store: Path, oldest: date) -> None:
    """File by file, so that a kill hits the middle of something."""
    unlink = os.unlink

    def slow(*args: object, **options: object) -> None:
        unlink(*args, **options)  # type: ignore[arg-type]
        time.sleep(0.002)

    with patch("os.unlink", slow), patch("os.remove", slow):
        delete_before(store, oldest)


def count_files(store: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(store))


def test_days_are_deleted_wherever_the_store_is(store: str) -> None:
    published(store, ONE_SHARD, slot=DAYS[0], generation=FIRST)
    objects.put(page_url(f"{store}/la", DAYS[0]), b"<html>")
    committed(store)
    (day,) = old_days(store, "la", date(2020, 11, 5))
    assert (day.slot, day.published, len(day.generations)) == (DAYS[0], True, 1)
    assert day.bytes > 0
    assert day.objects == sum(each.objects for each in generations(store, "la", DAYS[0]))
    retire(store, "la", [day])
    assert published_slots(f"{store}/la") == []
    assert objects.entries(f"{store}/la/slots/{DAYS[0]}") == []
    left = {entry.name.split("/")[0] for entry in objects.entries(f"{store}/la")}
    assert left == {"memory"}


def test_what_a_run_may_be_writing_is_left_alone(tmp_path: Path) -> None:
    created(tmp_path, ONE_SHARD, slot=DAYS[0], generation=HALF)
    delete_before(tmp_path, LAST)
    assert slot_store(tmp_path, slot=DAYS[0], generation=HALF).open_group("r")
    make_old(tmp_path)
    (day,) = old_days(str(tmp_path), "la", LAST)
    assert not day.published
    delete_before(tmp_path, LAST)
    assert generations(str(tmp_path), "la") == []


@given(keep_days=st.integers(1, 10**7), last=st.dates())
def test_so_many_days_are_kept_and_the_last_is_one_of_them(keep_days: int, last: date) -> None:
    oldest = oldest_kept(keep_days, last)
    assert oldest <= last
    assert oldest == date.min or (last - oldest) == timedelta(days=keep_days - 1)


def test_no_days_are_no_rule() -> None:
    with pytest.raises(ArgumentError, match="keep_days: 0"):
        oldest_kept(0, LAST)
