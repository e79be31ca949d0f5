"""What lies in the cube of a region: its arrays, the rows of its days, and their chunks.

Every variable of the days as (time, y, x), stored as the day that brought it stores it; y, x and
`spatial_ref` as days have them. Along `time`: the day, its `generation`, and of each sensor the
scenes that its pixels count, `{sensor}_time` and `{sensor}_id` by (time, {sensor}_index), NaT and
"" at 0 and beyond the last one.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import icechunk
import numpy as np
import zarr
from zarr.core.sync import sync

from catalog import objects
from catalog.cube.repository import chunk_location
from catalog.errors import ArgumentError, StoreError
from catalog.store.layout import MULTISCALES, scene_dimension, scene_time_attributes
from catalog.store.receipts import Receipts
from catalog.store.schema import (
    SENSOR_NAMES,
    Packing,
    measured_values,
    scene_attributes,
    stored_values,
)
from catalog.store.slot import SlotStore

logger = logging.getLogger(__name__)

EPOCH = date(1970, 1, 1)
NO_TIME = int(np.iinfo(np.int64).min)
ROWS_PER_CHUNK, SCENES_PER_CHUNK = 512, 16  # of what there is one of a day: read at once

Scenes = tuple[tuple[str, int], ...]
"""Id and sensing time, microseconds since 1970, of the scenes that pixels count, from 0 on."""
Grid = tuple[Any, ...]
"""What two days need to have in common to lie in one cube."""


@dataclass(frozen=True)
class Row:
    """What the cube tells of a day beside its pixels."""

    generation: str
    scenes: Mapping[str, Scenes]
    """By sensor."""


@dataclass(frozen=True)
class Day:
    """A generation of a slot, as the cube needs to know it."""

    store: SlotStore
    row: Row
    attrs: Mapping[str, Any]
    arrays: Mapping[str, zarr.Array[Any]]
    bytes: Mapping[str, int]
    """Of every object of its group, by name."""
    receipts: Receipts

    @property
    def pixels(self) -> dict[str, zarr.Array[Any]]:
        """The variables (y, x)."""
        return {name: array for name, array in self.arrays.items() if array.ndim == 2}


def read_day(store: SlotStore) -> Day:
    """What a day's group holds, no pixel of it. Raises StoreError."""
    group = store.open_group("r")
    with objects.store_errors("read", store.url):
        arrays = dict(sorted(group.arrays()))
        scenes = {
            sensor: _scenes_of(arrays[f"{sensor}_time"])
            for sensor in SENSOR_NAMES
            if f"{sensor}_time" in arrays
        }
        sizes = {entry.name: entry.bytes for entry in objects.entries(store.url)}
    return Day(
        store,
        Row(store.generation, scenes),
        group.attrs.asdict(),
        arrays,
        sizes,
        Receipts(store.url),
    )


def grid_of(attrs: Mapping[str, Any]) -> Grid:
    """Where the pixels of a day's group, or of the cube, lie, as its attributes tell."""
    return tuple(attrs.get(key) for key in ("proj:wkt2", "spatial:transform", "spatial:shape"))


def read_rows(root: zarr.Group) -> dict[str, Row]:
    """The days that the cube shows, by slot, in their order; none in an empty group."""
    tables = {name: array for name, array in root.arrays() if array.ndim < 3}
    if not tables:
        return {}
    times, names = (np.asarray(tables[name][...]) for name in ("time", "generation"))
    scenes = {
        sensor: [np.asarray(tables[f"{sensor}_{what}"][...]) for what in ("id", "time")]
        for sensor in SENSOR_NAMES
    }
    rows = {}
    for at, (days, generation) in enumerate(zip(times, names, strict=True)):
        of_day = {
            sensor: tuple(zip(map(str, ids[at]), map(int, when[at]), strict=True))
            for sensor, (ids, when) in scenes.items()
        }
        rows[(EPOCH + timedelta(days=int(days))).isoformat()] = Row(str(generation), of_day)
    return rows


def write_layout(root: zarr.Group, latest: Day) -> None:
    """In an empty group: where pixels lie, and what the cube is."""
    known = latest.attrs
    kept = {key: value for key, value in known.items() if key.split(":")[0] in ("proj", "spatial")}
    conventions = known.get("zarr_conventions", [])
    root.attrs.put(
        {
            "Conventions": "CF-1.11",
            "title": f"SAR registered to optical, {latest.store.region}",
            "coordinates": "spatial_ref generation sar_time sar_id optical_time optical_id",
            "zarr_conventions": [each for each in conventions if each["name"] != MULTISCALES],
            **kept,
        }
    )
    for name in ("y", "x", "spatial_ref"):
        array = latest.arrays[name]
        _put(root, name, np.asarray(array[...]), _dimensions(array), array.attrs.asdict())


def write_rows(root: zarr.Group, rows: Mapping[str, Row]) -> None:
    """What there is one of a day, for all days; arrays of pixels become as long."""
    for array in _pixels_of(root).values():
        array.resize((len(rows), *array.shape[1:]))
    days = np.array([(date.fromisoformat(slot) - EPOCH).days for slot in rows], np.int64)
    calendar = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    _put(root, "time", days, ("time",), {"standard_name": "time", **calendar})
    names = np.array([row.generation for row in rows.values()], dtype=object)
    _put(root, "generation", names, ("time",), {"long_name": "generation of the day's mosaic"})
    for sensor, title in SENSOR_NAMES.items():
        scenes = [row.scenes.get(sensor, ()) for row in rows.values()]
        width = max(1, *(len(each) for each in scenes))
        padded = [[*each, *[("", NO_TIME)] * (width - len(each))] for each in scenes]
        along = ("time", scene_dimension(sensor))
        times = np.array([[when for _, when in row] for row in padded], np.int64)
        attributes = {
            **scene_time_attributes(sensor),
            "units": "microseconds since 1970-01-01",
            "calendar": "proleptic_gregorian",
            "_FillValue": NO_TIME,
        }
        _put(root, f"{sensor}_time", times, along, attributes, fill_value=NO_TIME)
        ids = np.array([[id_ for id_, _ in row] for row in padded], dtype=object)
        named = {"long_name": f"id of the {title} scene of this number on this day"}
        _put(root, f"{sensor}_id", ids, along, named)


def write_pixels(root: zarr.Group, rows: Mapping[int, Day], count: int) -> None:
    """Show the pixels of days in rows of `count`, by number, in which nothing is."""
    targets = _pixels_of(root)
    for at, day in rows.items():
        for name, array in day.pixels.items():
            if name not in targets:
                targets[name] = _create_pixels(root, name, array, count)
            if _stored_alike(array, targets[name]):
                _refer(root, at, day, name)
            else:
                _copy(targets[name], at, day, name)


def clear_rows(root: zarr.Group, rows: Iterable[int]) -> None:
    """No pixels are in these rows any more."""
    for at, name in itertools.product(rows, _pixels_of(root)):
        sync(root.store.delete_dir(f"{name}/c/{at}"))


def _refer(root: zarr.Group, at: int, day: Day, name: str) -> None:
    chunks = [
        icechunk.VirtualChunkSpec(
            index=[at, row, column],
            location=chunk_location(objects.join(day.store.url, key)),
            offset=0,
            length=day.bytes.get(key, 1),  # of one that is lost: an error to whoever reads it
        )
        for row, column, key in _chunks(day, name)
    ]
    store = root.store
    assert isinstance(store, icechunk.IcechunkStore)
    if refused := store.set_virtual_refs(name, chunks, validate_containers=True):
        raise StoreError(
            f"{day.store.url}: {len(refused)} chunks of {name} cannot be referred to",
            url=day.store.url,
        )


def _copy(target: zarr.Array[Any], at: int, day: Day, name: str) -> None:
    """The numbers of a variable that the day stores in another way, in the cube's."""
    source = day.pixels[name]
    side = (source.shards or source.chunks)[0]
    for row, column, key in _chunks(day, name):
        rows, columns = (slice(each * side, (each + 1) * side) for each in (row, column))
        try:
            if key not in day.bytes:
                raise ArgumentError(f"{key} is missing", argument=name)
            with objects.store_errors("read", day.store.url):
                stored = np.asarray(source[rows, columns])
            measured = measured_values(stored, source.dtype, source.attrs)
            target[at, rows, columns] = stored_values(measured, target.dtype, target.attrs)
        except ArgumentError as error:
            logger.warning(
                "the cube of %s has no %s in a shard of %s, which stores it in another way than "
                "the days before: %s",
                day.store.region_url, name, day.store.slot, error,
            )  # fmt: skip


def _chunks(day: Day, name: str) -> list[tuple[int, int, str]]:
    """Row, column and object of every chunk of a variable that is not all fill, lost or not."""
    array = day.pixels[name]
    height, width = array.shards or array.chunks
    rows, columns = -(-array.shape[0] // height), -(-array.shape[1] // width)
    keys = [
        (row, column, f"{name}/{array.metadata.encode_chunk_key((row, column))}")
        for row, column in itertools.product(range(rows), range(columns))
    ]
    return [
        (row, column, key)
        for row, column, key in keys
        if key in day.bytes or day.receipts.tell_of_pixels(array, name, (row, column))
    ]


def _create_pixels(
    root: zarr.Group, name: str, like: zarr.Array[Any], count: int
) -> zarr.Array[Any]:
    attributes = like.attrs.asdict()
    for sensor in SENSOR_NAMES:
        if name == f"{sensor}_scene":  # flags of one day mean nothing on others
            when = f"{sensor}_time[time, {sensor}_scene] is when it was taken"
            long_name = f"{SENSOR_NAMES[sensor]} scene of the day that the pixel shows; {when}"
            of_one_day = scene_attributes(sensor, ())
            attributes = {k: v for k, v in attributes.items() if k not in of_one_day}
            attributes["long_name"] = long_name
    return root.create_array(
        name,
        shape=(count, *like.shape),
        chunks=(1, *(like.shards or like.chunks)),
        dtype=like.dtype,
        compressors=like.compressors,
        fill_value=like.fill_value,
        dimension_names=["time", *_dimensions(like)],
        attributes=attributes,
    )


def _stored_alike(array: zarr.Array[Any], target: zarr.Array[Any]) -> bool:
    """Whether chunks of a day's variable are chunks of the cube's."""

    def told(each: zarr.Array[Any]) -> tuple[Any, ...]:
        packing = Packing.of(each.dtype, each.attrs)
        codecs = each.metadata.to_dict()["codecs"]
        return each.dtype, packing, each.chunks[-2:], codecs, repr(each.fill_value)

    return told(array) == told(target)


def _pixels_of(root: zarr.Group) -> dict[str, zarr.Array[Any]]:
    return {name: array for name, array in root.arrays() if array.ndim == 3}


def _scenes_of(times: zarr.Array[Any]) -> Scenes:
    ids = times.attrs["scene_ids"]
    assert isinstance(ids, Sequence)
    return tuple(zip(map(str, ids), map(int, np.asarray(times[...])), strict=True))


def _dimensions(array: zarr.Array[Any]) -> tuple[str, ...]:
    return tuple(array.metadata.to_dict().get("dimension_names") or ())  # type: ignore[arg-type]


def _put(
    root: zarr.Group,
    name: str,
    values: np.ndarray,
    dims: Sequence[str],
    attributes: Mapping[str, Any],
    **storage: Any,
) -> None:
    """An array in place of an earlier one, in few chunks."""
    chunks = values.shape
    if "time" in dims:
        chunks = (ROWS_PER_CHUNK, SCENES_PER_CHUNK)[: values.ndim]
    array = root.create_array(
        name,
        shape=values.shape,
        dtype=str if values.dtype == object else values.dtype,
        chunks=chunks,
        dimension_names=dims,
        attributes=dict(attributes),
        overwrite=True,
        **storage,
    )
    array[...] = values
