"""What a store costs a month, by a price table: what lies there, and the requests that fill it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog import objects
from catalog.store.upkeep import Generation
from flows.plan.request import RequestError

GB = 1e9
MONTH_DAYS = 30
OBJECTS_BESIDE = 2  # of a published day: its item and its page
# Requests for each object of a day that a run writes, counted on an S3 server (Swift) while days of
# 71 to 222 objects were written, read back and published: 1.13 to 1.24, and 4.1 to 4.4.
PUTS_PER_OBJECT = 1.2  # lists, which cost the same, among them
GETS_PER_OBJECT = 4.3  # HEADs among them


class Prices(BaseModel):
    """Prices of an object store; the defaults are those that infra/SCALE.md assumes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    currency: str = "€"
    storage_gb_month: Annotated[float, Field(ge=0)] = 0.023
    put_thousand: Annotated[float, Field(ge=0)] = 0.0054
    get_thousand: Annotated[float, Field(ge=0)] = 0.00043

    def __str__(self) -> str:
        return (
            f"{self.storage_gb_month:g} {self.currency} a GB and month, a thousand PUTs and lists "
            f"{self.put_thousand:g}, a thousand GETs {self.get_thousand:g}"
        )


@dataclass(frozen=True)
class RegionCost:
    """What a region costs a month as it is, and what each further month adds to that.

    Requests are those of the runs that fill it, not of its readers.
    """

    region: str
    objects: int
    bytes: int
    days_per_month: float
    """As many as were published between its first and its last day."""
    puts_per_month: float
    gets_per_month: float
    storage: float
    requests: float
    growth: float
    """Of what is stored, if nothing is deleted."""

    @property
    def month(self) -> float:
        return self.storage + self.requests


def load_prices(file: Path | None) -> Prices:
    """The prices of a YAML file; what it leaves out, and all without a file, are the defaults.

    Raises `RequestError`: one sentence that names the file and the field.
    """
    if file is None:
        return Prices()
    try:
        return Prices.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise RequestError(f"prices: {file}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"prices: {file} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its top"
        raise RequestError(f"prices: {file}: {field}: {problem['msg']}") from error


def price_region(
    store_url: str, region: str, found: Sequence[Generation], prices: Prices
) -> RegionCost:
    """What a region costs by all that lies in it; `found` are its generations.

    Raises `StoreError`.
    """
    entries = objects.entries(objects.join(store_url, region))
    size = sum(entry.bytes for entry in entries)
    published = [each for each in found if each.published]
    rate = days_per_month([each.store.slot for each in published])
    a_day = sum(each.objects + OBJECTS_BESIDE for each in published) / max(1, len(published))
    bytes_a_day = sum(each.bytes for each in published) / max(1, len(published))
    puts, gets = (a_day * rate * each for each in (PUTS_PER_OBJECT, GETS_PER_OBJECT))
    return RegionCost(
        region=region,
        objects=len(entries),
        bytes=size,
        days_per_month=rate,
        puts_per_month=puts,
        gets_per_month=gets,
        storage=size / GB * prices.storage_gb_month,
        requests=(puts * prices.put_thousand + gets * prices.get_thousand) / 1000,
        growth=bytes_a_day * rate / GB * prices.storage_gb_month,
    )


def days_per_month(slots: Sequence[str]) -> float:
    """How many of these days there are a month, from the first to the last; of one, every night."""
    if not slots:
        return 0.0
    days = [date.fromisoformat(slot) for slot in slots]
    return MONTH_DAYS * len(days) / ((max(days) - min(days)).days + 1)
