"""What is wrong with a STAC item, told before anything is read from it.

An archive may serve any JSON in any field. What decides what a scene is, is held to its type here,
so that whoever reads an item can rely on it; null counts as not told. Fields that nobody reads may
hold anything, and so may those that only help to choose, which whoever reads them checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from catalog.errors import STEERING

# Texts reach file names, reports and terminals.
UNUSABLE_CHARACTERS = re.compile(rf"[\t\n]|{STEERING.pattern}")
LONGEST_NAME = 255  # as of a file
LONGEST_TEXT = 8192  # a signed address has some hundreds
LARGEST_NUMBER = 1e18
LARGEST_COORDINATE = 1e6
NOT_A_NUMBER = ("nan", "inf", "-inf")  # STAC's words for what JSON has no numbers for
SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Kind:
    """Values that a field may hold."""

    words: str
    """What they are, to follow "not"."""
    holds: Callable[[Any], bool]
    required: bool = False


def find_oddity(item: Any) -> str | None:
    """What keeps an item from being read, in words that name the field; None where nothing does."""
    return next(_oddities(item), None)


def _oddities(item: Any) -> Iterator[str]:
    """In an order in which each check relies on what those before it let pass."""
    if not isinstance(item, Mapping):
        yield f"it is {_show(item)}, not an object"
        return
    yield from _odd_fields(item, ITEM, "its")
    if item.get("geometry") is None:
        yield from _odd_fields(item, PLACE, "it has no geometry, and its")
    else:
        yield from _odd_fields(item["geometry"], OUTLINE, "its geometry's")
    yield from _odd_fields(item["properties"], PROPERTIES, "its property")
    if not any(item["properties"].get(name) for name in ("datetime", "start_datetime")):
        yield "it tells no time: it has neither datetime nor start_datetime"
    for key, asset in item["assets"].items():
        if not _is_name(key):
            yield f"the key of its asset {_show(key)} is no text that names it"
        place = f"its asset {key}:"
        if not isinstance(asset, Mapping):
            yield f"{place} it is {_show(asset)}, not an object"
        yield from _odd_fields(asset, ASSET, place)
        for name in ("bands", "eo:bands", "raster:bands"):
            for number, band in enumerate(asset.get(name) or (), start=1):
                yield from _odd_fields(band, BAND, f"{place} {name} {number}:")


def _odd_fields(values: Mapping[str, Any], kinds: Mapping[str, Kind], place: str) -> Iterator[str]:
    for name, kind in kinds.items():
        value = values.get(name)
        if kind.required if value is None else not kind.holds(value):
            found = _show(value) if name in values else "missing"
            yield f"{place} {name} is {found}, not {kind.words}"


def _show(value: Any) -> str:
    text = json.dumps(value)  # in ASCII, whatever is in it
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _is_text(value: Any) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= LONGEST_TEXT
        and not UNUSABLE_CHARACTERS.search(value)
    )


def _is_name(value: Any) -> bool:
    return _is_text(value) and len(value) <= LONGEST_NAME


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -LARGEST_NUMBER < value < LARGEST_NUMBER  # which NaN is not


def _is_nodata(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, str) and value.lower() in NOT_A_NUMBER)


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_orbit(value: Any) -> bool:
    """A number from 1 up to 999, or text that is one."""
    if isinstance(value, str):
        return bool(re.fullmatch(r"\s*0*[1-9][0-9]{0,2}\s*", value, re.ASCII))
    return _is_number(value) and value in range(1, 1000)


def _all_hold(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test for lists of values that each pass a test."""
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _are_positions(value: Any) -> bool:
    """Lists, however deep, of numbers that can be degrees, or metres above the ground."""
    if isinstance(value, list | tuple):
        return all(map(_are_positions, value))
    return _is_number(value) and abs(value) < LARGEST_COORDINATE


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


NAME = Kind("text that names it", lambda value: _is_name(value) and bool(value.strip()), True)
ADDRESS = Kind("an address", lambda value: _is_text(value) and bool(value.strip()), True)
TEXT = Kind("text", _is_text)
TEXTS = Kind("a list of texts", _all_hold(_is_text))
NUMBER = Kind("a number", _is_number)
FACTOR = Kind("a number other than 0", lambda value: _is_number(value) and value != 0)
PERCENT = Kind("a number from 0 to 100", lambda value: _is_number(value) and 0 <= value <= 100)
SIZE = Kind(
    "a number of bytes", lambda value: _is_number(value) and value >= 0 and value == int(value)
)
# Python reads the NaN of those who write it without quotation marks.
NODATA = Kind("a number", lambda value: isinstance(value, float) or _is_nodata(value))
TIME = Kind("a time", lambda value: _is_text(value) and _is_time(value))
VERSION = Kind("a version", lambda value: _is_text(value) or _is_number(value))
ORBIT = Kind("the number of an orbit", _is_orbit)
TRANSFORM = Kind(
    "six numbers", lambda value: _all_hold(_is_number)(value) and len(value) in (0, 6, 9)
)
CORNERS = Kind(
    "two corners of two or three numbers",
    lambda value: _all_hold(_is_number)(value) and len(value) in (4, 6),
    True,
)
OBJECT = Kind("an object", _is_object, True)
OBJECTS = Kind("a list of objects", _all_hold(_is_object))

ITEM: Mapping[str, Kind] = {
    "id": NAME,
    "collection": Kind("text that names it", _is_name),
    "geometry": Kind("an object", _is_object),
    "properties": OBJECT,
    "assets": OBJECT,
    "links": OBJECTS,
}
PLACE: Mapping[str, Kind] = {"bbox": CORNERS}
OUTLINE: Mapping[str, Kind] = {
    "type": Kind(
        "Polygon or MultiPolygon", lambda value: value in ("Polygon", "MultiPolygon"), True
    ),
    "coordinates": Kind("rings of positions", _are_positions, True),
}
PROPERTIES: Mapping[str, Kind] = {
    "datetime": TIME,
    "start_datetime": TIME,
    "platform": TEXT,
    "sat:orbit_state": TEXT,
    "sat:relative_orbit": ORBIT,
    "eo:cloud_cover": PERCENT,
    "source_product": TEXT,
    "s2:product_uri": TEXT,
    "s2:datastrip_id": TEXT,
    "s2:processing_baseline": VERSION,
    "s2:generation_time": TIME,
    "processing:version": VERSION,
    "processing:software": Kind("an object", _is_object),
    "processing:datetime": TIME,
    "product:type": TEXT,
    "sar:product_type": TEXT,
    "sar:polarizations": TEXTS,
    "proj:transform": TRANSFORM,
}
NUMBERS_OF_PIXELS: Mapping[str, Kind] = {
    "nodata": NODATA,
    "scale": FACTOR,
    "offset": NUMBER,
    "raster:scale": FACTOR,
    "raster:offset": NUMBER,
}
ASSET: Mapping[str, Kind] = {
    "href": ADDRESS,
    "type": TEXT,
    "roles": TEXTS,
    "bands": OBJECTS,
    "eo:bands": OBJECTS,
    "raster:bands": OBJECTS,
    "sar:polarizations": TEXTS,
    "proj:transform": TRANSFORM,
    "file:size": SIZE,
    **NUMBERS_OF_PIXELS,
}
BAND: Mapping[str, Kind] = {
    "name": TEXT,
    "common_name": TEXT,
    "eo:common_name": TEXT,
    **NUMBERS_OF_PIXELS,
}
