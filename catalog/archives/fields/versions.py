"""Which processing a STAC item is of: Sentinel-2's baseline, any software's version, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

BASELINE = re.compile(r"(\d{1,2})\.(\d{1,2})")
BASELINE_IN_NAME = re.compile(r"_N(\d{2})(\d{2})_")
TIME_IN_NAME = re.compile(r"_(\d{8}T\d{6})(?:\.SAFE)?$")  # when a Sentinel-2 product was made
STRIP_IN_NAME = re.compile(r"_S(\d{8}T\d{6})_")


def baseline_of(item: Mapping[str, Any]) -> tuple[int, int] | None:
    """The processing baseline of Sentinel-2, (5, 9) for 05.09; None where nothing tells it."""
    properties = item["properties"]
    for key in ("s2:processing_baseline", "processing:version"):
        if told := BASELINE.fullmatch(str(properties.get(key, ""))):
            return int(told[1]), int(told[2])
    if named := BASELINE_IN_NAME.search(_product_name(item)):
        return int(named[1]), int(named[2])
    return None


def version_of(item: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers of the baseline, or of whatever version is told; none where none is."""
    properties = item["properties"]
    software = properties.get("processing:software") or {}
    told = properties.get("processing:version") or [software[name] for name in sorted(software)]
    return baseline_of(item) or tuple(map(int, re.findall(r"[0-9]{1,9}", str(told))))


def processing_time(item: Mapping[str, Any]) -> datetime | None:
    """When it was processed, aware, UTC; if only its item tells a time, when that was made."""
    properties = item["properties"]
    named = TIME_IN_NAME.search(_product_name(item))
    told = (
        properties.get("processing:datetime"),
        properties.get("s2:generation_time"),
        named[1] if named else None,
        properties.get("created"),
    )
    for text in told:
        with suppress(TypeError, ValueError, OverflowError):  # a name may end in anything
            return as_utc(text)
    return None


def strip_of(item: Mapping[str, Any]) -> str | None:
    """When the strip of a Sentinel-2 product began, as its name has it."""
    named = STRIP_IN_NAME.search(item["properties"].get("s2:datastrip_id") or "")
    return named[1] if named else None


def as_utc(text: Any) -> datetime:
    """A moment as ISO 8601 writes it; without a zone it counts as UTC.

    Raises TypeError, ValueError or OverflowError where it is none.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _product_name(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    return str(properties.get("s2:product_uri") or properties.get("source_product") or item["id"])
