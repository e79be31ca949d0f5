"""What the Zarr group of a slot looks like: variables, coordinates, CF and GeoZarr attributes.

    {generation}.zarr/                  the pixels of the lattice
    {generation}.zarr/overviews/2/      the same variables, every pixel from 2 x 2 of the lattice
    {generation}.zarr/overviews/4/      from 2 x 2 of those, and so on until two chunks hold it

Written once, before any pixel. Everything here is determined by the lattice, the bands, the scenes
and the day, so two runs of one request write the same bytes.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import zarr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec
from zarr.errors import ContainsArrayError, ZarrUserWarning

from catalog.grid import Lattice
from catalog.pixels.masks import CLASSES, UNKNOWN

ZSTD_LEVEL = 3

QUALITY = (
    "no_optical",  # also what a shard that was never written reads as
    "registered",
    "abstained",  # SAR is there, but its registration cannot be trusted, so it is left out
    "no_sar",
    "cloud",
)
"""What became of a pixel: the meanings of the `quality` variable, by value."""

SCENE_DIMENSION = "sar_index"
NO_SCENE = 0
"""`sar_scene` where no SAR is shown, and the entry of `sar_time` that is not a time."""

MULTISCALES = "multiscales"
GEOZARR_CONVENTIONS = [
    {
        "name": name,
        "uuid": identifier,
        "schema_url": (
            f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json"
        ),
        "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
        "description": description,
    }
    for name, identifier, description in (
        (
            "proj",
            "f17cb550-5864-4468-aeb7-f3180cfb622f",
            "Coordinate reference system information for geospatial data",
        ),
        ("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
        (
            MULTISCALES,
            "d35379db-88df-4056-af3a-620245f8e347",
            "Multiscale layout of zarr datasets",
        ),
    )
]

NOT_CF_WORD = re.compile(r"[^A-Za-z0-9_.+@-]+")


@dataclass(frozen=True)
class Variable:
    """A variable of pixels: what is stored, and what it means."""

    name: str
    dtype: str
    fill: float | int
    attributes: Mapping[str, Any]


def overview_factors(lattice: Lattice) -> tuple[int, ...]:
    """2, 4, 8, … until two chunks are as long as the level's longest side."""
    factors: list[int] = []
    side = max(lattice.shape)
    while side > 2 * lattice.chunk_px:
        side = -(-side // 2)
        factors.append(2 * factors[-1] if factors else 2)
    return tuple(factors)


def level_path(factor: int) -> str:
    """The group of an overview level within that of its slot; "" for the lattice itself."""
    return "" if factor == 1 else f"overviews/{factor}"


def level_lattice(lattice: Lattice, factor: int) -> Lattice:
    """The pixels of an overview level, `factor` times as large; the last ones may reach beyond."""
    height, width = (-(-side // factor) for side in lattice.shape)
    affine = lattice.geobox.affine @ Affine.scale(factor)
    return Lattice(GeoBox((height, width), affine, lattice.crs), lattice.shard_px, lattice.chunk_px)


def create_group(
    store: Store,
    lattice: Lattice,
    day: date,
    variables: Sequence[Variable],
    sar_scenes: Mapping[str, datetime],
    attrs: Mapping[str, Any],
) -> None:
    """Write a slot's metadata and coordinates where they are missing; pixels are never touched.

    `sar_scenes` are ids and sensing times, in the order in which `sar_scene` counts them from 1.
    """
    with warnings.catch_warnings():
        # Consolidated metadata is no part of the Zarr v3 specification. It saves readers on object
        # stores a request per array, and those that do not know it ignore it.
        warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
        root = zarr.open_group(store, mode="a", zarr_format=3)
        if root.metadata.consolidated_metadata is not None:
            return  # it is written last: nothing is missing
        for factor in (1, *overview_factors(lattice)):
            group = root if factor == 1 else root.require_group(level_path(factor))
            group.attrs.put({**_group_attributes(lattice, factor, day), **attrs})
            _create_coordinates(group, lattice, factor, day, sar_scenes)
            for variable in variables:
                _create_pixels(group, variable, lattice, factor)
        zarr.consolidate_metadata(store)


def pixel_variables(
    optical_bands: Sequence[str],
    sar_bands: Sequence[str],
    sar_scenes: Sequence[str],
    classes: bool = False,
) -> tuple[Variable, ...]:
    """Every variable of pixels of a slot; `sar_scenes` are ids, as for `create_group`.

    With `classes` also what the optical pixels show.
    """
    towards = "in pixels: SAR position minus optical position, as applied"
    beside = {"ancillary_variables": "expected_error quality sar_scene"}
    described: dict[str, dict[str, Any]] = {
        band: {"long_name": f"optical {band}", "units": "1", "ancillary_variables": "quality"}
        for band in optical_bands
    }
    described |= {
        band: {
            "long_name": f"SAR {band.upper()} registered to the optical scene",
            "units": "1",
            **beside,
        }
        for band in sar_bands
    }
    # UDUNITS has no pixel, so to CF these are plain numbers.
    for name, axis in (("dx", "x"), ("dy", "y")):
        described[name] = {"long_name": f"displacement along {axis} {towards}", "units": "1"}
    described["expected_error"] = {
        "long_name": "expected error of the registration in pixels",
        "units": "1",
    }
    floats = [
        Variable(name, "float32", float("nan"), attributes)
        for name, attributes in described.items()
    ]
    quality = {
        "standard_name": "quality_flag",
        "long_name": "what became of the pixel",
        "flag_values": list(range(len(QUALITY))),
        "flag_meanings": " ".join(QUALITY),
    }
    optical_class = {
        "long_name": "what the optical pixel shows",
        "flag_values": list(range(len(CLASSES))),
        "flag_meanings": " ".join(CLASSES),
    }
    return (
        *floats,
        Variable("quality", "uint8", QUALITY.index("no_optical"), quality),
        Variable("sar_scene", "uint16", NO_SCENE, scene_attributes(sar_scenes)),
        *([Variable("optical_class", "uint8", UNKNOWN, optical_class)] if classes else []),
    )


def scene_attributes(sar_scenes: Sequence[str]) -> dict[str, Any]:
    """CF attributes of `sar_scene`, which counts these ids from 1."""
    return {
        "long_name": "SAR scene that the pixel shows; sar_time[sar_scene] is when it was taken",
        "flag_values": list(range(len(sar_scenes) + 1)),
        # CF separates meanings by blanks and allows them few characters.
        "flag_meanings": " ".join(["none", *(NOT_CF_WORD.sub("_", each) for each in sar_scenes)]),
    }


def _group_attributes(lattice: Lattice, factor: int, day: date) -> dict[str, Any]:
    factors = overview_factors(lattice) if factor == 1 else ()
    known = [c for c in GEOZARR_CONVENTIONS if factors or c["name"] != MULTISCALES]
    return {
        "Conventions": "CF-1.11",
        "title": f"SAR registered to optical, {day.isoformat()}",
        "coordinates": "time spatial_ref sar_time",
        "zarr_conventions": known,
        **({"proj:code": lattice.crs_code} if lattice.crs_code else {}),
        "proj:wkt2": lattice.crs.to_wkt(),
        "spatial:dimensions": ["y", "x"],
        "spatial:transform_type": "affine",
        "spatial:registration": "pixel",
        **spatial_attributes(level_lattice(lattice, factor).geobox),
        **({MULTISCALES: _multiscales(lattice, factors)} if factors else {}),
    }


def spatial_attributes(geobox: GeoBox) -> dict[str, Any]:
    """Where pixels lie, as the GeoZarr convention `spatial` says it."""
    affine = geobox.affine
    return {
        "spatial:transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "spatial:shape": [int(side) for side in geobox.shape],
        "spatial:bbox": list(geobox.boundingbox.bbox),
    }


def _multiscales(lattice: Lattice, factors: Sequence[int]) -> dict[str, Any]:
    """The levels as the GeoZarr convention `multiscales` lists them, the lattice first."""
    layout = []
    for factor in (1, *factors):
        place = spatial_attributes(level_lattice(lattice, factor).geobox)
        scale = 1.0 if factor == 1 else 2.0  # from the level below; corners stay where they are
        layout.append(
            {
                "asset": level_path(factor) or ".",
                **({} if factor == 1 else {"derived_from": level_path(factor // 2) or "."}),
                "transform": {"scale": [scale, scale], "translation": [0.0, 0.0]},
                "spatial:shape": place["spatial:shape"],
                "spatial:transform": place["spatial:transform"],
            }
        )
    return {"layout": layout, "resampling_method": "average"}


def _create_coordinates(
    group: zarr.Group,
    lattice: Lattice,
    factor: int,
    day: date,
    sar_scenes: Mapping[str, datetime],
) -> None:
    axes = {axis["axis"]: axis for axis in lattice.crs.cs_to_cf()}
    y, x = _centres(lattice, factor)
    for name, values in (("y", y), ("x", x)):
        _create_array(group, name, values, (name,), dict(axes.get(name.upper(), {})))
    days = np.array((day - date(1970, 1, 1)).days, dtype=np.int64)
    calendar = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    _create_array(group, "time", days, (), {"standard_name": "time", **calendar})
    _create_sar_time(group, sar_scenes)
    affine = level_lattice(lattice, factor).geobox.affine
    wkt = lattice.crs.to_wkt()
    grid_mapping = {
        **lattice.crs.to_cf(), "spatial_ref": wkt, "GeoTransform": geotransform(affine)
    }  # fmt: skip
    _create_array(group, "spatial_ref", np.array(0, dtype=np.int64), (), grid_mapping)


def geotransform(affine: Affine) -> str:
    """A pixel-corner transform as GDAL and rioxarray read it from the grid mapping."""
    return " ".join(str(value) for value in affine.to_gdal())


def _create_sar_time(group: zarr.Group, sar_scenes: Mapping[str, datetime]) -> None:
    """When each scene was taken, by the number that `sar_scene` gives it."""
    epoch, none = datetime(1970, 1, 1, tzinfo=UTC), np.iinfo(np.int64).min
    since = [(when - epoch) // timedelta(microseconds=1) for when in sar_scenes.values()]
    attributes = {
        "standard_name": "time",
        "long_name": "when the SAR scene of this number was taken",
        "units": "microseconds since 1970-01-01",
        "calendar": "proleptic_gregorian",
        "_FillValue": int(none),
        "scene_ids": ["", *sar_scenes],
    }
    times = np.array([none, *since], dtype=np.int64)
    _create_array(group, "sar_time", times, (SCENE_DIMENSION,), attributes)


def _centres(lattice: Lattice, factor: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CRS y of a level's rows, falling, and x of its columns, rising."""
    a, _, c, _, e, f = lattice.transform
    height, width = level_lattice(lattice, factor).shape
    # Counted from the CRS origin, not from this lattice's corner: lattices that share pixels
    # get bit-equal coordinates for them, and xarray aligns coordinates by equality.
    rows = round(f / e) + factor * (np.arange(height, dtype=np.float64) + 0.5)
    columns = round(c / a) + factor * (np.arange(width, dtype=np.float64) + 0.5)
    return rows * e, columns * a


def _create_pixels(group: zarr.Group, variable: Variable, lattice: Lattice, factor: int) -> None:
    # An earlier attempt, or another run of the same request, wrote the same metadata.
    with contextlib.suppress(ContainsArrayError):
        group.create_array(
            variable.name,
            shape=level_lattice(lattice, factor).shape,
            dtype=variable.dtype,
            shards=(lattice.shard_px, lattice.shard_px),
            chunks=(lattice.chunk_px, lattice.chunk_px),
            compressors=ZstdCodec(level=ZSTD_LEVEL),
            fill_value=variable.fill,
            dimension_names=("y", "x"),
            attributes={**variable.attributes, "grid_mapping": "spatial_ref"},
        )


def _create_array(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: tuple[str, ...],
    attributes: dict[str, Any],
) -> None:
    array = group.require_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        dimension_names=dims,
        attributes=attributes,
        fill_value=0,
    )
    array[...] = values
