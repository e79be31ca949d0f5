"""The cube of a region follows what is published: days come, are made again, and go.

The items say what is published, and the cube follows them: it is brought up to date after a day is
published or withdrawn, in one commit, which readers see as a whole or not at all. Its chunks are
the objects of the days' groups, so no pixel is copied, but where a day stores a variable in another
way than the cube does: of such, the numbers are written in the cube's way.

Days come after each other in time. One more at the end, or a day made again, reads and writes no
other day; where days would have to move, all of them are listed again, so whoever publishes many
leaves that to the last.

Nobody is locked out: of two that commit at once an object store may keep but one. So who committed
looks once more at what is published; whoever commits last, sees it all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import icechunk
import zarr
from zarr.core.sync import sync

from catalog import objects
from catalog.cube.arrays import (
    Day,
    clear_rows,
    grid_of,
    read_day,
    read_rows,
    write_layout,
    write_pixels,
    write_rows,
)
from catalog.cube.repository import BRANCH, cube_url, open_repository
from catalog.store.publish import published_generation
from catalog.store.slot import SlotStore

LEFT_OUT = "days_on_other_grids"
"""The attribute that tells generations, by day, of days whose pixels lie on another grid."""

NEWEST_ITEM = "newest_item"
"""What a commit tells beside the cube: when the newest item was written that it knew, ISO 8601."""

SLACK = timedelta(minutes=1)
"""An item may be listed so much later than it says it was written, at most."""

ATTEMPTS = 50  # where others commit meanwhile: of those one is done each time
PAUSE_S = 0.5  # at most, between two attempts
DAYS_AT_ONCE = 8


@dataclass(frozen=True)
class CubeChange:
    """What an update did: days by what became of them."""

    added: tuple[str, ...] = ()
    remade: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """All that are published, but on other grids than the latest day."""

    @property
    def made(self) -> tuple[str, ...]:
        """The days for which something was done."""
        return (*self.added, *self.remade, *self.removed)

    def then(self, later: CubeChange) -> CubeChange:
        """Both, as one."""
        return CubeChange(
            added=tuple(dict.fromkeys(self.added + later.added)),
            remade=tuple(dict.fromkeys(self.remade + later.remade)),
            removed=tuple(dict.fromkeys(self.removed + later.removed)),
            left_out=later.left_out,
        )


def update_cube(
    store_url: str,
    region: str,
    *,
    existing: bool = False,
    recheck: bool = False,
    published: Collection[str] = (),
    moving: bool = True,
) -> CubeChange:
    """Make the cube of a region show exactly the days that are published.

    With `existing`, a region that has no cube gets none. Items are listed, and those read that are
    newer than what the last commit knew, and those of `published`, whose clocks may be behind; with
    `recheck`, all. Without `moving`, a cube in which days would have to move stays as it is. A
    region without days has no cube.

    Raises StoreError when an item or a day's group cannot be read or the cube not be written; the
    cube then is as it was.
    """
    region_url = objects.join(store_url, region)
    url = cube_url(region_url)
    if existing and not objects.names(url):
        return CubeChange()
    done = CubeChange()
    for attempt in range(ATTEMPTS):
        written = _items(region_url, published)
        if not written:
            objects.remove_tree(url)
            return CubeChange()
        repository = open_repository(region_url)
        with objects.store_errors("write", url):
            try:
                change = _commit_update(
                    repository, store_url, region, written, recheck, published, moving
                )
            except icechunk.ConflictError:
                if attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, PAUSE_S))
                continue
        done = done.then(change)
        if not change.made or _items(region_url, published) == written:
            return done
    return done  # whoever publishes all the while looks for itself


def tidy_cube(store_url: str, region: str, older_than: timedelta) -> CubeChange:
    """Update a region's cube, if it has one, and delete what only its earlier states needed.

    A program that opened it longer ago than `older_than` fails when it reads on. Raises as
    `update_cube` does.
    """
    change = update_cube(store_url, region, existing=True)
    region_url = objects.join(store_url, region)
    if objects.names(cube_url(region_url)):
        repository, before = open_repository(region_url), datetime.now(UTC) - older_than
        with objects.store_errors("tidy", cube_url(region_url)):
            repository.expire_snapshots(before)
            repository.garbage_collect(before)
    return change


def _items(region_url: str, published: Collection[str]) -> dict[str, datetime]:
    """When the item of each published slot was written, by slot, the earliest slot first.

    Those of `published` are there even if a listing that is behind does not tell them yet.
    """
    entries = objects.entries(objects.join(region_url, "items"))
    listed = {
        entry.name.removesuffix(".json"): entry.modified
        for entry in entries
        if entry.name.endswith(".json")
    }
    latest = max(listed.values(), default=datetime.now(UTC))
    return dict(sorted({**dict.fromkeys(published, latest), **listed}.items()))


def _commit_update(
    repository: icechunk.Repository,
    store_url: str,
    region: str,
    written: Mapping[str, datetime],
    recheck: bool,
    published: Collection[str],
    moving: bool,
) -> CubeChange:
    session = repository.writable_session(BRANCH)
    root = zarr.open_group(session.store, mode="a", zarr_format=3)
    shown, left_out = read_rows(root), _left_out(root)
    known = {**left_out, **{slot: row.generation for slot, row in shown.items()}}
    gone, new = shown.keys() - written.keys(), written.keys() - known.keys()
    if not moving and (gone or (shown and new and min(new) < max(shown))):
        return CubeChange(left_out=tuple(left_out))
    told = repository.lookup_snapshot(session.snapshot_id).metadata.get(NEWEST_ITEM)
    since = datetime.fromisoformat(told) - SLACK if told and not recheck else None
    unchanged = {
        slot
        for slot, moment in written.items()
        if since and moment < since and slot not in published
    }
    generations = {
        slot: known[slot]
        if slot in known and slot in unchanged
        else published_generation(store_url, region, slot)
        for slot in written
    }
    stores = {
        slot: SlotStore(store_url, region, slot, generation)
        for slot, generation in generations.items()
        if generation is not None  # else it was withdrawn since it was listed
    }
    changed = {slot for slot, store in stores.items() if store.generation != known.get(slot)}
    if not stores or (not changed and stores.keys() == known.keys()):
        return CubeChange(left_out=tuple(left_out))

    latest = max(stores)
    days = _read_days(stores, changed | ({latest} & left_out.keys()))
    of_cube = grid_of(root.attrs.asdict())
    grid = grid_of(days[latest].attrs) if latest in days else of_cube
    if grid != of_cube:
        days |= _read_days(stores, stores.keys() - days.keys())
    fit = [
        slot
        for slot in stores
        if (grid_of(days[slot].attrs) == grid if slot in days else slot in shown)
    ]
    if grid != of_cube or fit[: len(shown)] != list(shown):  # rows would have to move
        days |= _read_days(stores, set(fit) - days.keys())
        sync(session.store.clear())
        root = zarr.open_group(session.store, mode="a", zarr_format=3)
        write_layout(root, days[latest])
    else:
        clear_rows(root, [at for at, slot in enumerate(shown) if slot in days])
    write_rows(root, {slot: days[slot].row if slot in days else shown[slot] for slot in fit})
    write_pixels(root, {at: days[slot] for at, slot in enumerate(fit) if slot in days}, len(fit))
    apart = {slot: store.generation for slot, store in stores.items() if slot not in fit}
    if apart != _left_out(root):
        root.attrs[LEFT_OUT] = apart
    change = CubeChange(
        added=tuple(slot for slot in fit if slot not in shown),
        remade=tuple(slot for slot in fit if slot in shown and slot in changed),
        removed=tuple(slot for slot in shown if slot not in fit),
        left_out=tuple(apart),
    )
    session.commit(
        f"{len(change.added)} added, {len(change.remade)} remade, {len(change.removed)} removed",
        metadata={NEWEST_ITEM: max(written.values()).isoformat()},
    )
    return change


def _left_out(root: zarr.Group) -> dict[str, str]:
    told = root.attrs.asdict().get(LEFT_OUT, {})
    assert isinstance(told, Mapping)
    return {str(slot): str(generation) for slot, generation in told.items()}


def _read_days(stores: Mapping[str, SlotStore], slots: Iterable[str]) -> dict[str, Day]:
    with ThreadPoolExecutor(DAYS_AT_ONCE) as threads:
        days = threads.map(read_day, [stores[slot] for slot in slots])
        return {day.store.slot: day for day in days}
