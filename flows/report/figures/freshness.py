"""How old the newest day of a region is: what shows a night that failed, or that nobody started."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from catalog.errors import StoreError
from catalog.store.days import published_slots


@dataclass(frozen=True)
class Freshness:
    """The newest published day of a region, as seen on one day."""

    region: str
    newest_day: date | None
    """None where nothing is published."""
    age_days: int | None
    """From the newest day to the day it was looked at."""

    def is_stale(self, max_age_days: int) -> bool:
        """Whether that is older than so many days; a region without any day is."""
        return self.age_days is None or self.age_days > max_age_days


def look_at_newest_day(region_url: str, region: str, today: date) -> Freshness:
    """How old the newest published day of a region is on `today`. Raises `StoreError`."""
    _, newest = newest_of(region_url)
    return Freshness(region, newest, None if newest is None else (today - newest).days)


def newest_of(region_url: str) -> tuple[int, date | None]:
    """How many days of a region are published, and the newest. Raises `StoreError`."""
    slots = published_slots(region_url)
    try:
        return len(slots), max(map(date.fromisoformat, slots), default=None)
    except ValueError as error:
        raise StoreError(
            f"{region_url} holds an item that is named by no day: {error}", url=region_url
        ) from error
