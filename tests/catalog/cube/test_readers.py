"""Who opens a cube while days are published and publishers are killed sees whole days, always."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from catalog.cube.update import update_cube
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
from tests.support.slots import VARIABLES

SLOTS = ("2020-11-03", "2020-11-01", "2020-11-02")
PATIENCE_S = 1700.0


def publish_for_ever(stores: list[SlotStore], environment: Mapping[str, str]) -> None:
    """One generation after the other, each with the cube's update."""
    os.environ.update(environment)
    for store in itertools.cycle(stores):
        publish_day(store)
        update_cube(store.store_url, store.region)


def start(stores: list[SlotStore]) -> ForkServerProcess:
    arguments = stores, aws_variables()
    publisher = FORKS.Process(target=publish_for_ever, args=arguments, daemon=True)
    publisher.start()
    return publisher


def require_whole_days(
    cube: xr.Dataset, expected: Mapping[tuple[str, str], xr.Dataset], names: Sequence[str]
) -> str:
    """Each day is one generation of it, in all of these variables. Says which."""
    told = cube[[*names, "time", "generation"]]
    cube = told.drop_vars(set(told.coords) - {"time", "generation"}).compute()
    slots = [str(day)[:10] for day in cube.time.values]
    generations = [str(name) for name in cube.generation.values]
    assert slots == sorted(set(slots))
    for at, key in enumerate(zip(slots, generations, strict=True)):
        for name in names:
            np.testing.assert_array_equal(cube[name][at].values, expected[key][name].values)
    return " ".join(generations)


def read_while_publishers_are_killed(folder: str, opens: int, kills: int) -> None:
    stores = [
        written_day(folder, slot, f"{slot}-{number}", seed=len(SLOTS) * number + at)
        for number in range(2)
        for at, slot in enumerate(SLOTS)
    ]
    expected = {(each.slot, each.generation): each.open().load() for each in stores}
    draw, states, opened, killed = random.Random(2), [""], 0, 0
    publish_day(stores[0])
    update_cube(folder, "la")
    deadline, publisher = time.monotonic() + PATIENCE_S, start(stores)
    try:
        while opened < opens or killed < kills or len(states) <= kills + 1:
            assert time.monotonic() < deadline
            assert publisher.is_alive(), "the publisher failed"
            names = draw.sample(VARIABLES, 3)  # each open reads others
            state = require_whole_days(open_cube(f"{folder}/la"), expected, names)
            if state != states[-1]:
                states.append(state)
            opened += 1
            if killed < kills and len(states) > killed + 1 and draw.random() < 2 * kills / opens:
                publisher.kill()
                publisher.join()
                killed += 1
                first = draw.randrange(len(stores))
                publisher = start(stores[first:] + stores[:first])
    finally:
        publisher.kill()
        publisher.join()
    update_cube(folder, "la")
    generations = {slot: published_generation(folder, "la", slot) for slot in sorted(SLOTS)}
    shown = [each for each in stores if generations[each.slot] == each.generation]
    require_days(open_cube(f"{folder}/la"), sorted(shown, key=lambda each: each.slot))
    told = f"cube in {folder[:5]} opened {opened} times, {killed} publishers killed"
    print(f"\n| {told} | {len(states) - 1} states in turn, all of whole days; no error |")


def test_a_reader_sees_whole_days_while_publishers_are_killed(tmp_path: Path) -> None:
    read_while_publishers_are_killed(str(tmp_path), opens=20, kills=2)


@pytest.mark.faults
def test_two_hundred_times(store: str) -> None:
    read_while_publishers_are_killed(store, opens=200, kills=10)
