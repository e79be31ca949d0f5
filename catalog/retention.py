"""Retention: published days that are old enough go, together with all that belongs to them.

Readers follow items, so an item goes first; then collection and cube are derived anew, and what
nobody can see any more is deleted. A call that was stopped leaves nothing half-visible, and the
next one finishes. What a region remembers stays: it is what its days taught.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from catalog import objects
from catalog.cube.update import update_cube
from catalog.errors import ArgumentError
from catalog.store.days import page_url, published_slots
from catalog.store.publish import withdraw
from catalog.store.upkeep import Generation, generations

SETTLED = timedelta(hours=24)
"""Since anything of a day that was never published was written: before, a run may be at it."""


@dataclass(frozen=True)
class OldDay:
    """A day that is no longer kept: whether readers see it, and what would be deleted."""

    slot: str
    published: bool
    generations: tuple[Generation, ...]

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.generations)

    @property
    def objects(self) -> int:
        return sum(each.objects for each in self.generations)


def oldest_kept(keep_days: int, last: date) -> date:
    """The first of the `keep_days` days that end with `last`. Raises ArgumentError below 1."""
    if keep_days < 1:
        raise ArgumentError(
            f"keep_days: {keep_days} is not a number of days from 1 on", argument="keep_days"
        )
    return last - timedelta(days=min(keep_days, last.toordinal()) - 1)


def old_days(store_url: str, region: str, oldest: date) -> list[OldDay]:
    """The days of a region before `oldest`, the earliest first, and rests of such days.

    Generations that a run may be writing are left out. Raises StoreError.
    """
    region_url = objects.join(store_url, region)
    published = set(published_slots(region_url))
    pages = {
        name.removesuffix(".html") for name in objects.names(objects.join(region_url, "reports"))
    }
    folders = objects.names(objects.join(region_url, "slots"))
    found = []
    for slot in sorted({*published, *pages, *folders}):
        if not _is_before(slot, oldest):
            continue
        gone = tuple(_finished(generations(store_url, region, slot)))
        if gone or slot in published or slot in pages:
            found.append(OldDay(slot, slot in published, gone))
    return found


def retire(store_url: str, region: str, days: Sequence[OldDay]) -> None:
    """Withdraw days from readers, then delete them: pixels, receipts, estimates, pages.

    With no days it only finishes what a stopped call left of collection and cube. A program that
    has opened such a day fails when it reads on. Raises StoreError, at the first thing that cannot
    be deleted.
    """
    withdraw(store_url, region, [day.slot for day in days])
    update_cube(store_url, region, existing=True)
    for day in days:
        for generation in day.generations:
            for part in generation.store.parts:
                objects.remove_tree(part)
        objects.remove_tree(page_url(objects.join(store_url, region), day.slot))
        folder = objects.join(store_url, region, "slots", day.slot)
        if not objects.entries(folder):
            objects.remove_tree(folder)


def _finished(found: Iterable[Generation]) -> Iterable[Generation]:
    """Those that were published once, and those that no run has touched for long."""
    before = datetime.now(UTC) - SETTLED
    return (each for each in found if each.published or each.sealed or each.touched <= before)


def _is_before(slot: str, day: date) -> bool:
    try:
        return date.fromisoformat(slot) < day
    except ValueError:  # not of this program
        return False
