"""Opening what is published: days of a region as one xarray.Dataset, cut to what is asked for.

Nothing is read but metadata; pixels come when they are computed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array
import numpy as np
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from zarr.storage import FsspecStore, LocalStore

from catalog import objects
from catalog.errors import ArgumentError, StoreError
from catalog.grid import BBox, Lattice, Window, region_outline
from catalog.store.days import DayOrDays, published_groups
from catalog.store.layout import (
    MULTISCALES,
    declared_factors,
    geotransform,
    level_path,
    scene_dimension,
    scene_time_attributes,
    spatial_attributes,
)
from catalog.store.receipts import ReceiptedStore, Receipts
from catalog.store.schema import FLAG_FILLS, NO_SCENE, SENSOR_NAMES, scene_attributes

KEPT_ENCODING = ("grid_mapping", "units", "calendar")


def open_mosaic(
    url: str | os.PathLike[str],
    bbox: BBox | None = None,
    time: DayOrDays | None = None,
    bands: str | Sequence[str] | None = None,
    overview: int | None = None,
) -> xr.Dataset:
    """The published mosaics of a region, `{store}/{region}`: dims (time, y, x), lazy.

    `time` is the solar day of the slots. Variables are the optical bands by common name, the
    registered SAR polarisations, `dx`, `dy` and `expected_error` (lattice pixels) as float32 with
    NaN for no data, `quality` as uint8, `sar_scene` and `optical_scene` as uint16 (CF flags).
    `sar_scene` counts the SAR scenes of all days: `mosaic.sar_time[mosaic.sar_scene]` and
    `mosaic.sar_id[...]` are when each pixel was seen by radar, and in which scene; NaT and ""
    where it was not, or where a slot of an earlier version does not tell. So do `optical_scene`,
    `optical_time` and `optical_id`. Slots on different extents of one pixel grid are brought to
    their union.

    `bbox` (west, south, east, north in degrees) cuts to the pixels that this box touches. `time`
    is a day, or the first and the last as a tuple or a slice, both included. `bands` are names of
    variables. `overview` is the factor of an overview level, 4, 8, …: every pixel is the mean of
    that many squared (of what is known of them); of flags, what most are.
    The attribute `overview_factors` lists those that all the days opened have.

    Raises ArgumentError for a band, day, overview or box that is not there, StoreError when
    nothing is published there, an item or its group is damaged, or the slots are on different
    pixel grids.
    """
    url = os.fspath(url)
    slots = [open_slot(group, overview or 1) for group in published_groups(url, time)]
    slots = _with_bands(slots, bands, url)
    _require_one_grid(slots, url)
    scenes: dict[str, Any] = {}
    for sensor in SENSOR_NAMES:
        slots, found = _with_common_scenes(slots, sensor)
        scenes |= found
    # A scalar coordinate becomes the dimension, so every slot brings its own day.
    mosaic = xr.concat(
        [slot.expand_dims("time") for slot in slots],
        dim="time",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="drop_conflicts",
        fill_value=FLAG_FILLS,
    )
    # The union of different extents comes back in rising order, rows too.
    if mosaic.y.size > 1 and mosaic.y[0] < mosaic.y[-1]:
        mosaic = mosaic.isel(y=slice(None, None, -1))
    transform = slots[0].attrs["spatial:transform"]
    if bbox is not None:
        mosaic = _cut_to_box(mosaic, transform, bbox, url)
    levels = [declared_factors(slot.attrs) for slot in slots]
    mosaic.attrs["overview_factors"] = [f for f in levels[0] if all(f in each for each in levels)]
    return _georeferenced(mosaic, transform).assign_coords(scenes)


def open_slot(group_url: str, factor: int = 1) -> xr.Dataset:
    """One generation of one slot, or an overview of it: dims (y, x), lazy, chunks of one shard.

    Raises ArgumentError when it has no such overview, StoreError when it cannot be opened.
    """
    slot = open_undivided(group_url, factor)
    with objects.store_errors("open", group_url):
        stored = slot["quality"].encoding
        height, width = stored.get("shards") or stored["chunks"]  # slots of earlier versions
        lazy: xr.Dataset = slot.chunk(y=height, x=width)
        for name, variable in lazy.data_vars.items():
            if "scale_factor" in variable.encoding:  # which xarray makes double precision
                lazy[name] = variable.astype(np.float32)
                lazy[name].encoding = variable.encoding
        return lazy


def open_undivided(group_url: str, factor: int = 1) -> xr.Dataset:
    """As `open_slot`, without Dask, for small windows: `load_window` decodes no more than these."""
    with objects.store_errors("open", group_url):
        store = readers_store(group_url)
        if factor != 1:
            _require_overview(xr.open_zarr(store, chunks=None, zarr_format=3), factor, group_url)
        slot: xr.Dataset = xr.open_zarr(
            store, group=level_path(factor), chunks=None, decode_coords="all", zarr_format=3
        )
        return slot


def load_window(undivided: xr.Dataset, names: Sequence[str], window: Window) -> xr.Dataset:
    """Variables of an undivided slot on a window, in memory: float32, flags as they are stored."""
    rows, columns = window.slices
    part = undivided[list(names)].isel(y=rows, x=columns)
    for name, variable in part.data_vars.items():
        if "scale_factor" in variable.encoding:  # which xarray makes double precision
            part[name] = variable.astype(np.float32)
    loaded: xr.Dataset = part.load()
    return loaded


def zarr_store(url: str) -> LocalStore | FsspecStore:
    """What Zarr opens at a path or URL. Raises StoreError."""
    if objects.is_local(url):
        return LocalStore(objects.filesystem(url)[1])
    return FsspecStore.from_url(url, storage_options=objects.storage_options(url))


def readers_store(group_url: str) -> ReceiptedStore[Any]:
    """What readers open a day's group with: lost pixels are an error. Raises StoreError."""
    return ReceiptedStore(zarr_store(group_url), Receipts(group_url))


def _with_bands(
    slots: Sequence[xr.Dataset], bands: str | Sequence[str] | None, url: str
) -> list[xr.Dataset]:
    if bands is None:
        return list(slots)
    wanted = [bands] if isinstance(bands, str) else list(bands)
    there = sorted({str(name) for slot in slots for name in slot.data_vars})
    unknown = [name for name in wanted if name not in there]
    if unknown or not wanted:
        raise ArgumentError(
            f"bands: {', '.join(unknown) or 'none'} asked for; the mosaic at {url} has "
            f"{', '.join(there)}",
            argument="bands",
        )
    return [
        slot.drop_vars([name for name in slot.data_vars if name not in wanted]) for slot in slots
    ]


def _require_overview(slot: xr.Dataset, factor: int, group_url: str) -> None:
    factors = declared_factors(slot.attrs)
    if factor not in factors:
        there = ", ".join(str(each) for each in factors) or "none"
        raise ArgumentError(
            f"overview: {group_url} has none of factor {factor}; there are: {there}",
            argument="overview",
        )


def _with_common_scenes(
    slots: Sequence[xr.Dataset], sensor: str
) -> tuple[list[xr.Dataset], dict[str, Any]]:
    """The slots with `{sensor}_scene` counting the scenes of all of them, and when those were.

    The scenes are returned as coordinates; none when no slot tells its scenes.
    """
    pixels, time, name = f"{sensor}_scene", f"{sensor}_time", f"{sensor}_id"
    bare = [slot.drop_vars(time, errors="ignore") for slot in slots]
    if not any(pixels in slot for slot in slots):
        return bare, {}
    times: dict[str, np.datetime64] = {}
    for slot in slots:
        if time in slot.coords:
            times |= dict(zip(_scene_ids(slot[time]), slot[time].values, strict=True))
    times.pop("", None)
    ids = sorted(times, key=lambda id_: (times[id_], id_))
    number = {"": NO_SCENE, **{id_: index for index, id_ in enumerate(ids, start=NO_SCENE + 1)}}
    counted = []
    for slot, without in zip(slots, bare, strict=True):
        if pixels in slot:
            numbers = [number[id_] for id_ in _scene_ids(slot[time])]
            without[pixels] = _renumbered(slot[pixels], numbers)
            without[pixels].attrs.update(scene_attributes(sensor, ids))
        counted.append(without)
    none = np.datetime64("NaT", "ns")
    when = np.array([none, *(times[id_] for id_ in ids)], dtype="datetime64[ns]")
    dimension = scene_dimension(sensor)
    named = {"long_name": f"id of the {SENSOR_NAMES[sensor]} scene of this number"}
    return counted, {
        # Dask arrays, though small: only those can be indexed by pixels that are not read yet.
        time: (dimension, dask.array.from_array(when), scene_time_attributes(sensor)),
        name: (dimension, dask.array.from_array(np.array(["", *ids])), named),
    }


def _scene_ids(times: xr.DataArray) -> list[str]:
    return list(times.attrs["scene_ids"])


def _renumbered(scene: xr.DataArray, numbers: Sequence[int]) -> xr.DataArray:
    if list(numbers) == list(range(len(numbers))):
        return scene
    renumbered: xr.DataArray = xr.apply_ufunc(
        partial(np.take, np.array(numbers, scene.dtype)), scene, dask="parallelized",
        output_dtypes=[scene.dtype], keep_attrs=True,
    )  # fmt: skip
    return renumbered


def _require_one_grid(slots: Sequence[xr.Dataset], url: str) -> None:
    first, *others = slots
    for other in others:
        a, _, c, _, e, f = other.attrs["spatial:transform"]
        a0, _, c0, _, e0, f0 = first.attrs["spatial:transform"]
        offset = np.array([(c - c0) / a0, (f - f0) / e0])
        aligned = (a, e) == (a0, e0) and np.allclose(offset, np.round(offset), atol=1e-6)
        if not aligned or other.rio.crs != first.rio.crs:
            raise StoreError(
                f"the slots at {url} are on different pixel grids; open them one by one, or run "
                "the region again with one crs and resolution (overviews also need one extent)",
                url=url,
            )


def _cut_to_box(mosaic: xr.Dataset, transform: Sequence[float], bbox: BBox, url: str) -> xr.Dataset:
    """The pixels that a box in longitude and latitude touches."""
    lattice = Lattice(_geobox(mosaic, transform))
    window = lattice.window_of(region_outline(bbox))
    if window is None:
        extent = [round(edge, 4) for edge in lattice.lonlat_extent().bounds]
        raise ArgumentError(
            f"bbox: {list(bbox)} does not touch the mosaic at {url}, which spans {extent}",
            argument="bbox",
        )
    rows, columns = window.slices
    return mosaic.isel(y=rows, x=columns)


def _georeferenced(mosaic: xr.Dataset, transform: Sequence[float]) -> xr.Dataset:
    """The dataset with attributes that say where its own pixels lie, and of no other level."""
    geobox = _geobox(mosaic, transform)
    attrs = {key: value for key, value in mosaic.attrs.items() if key != MULTISCALES}
    if "zarr_conventions" in attrs:
        attrs["zarr_conventions"] = [
            convention
            for convention in attrs["zarr_conventions"]
            if convention["name"] != MULTISCALES
        ]
    mosaic.attrs = {**attrs, **spatial_attributes(geobox)}
    for variable in mosaic.variables.values():  # how a slot is stored is no way to store this
        kept = {key: value for key, value in variable.encoding.items() if key in KEPT_ENCODING}
        variable.encoding = kept
    mosaic["spatial_ref"] = mosaic["spatial_ref"].assign_attrs(
        GeoTransform=geotransform(geobox.affine)
    )
    return mosaic


def _geobox(mosaic: xr.Dataset, transform: Sequence[float]) -> GeoBox:
    """The grid of a dataset whose pixels are as large as those of `transform`."""
    a, _, _, _, e, _ = transform
    left, top = float(mosaic.x[0]) - a / 2, float(mosaic.y[0]) - e / 2
    shape = mosaic.sizes["y"], mosaic.sizes["x"]
    return GeoBox(shape, Affine(a, 0.0, left, 0.0, e, top), mosaic.rio.crs)
