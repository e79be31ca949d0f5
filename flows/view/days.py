"""What a store lists, as the map asks for it: regions, their days, and a day's levels, opened."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import Lattice
from catalog.store.days import ITEM_ASSET, published_items, published_slots
from catalog.store.layout import declared_factors, level_lattice, level_path
from catalog.store.open import open_undivided, readers_store
from catalog.store.upkeep import regions

DAYS_KEPT_OPEN = 48


@dataclass(frozen=True)
class Level:
    """One resolution of a day: its variables (y, x), none of them read, and where they lie."""

    group_url: str
    factor: int
    pixels: xr.Dataset
    stored: Mapping[str, zarr.Array[Any]]
    """The same variables as the store has them, packed."""
    lattice: Lattice


class Day:
    """The generation that readers of a day see, and its levels, each opened when it is asked for.

    Raises StoreError when its group cannot be read.
    """

    def __init__(self, region: str, slot: str, group_url: str) -> None:
        self.region, self.slot, self.group_url = region, slot, group_url
        whole = open_undivided(group_url)
        with objects.store_errors("read", group_url):
            self._group = zarr.open_group(readers_store(group_url), mode="r", zarr_format=3)
            affine = Affine(*whole.attrs["spatial:transform"])
            shape = tuple(whole.attrs["spatial:shape"])
            lattice = Lattice(GeoBox(shape, affine, whole.attrs["proj:wkt2"]))
        self.factors = (1, *declared_factors(whole.attrs))
        """Of the levels, the finest first."""
        self._levels = {1: self._level(1, whole, lattice)}

    @property
    def generation(self) -> str:
        """Its name, which changes when the day is made again."""
        return self.group_url.rstrip("/").rpartition("/")[2].removesuffix(".zarr")

    @cached_property
    def coarsest(self) -> Level:
        """The smallest level: small enough to be in memory."""
        return self.level(self.factors[-1])

    def level(self, factor: int) -> Level:
        """Every pixel the mean of `factor` squared. Raises StoreError."""
        if factor not in self._levels:
            lattice = level_lattice(self._levels[1].lattice, factor)
            pixels = open_undivided(self.group_url, factor)
            self._levels[factor] = self._level(factor, pixels, lattice)
        return self._levels[factor]

    def _level(self, factor: int, pixels: xr.Dataset, lattice: Lattice) -> Level:
        prefix = f"{level_path(factor)}/" if factor != 1 else ""
        with objects.store_errors("read", self.group_url):
            stored = {str(name): self._group[f"{prefix}{name}"] for name in pixels.data_vars}
            arrays = {name: each for name, each in stored.items() if isinstance(each, zarr.Array)}
            return Level(self.group_url, factor, pixels, arrays, lattice)


class Published:
    """The regions of a store and their published days.

    Nothing that the store does not list is ever opened: `region_url`, `slots` and `day` raise
    ArgumentError for it, and StoreError where the store cannot be read.
    """

    def __init__(self, store_url: str) -> None:
        self.store_url = store_url
        self._urls = _urls_of(store_url)
        self._open: OrderedDict[tuple[str, str], Day] = OrderedDict()
        self._lock = threading.Lock()

    def require_a_day(self) -> None:
        """Raises StoreError where no region has a published day."""
        if not any(published_slots(url) for url in self._urls.values()):
            raise StoreError(
                f"there is no published day in {self.store_url}; a run publishes them "
                "(tar-pipeline status tells what lies there)",
                url=self.store_url,
            )

    def names(self) -> list[str]:
        """Of the regions, those of runs that began after this one too."""
        self._urls = _urls_of(self.store_url)
        return sorted(self._urls)

    def region_url(self, region: str) -> str:
        """Where a region lies."""
        if region not in self._urls:
            raise ArgumentError(f"region: this store has none named {region!r}", argument="region")
        return self._urls[region]

    def slots(self, region: str) -> list[str]:
        """The days of a region, the earliest first."""
        return published_slots(self.region_url(region))

    def newest(self, region: str, slot: str) -> Day:
        """A day as its item tells of it now."""
        items = published_items(self.region_url(region), slot)
        ((item_url, item),) = items.items()
        group_url = objects.resolve(item_url, item["assets"][ITEM_ASSET]["href"])
        with self._lock:
            known = self._open.get((region, slot))
        if known is not None and known.group_url == group_url:
            return known
        return self._keep(Day(region, slot, group_url))

    def day(self, region: str, slot: str, generation: str) -> Day:
        """A day in the generation that a page has shown; no other one is read for it."""
        with self._lock:
            known = self._open.get((region, slot))
        if known is None and slot not in self.slots(region):
            raise ArgumentError(f"day: {region} has none named {slot!r}", argument="day")
        day = known if known and known.generation == generation else self.newest(region, slot)
        if day.generation != generation:
            raise ArgumentError(f"generation: {slot} was made again since", argument="generation")
        return day

    def _keep(self, day: Day) -> Day:
        with self._lock:
            self._open[day.region, day.slot] = day
            self._open.move_to_end((day.region, day.slot))
            while len(self._open) > DAYS_KEPT_OPEN:
                self._open.popitem(last=False)
        return day


def scenes_of(day: Day, sensor: str) -> list[dict[str, Any]]:
    """Ids and sensing times, ISO 8601 in UTC, of the scenes that a day's pixels count."""
    name = f"{sensor}_time"
    coords = day.level(1).pixels.coords
    if name not in coords:
        return []
    ids, times = coords[name].attrs["scene_ids"], coords[name].values
    told = zip(ids[1:], times[1:], strict=True)  # the first is no scene
    return [{"id": str(id_), "time": f"{str(when)[:19]}Z"} for id_, when in told]


def _urls_of(store_url: str) -> dict[str, str]:
    return {name: objects.join(place, name) for place, name in regions(store_url)}
