"""A published day becomes part of what its region remembers."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from catalog.grid import Lattice, Window, lattice_for
from catalog.memory.encoding import db_from_codes
from catalog.memory.layout import reference_lattice
from catalog.memory.store import MemoryStore
from catalog.store.schema import SlotSchema
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from flows.memory.learnt import MOST_DAYS, Day, add_day, kept_days
from flows.memory.radar import halve, in_decibels
from flows.memory.recall import least_told, load, tiles_to_match
from flows.memory.remember import ReferenceJob, stack, write_reference_shard
from flows.stages.fit import node_grid
from flows.stages.match import Tile
from tar_engine.fields.nodes import NodeField
from tests.support.matches import terrain
from tests.support.scenes import NOON

BBOX = (10.0, 50.0, 10.09, 50.05)
NAME, VERSION = "ascending-064-grd-1a2b3c4d", "0123456789abcdef"


@pytest.fixture(scope="module")
def lattice() -> Lattice:
    return lattice_for(BBOX)


def a_day(lattice: Lattice, slot: str, error_px: float = 0.2, shift: float = 0.0) -> Day:
    grid = node_grid(lattice)
    random = np.random.default_rng(int(slot.replace("-", "")))
    ground = terrain(grid.xy).T.reshape(2, *grid.shape) + shift
    ground = ground + random.normal(0, error_px / 2**0.5, ground.shape)
    return Day(slot, VERSION, NodeField(ground, np.full(grid.shape, error_px)), (0.1, -0.2))


def slots(count: int) -> list[str]:
    return [date(2024, 1, 1 + number).isoformat() for number in range(count)]


def test_days_are_kept_as_they_were_and_the_ground_gets_surer(lattice: Lattice) -> None:
    field = None
    errors = []
    for slot in slots(4):
        field = add_day(field, a_day(lattice, slot))
        errors.append(float(field["error"].median()))
    assert field is not None
    assert [day.slot for day in kept_days(field)] == slots(4)
    assert errors == sorted(errors, reverse=True)
    assert int(field["count"].min()) == 4
    assert kept_days(field)[0].optical_shift == (0.1, -0.2)


def test_of_too_many_days_those_are_kept_that_know_most(lattice: Lattice) -> None:
    field = None
    for number, slot in enumerate(slots(MOST_DAYS + 3)):
        field = add_day(field, a_day(lattice, slot, error_px=0.6 if number in (1, 4, 6) else 0.2))
    assert field is not None
    left = {day.slot for day in kept_days(field)}
    assert left == set(slots(MOST_DAYS + 3)) - {slots(9)[1], slots(9)[4], slots(9)[6]}


def test_the_order_in_which_days_come_does_not_matter(lattice: Lattice) -> None:
    days = [a_day(lattice, slot, shift=0.3 * number) for number, slot in enumerate(slots(5))]
    forth = back = None
    for day in days:
        forth = add_day(forth, day)
    for day in reversed(days):
        back = add_day(back, day)
    assert forth is not None
    assert back is not None
    assert np.abs(forth["dx"] - back["dx"]).max() < 1e-6
    assert np.abs(forth["remainder_dx"] - back["remainder_dx"]).max() < 1e-6


def test_a_memory_survives_the_store(tmp_path: Path, lattice: Lattice) -> None:
    field = add_day(add_day(None, a_day(lattice, "2024-01-01")), a_day(lattice, "2024-01-07"))
    store = MemoryStore(str(tmp_path), "region", NAME)
    store.create(VERSION, field, lattice, {"sar_band": "vv", "sar_decibel": True, "sar_days": 1})
    known = load(store, VERSION)
    assert known is not None
    assert (known.band, known.decibel) == ("vv", True)
    assert known.optical_shifts.keys() == {"2024-01-01", "2024-01-07"}
    xy = node_grid(lattice).xy
    distance = np.hypot(*(known.field.at(xy) - terrain(xy)).T)
    assert np.median(distance) < 0.25
    less = load(store, VERSION, without="2024-01-07")
    assert less is not None
    assert less.optical_shifts.keys() == {"2024-01-01"}
    assert int(less.count.max()) == 1


def test_a_day_alone_does_not_lean_on_itself(tmp_path: Path, lattice: Lattice) -> None:
    store = MemoryStore(str(tmp_path), "region", NAME)
    field = add_day(None, a_day(lattice, "2024-01-01"))
    store.create(VERSION, field, lattice, {"sar_band": "vv", "sar_decibel": True, "sar_days": 1})
    assert load(store, VERSION, without="2024-01-01") is None


def tiles_of(lattice: Lattice) -> list[Tile]:
    return [Tile(core, core, (), (), (), ()) for core in lattice.tiles(256)]


def test_half_of_the_known_tiles_are_matched_and_then_the_others(
    tmp_path: Path, lattice: Lattice
) -> None:
    field = add_day(None, a_day(lattice, "2024-01-01"))
    tiles = tiles_of(lattice)
    told = tiles[0].core
    rows, columns = (slice(0, side // 24) for side in told.shape)
    field["count"][rows, columns] = 2
    field["dx"][:, -12:], field["error"][:, -12:] = np.nan, np.nan
    store = MemoryStore(str(tmp_path), "region", NAME)
    store.create(VERSION, field, lattice, {"sar_band": "vv", "sar_decibel": True, "sar_days": 1})
    known = load(store, VERSION)
    assert known is not None
    chosen = tiles_to_match(tiles, known)
    assert 0 not in least_told(range(len(tiles)), tiles, known)
    started = [tile for tile in chosen if tile.start is not None]
    anew = [tile for tile in chosen if tile.start is None]
    assert 1 <= len(started) < len(tiles) - len(anew)
    assert all(tile.core.x1 > lattice.shape[1] - 300 for tile in anew)
    (dx, dy), core = started[0].start, started[0].core
    at = terrain(np.array([[core.x0 + 7.5, core.y0 + 7.5]]))[0]
    assert np.hypot(dx[0, 0] - at[0], dy[0, 0] - at[1]) < 0.5


def test_a_day_is_laid_into_the_reference_where_the_ground_is(
    tmp_path: Path, lattice: Lattice
) -> None:
    height, width = lattice.shape
    random = np.random.default_rng(0)
    ground = 4.0 * ndimage.gaussian_filter(random.normal(0, 1, (height, width)), 6.0) * 6 - 12.0
    day = SlotStore(str(tmp_path), "region", "2024-01-01", VERSION)
    schema = SlotSchema((), ("vv",), {"s": NOON}, {})
    day.create(lattice, schema, {})
    for shard in lattice.shards():
        pixels = schema.empty(shard.window.shape).copy(deep=True)
        pixels["vv"].values[:] = ground[shard.window.slices]
        write_shard(day, shard, pixels)
    store = MemoryStore(str(tmp_path), "region", NAME)
    field = add_day(None, a_day(lattice, "2024-01-01"))
    store.create(VERSION, field, lattice, {})
    for shard in reference_lattice(lattice).shards():
        write_reference_shard(
            ReferenceJob(store, None, VERSION, shard, day, "vv", True, (4.0, -2.0), 0)
        )
    side = 100
    codes = store.read_reference(VERSION, Window(40, 40, side, side))
    # The day's ground lies 4 px to the right and 2 px up, so that is where it is looked for.
    expected = halve(ground.astype(np.float32)[78 : 78 + 2 * side, 84 : 84 + 2 * side])
    assert np.nanmedian(np.abs(db_from_codes(codes) - expected)) < 0.3


def test_the_reference_is_a_mean_and_fills_up() -> None:
    before = np.array([[1.0, np.nan, np.nan]], np.float32)
    today = np.array([[4.0, 2.0, np.nan]], np.float32)
    assert np.array_equal(stack(before, today, 2), [[2.0, 2.0, np.nan]], equal_nan=True)
    assert np.array_equal(stack(None, today, 0), today, equal_nan=True)
    assert np.array_equal(stack(before, None, 2), before, equal_nan=True)


def test_power_and_decibels_come_to_the_same() -> None:
    power = np.array([[0.1, 1.0, np.nan, 0.0]], np.float32)
    shown = in_decibels(power, decibel=False)
    assert np.allclose(shown[0, :2], [-10.0, 0.0])
    assert np.isnan(shown[0, 2])
    assert shown[0, 3] < -50
    assert in_decibels(shown, decibel=True) is shown
