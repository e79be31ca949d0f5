"""Which days of a region are published, and where their pixels lie: what items say to readers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from catalog import objects
from catalog.errors import ArgumentError, StoreError

ITEM_ASSET = "mosaic"

Day = str | date | np.datetime64
"""A day: "2024-06-12", a date or a datetime."""
DayOrDays = Day | tuple[Day, Day] | slice


def published_groups(url: str, time: DayOrDays | None) -> list[str]:
    """The Zarr groups of a region's published days, the earliest first; all where `time` is None.

    Raises ArgumentError for days that are not there, StoreError when nothing is published at `url`
    or an item is damaged.
    """
    items = published_items(url, time)
    return [
        objects.resolve(address, item["assets"][ITEM_ASSET]["href"])
        for address, item in items.items()
    ]


def published_items(url: str, time: DayOrDays | None = None) -> dict[str, dict[str, Any]]:
    """The STAC items of a region's published days by their URLs, the earliest first.

    Raises as `published_groups` does.
    """
    return {item: _read_item(item) for item in _items_of(_published_days(url), time, url)}


def published_slots(region_url: str) -> list[str]:
    """The slots of a region that have an item, the earliest first. Raises StoreError."""
    names = objects.names(objects.join(region_url, "items"))
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def item_url(region_url: str, slot: str) -> str:
    """Where the STAC item lies that publishes a slot."""
    return objects.join(region_url, "items", f"{slot}.json")


def page_url(region_url: str, slot: str) -> str:
    """Where the page lies that shows a slot to people."""
    return objects.join(region_url, "reports", f"{slot}.html")


def _published_days(url: str) -> dict[date, str]:
    """The items of a region by day, the earliest first."""
    slots = published_slots(url)
    if not slots:
        raise StoreError(
            f"no mosaic is published at {url}; expected {{store}}/{{region}}, with items in its "
            "folder items/",
            url=url,
        )
    try:
        days = {date.fromisoformat(slot): item_url(url, slot) for slot in slots}
    except ValueError as error:
        folder = objects.join(url, "items")
        raise StoreError(
            f"{folder} holds an item that is named by no day: {error}", url=url
        ) from error
    return dict(sorted(days.items()))


def _items_of(published: dict[date, str], time: DayOrDays | None, url: str) -> list[str]:
    if time is None:
        return list(published.values())
    first, last = _span(time)
    chosen = [item for day, item in published.items() if first <= day <= last]
    if not chosen:
        days = list(published)
        there = f"{days[0]} is" if len(days) == 1 else f"{len(days)}, {days[0]} to {days[-1]}, are"
        asked = f"on {first}" if first == last else f"from {first} to {last}"
        raise ArgumentError(f"time: no day {asked} is published at {url}; {there}", argument="time")
    return chosen


def _span(time: DayOrDays) -> tuple[date, date]:
    """First and last day, both included."""
    if isinstance(time, slice) and time.step is None:
        ends: Sequence[Any] = (time.start, time.stop)
    elif isinstance(time, tuple) and len(time) == 2:
        ends = time
    else:
        ends = (time, time)
    try:
        first, last = (None if end is None else _day(end) for end in ends)
    except (AttributeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"time: {time!r} is neither a day like 2024-06-12 nor the first and the last of some",
            argument="time",
        ) from error
    return first or date.min, last or date.max


def _day(value: Day) -> date:
    if isinstance(value, np.datetime64):
        return date.fromisoformat(str(value.astype("datetime64[D]")))
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return date(moment.year, moment.month, moment.day)


def _read_item(item_url: str) -> dict[str, Any]:
    try:
        item: dict[str, Any] = json.loads(objects.get(item_url) or b"")
        if not isinstance(href := item["assets"][ITEM_ASSET]["href"], str):
            raise TypeError(f"its href is {href!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{item_url} is not the item of a mosaic: {type(error).__name__}: {error}",
            url=item_url,
        ) from error
    return item
