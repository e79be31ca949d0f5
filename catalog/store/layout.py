"""How the Zarr group of a slot is laid out: chunks, levels, coordinates and GeoZarr attributes.

    {generation}.zarr/                  the variables of the slot's schema, on the lattice
    {generation}.zarr/overviews/4/      the same variables, every pixel from 4 x 4 of the lattice
    {generation}.zarr/overviews/8/      from 2 x 2 of those, and so on to a quarter of a chunk
    {generation}.zarr/.zmetadata        all of it described once more, as version 2 of Zarr does

There is no level of 2 x 2: it would be a quarter of all bytes, for what is quickly computed. A
chunk is a shard of the lattice, and an object. GDAL reads Zarr of version 3 from 3.11 on, what
QGIS and rasterio come with is often older, and chunks are the same in both versions: so older ones
open the group by its `.zmetadata`, which also tells them the CRS in their own way.

Written once, before any pixel. Everything here is determined by the lattice, the bands, the scenes
and the day, so two runs of one request write the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import xarray as xr
import zarr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError, ZarrUserWarning

from catalog.grid import Lattice
from catalog.store.schema import DIMENSIONS, SENSOR_NAMES, Packing, SlotSchema

FIRST_FACTOR = 4
CHECKED = ZstdCodec(level=3, checksum=True)
"""Of coordinates: what was changed or cut short is an error to whoever reads it.

The checksum is part of Zstandard's frame, so programs that open the group as version 2 hold to it
too. Zarr's own checksum, crc32c, GDAL does not read before 3.13.
"""
COMPRESSORS = (
    BloscCodec(cname="zstd", clevel=3, shuffle="shuffle", blocksize=2**20),
    ZstdCodec(level=1, checksum=True),
)
"""Of pixels. Blosc shuffles their bytes and makes them a fifth fewer than Zstandard alone, but has
no checksum; the frame around it has one, finds nothing more to compress, and takes some fifty
bytes. infra/SCALE.md has the table. GDAL reads no chunk that Blosc makes longer than it was, as it
does with a few numbers or with noise of all bits.
"""
CHUNK_KEYS: dict[str, Any] = {"name": "v2", "separator": "/"}  # that both versions find

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


def overview_factors(lattice: Lattice) -> tuple[int, ...]:
    """4, 8, 16, … until a quarter of a chunk is as long as the level's longest side."""
    factors: list[int] = []
    while -(-max(lattice.shape) // (factors[-1] if factors else 1)) > lattice.shard_px // 4:
        factors.append(2 * factors[-1] if factors else FIRST_FACTOR)
    return tuple(factors)


def level_below(factor: int) -> int:
    """The level that an overview level is made of; 1 is the lattice itself."""
    return 1 if factor == FIRST_FACTOR else factor // 2


def scene_dimension(sensor: str) -> str:
    """The dimension along which the scenes of a sensor are counted."""
    return f"{sensor}_index"


def scene_time_attributes(sensor: str) -> dict[str, str]:
    """What the coordinate `{sensor}_time` is, wherever it counts scenes."""
    long_name = f"when the {SENSOR_NAMES[sensor]} scene of this number was taken"
    return {"standard_name": "time", "long_name": long_name}


def declared_factors(attrs: Mapping[str, Any]) -> list[int]:
    """The overview levels that the attributes of a slot's group tell of, the finest first."""
    levels = attrs.get(MULTISCALES, {}).get("layout", [])
    return [int(level["asset"].rpartition("/")[2]) for level in levels[1:]]


def level_path(factor: int) -> str:
    """The group of an overview level within that of its slot; "" for the lattice itself."""
    return "" if factor == 1 else f"overviews/{factor}"


def level_lattice(lattice: Lattice, factor: int) -> Lattice:
    """The pixels of an overview level, `factor` times as large; the last ones may reach beyond."""
    height, width = (-(-side // factor) for side in lattice.shape)
    affine = lattice.geobox.affine @ Affine.scale(factor)
    return Lattice(GeoBox((height, width), affine, lattice.crs), lattice.shard_px)


def create_group(
    store: Store,
    lattice: Lattice,
    day: date,
    schema: SlotSchema,
    attrs: Mapping[str, Any],
) -> None:
    """Write a slot's metadata and coordinates where they are missing; pixels are never touched."""
    with warnings.catch_warnings():
        # Consolidated metadata is no part of the Zarr v3 specification. It saves readers on object
        # stores a request per array, and those that do not know it ignore it.
        warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
        warnings.filterwarnings("ignore", "Object at .zmetadata", ZarrUserWarning)
        root = zarr.open_group(store, mode="a", zarr_format=3)
        if root.metadata.consolidated_metadata is not None:
            return  # it is written last: nothing is missing
        for factor in (1, *overview_factors(lattice)):
            group = root if factor == 1 else root.require_group(level_path(factor))
            group.attrs.put({**_group_attributes(lattice, factor, day), **attrs})
            _create_coordinates(group, lattice, factor, day, schema)
            for name, variable in schema.empty(level_lattice(lattice, factor).shape).items():
                _create_pixels(group, str(name), variable, lattice)
        _describe_as_version_2(store, lattice)
        zarr.consolidate_metadata(store)


def _group_attributes(lattice: Lattice, factor: int, day: date) -> dict[str, Any]:
    factors = overview_factors(lattice) if factor == 1 else ()
    known = [c for c in GEOZARR_CONVENTIONS if factors or c["name"] != MULTISCALES]
    return {
        "Conventions": "CF-1.11",
        "title": f"SAR registered to optical, {day.isoformat()}",
        "coordinates": "time spatial_ref sar_time optical_time",
        "zarr_conventions": known,
        **({"proj:code": lattice.crs_code} if lattice.crs_code else {}),
        "proj:wkt2": lattice.crs.to_wkt(),
        "spatial:dimensions": list(DIMENSIONS),
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
        below = level_below(factor)
        scale = 1.0 if factor == 1 else factor / below  # corners stay where they are
        layout.append(
            {
                "asset": level_path(factor) or ".",
                **({} if factor == 1 else {"derived_from": level_path(below) or "."}),
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
    schema: SlotSchema,
) -> None:
    create_axes(group, lattice, factor)
    days = np.array((day - date(1970, 1, 1)).days, dtype=np.int64)
    calendar = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    create_array(group, "time", days, (), {"standard_name": "time", **calendar})
    for sensor, scenes in schema.scenes.items():
        _create_scene_time(group, sensor, scenes)
    affine = level_lattice(lattice, factor).geobox.affine
    create_grid_mapping(group, lattice.crs, GeoTransform=geotransform(affine))


def create_axes(group: zarr.Group, lattice: Lattice, factor: int) -> None:
    """CRS y and x of a level's pixels, as coordinates of the dimensions of that name."""
    y, x = centres(lattice, factor)
    for name, values in (("y", y), ("x", x)):
        create_array(group, name, values, (name,), axis_attributes(lattice, name))


def axis_attributes(lattice: Lattice, name: str) -> dict[str, Any]:
    """CF attributes of positions along an axis, "x" or "y", of the lattice's CRS."""
    axes = {axis["axis"]: axis for axis in lattice.crs.cs_to_cf()}
    return dict(axes.get(name.upper(), {}))


def create_grid_mapping(group: zarr.Group, crs: CRS, **more: str) -> None:
    """The CRS as CF and GDAL read it, the variable `spatial_ref`; `more` are its attributes too."""
    grid_mapping = {**crs.to_cf(), "spatial_ref": crs.to_wkt(), **more}
    create_array(group, "spatial_ref", np.array(0, dtype=np.int64), (), grid_mapping)


def geotransform(affine: Affine) -> str:
    """A pixel-corner transform as GDAL and rioxarray read it from the grid mapping."""
    return " ".join(str(value) for value in affine.to_gdal())


def _create_scene_time(group: zarr.Group, sensor: str, scenes: Mapping[str, datetime]) -> None:
    """When each scene was taken, by the number that `{sensor}_scene` gives it."""
    epoch, none = datetime(1970, 1, 1, tzinfo=UTC), np.iinfo(np.int64).min
    since = [(when - epoch) // timedelta(microseconds=1) for when in scenes.values()]
    attributes = {
        **scene_time_attributes(sensor),
        "units": "microseconds since 1970-01-01",
        "calendar": "proleptic_gregorian",
        "_FillValue": int(none),
        "scene_ids": ["", *scenes],
    }
    times = np.array([none, *since], dtype=np.int64)
    create_array(group, f"{sensor}_time", times, (scene_dimension(sensor),), attributes)


def centres(lattice: Lattice, factor: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CRS y of a level's rows, falling, and x of its columns, rising."""
    a, _, c, _, e, f = lattice.transform
    height, width = level_lattice(lattice, factor).shape
    # Counted from the CRS origin, as `Lattice.centres` does and for its reason; a level's pixels
    # need not begin at a multiple of their own size, so its lattice cannot be asked.
    rows = round(f / e) + factor * (np.arange(height, dtype=np.float64) + 0.5)
    columns = round(c / a) + factor * (np.arange(width, dtype=np.float64) + 0.5)
    return rows * e, columns * a


def _create_pixels(group: zarr.Group, name: str, variable: xr.DataArray, lattice: Lattice) -> None:
    dtype, fill = variable.encoding["dtype"], variable.encoding["_FillValue"]
    packing = Packing.of(dtype, variable.encoding)
    packed = {} if packing is None else packing.attributes
    # An earlier attempt, or another run of the same request, wrote the same metadata.
    with contextlib.suppress(ContainsArrayError):
        group.create_array(
            name,
            shape=variable.shape,
            dtype=dtype,
            chunks=(lattice.shard_px, lattice.shard_px),
            chunk_key_encoding=CHUNK_KEYS,
            compressors=COMPRESSORS,
            fill_value=fill,
            dimension_names=[str(dimension) for dimension in variable.dims],
            attributes={**variable.attrs, **packed, "grid_mapping": "spatial_ref"},
        )


def create_array(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: tuple[str, ...],
    attributes: dict[str, Any],
    fill_value: Any = 0,
    **storage: Any,
) -> None:
    """An array of one chunk, made where it is missing, and written; `storage` is Zarr's."""
    array = group.require_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        chunk_key_encoding=CHUNK_KEYS,
        dimension_names=dims,
        attributes=attributes,
        fill_value=fill_value,
        **{"compressors": CHECKED, **storage},
    )
    array[...] = values


def _describe_as_version_2(store: Store, lattice: Lattice) -> None:
    """The group's consolidated metadata of Zarr version 2, beside that of version 3."""
    root = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)
    metadata: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": root.attrs.asdict()}
    for path, node in sorted(root.members(max_depth=None)):
        attributes = node.attrs.asdict()
        if isinstance(node, zarr.Group):
            metadata[f"{path}/.zgroup"] = {"zarr_format": 2}
        else:
            metadata[f"{path}/.zarray"] = _array_of_version_2(node)
            attributes["_ARRAY_DIMENSIONS"] = node.metadata.to_dict().get("dimension_names", ())
            if node.ndim == 2:
                attributes["_CRS"] = {"wkt": lattice.crs.to_wkt()}
        metadata[f"{path}/.zattrs"] = attributes
    content = {"zarr_consolidated_format": 1, "metadata": metadata}
    encoded = json.dumps(content, sort_keys=True, allow_nan=False).encode()
    sync(store.set(".zmetadata", default_buffer_prototype().buffer.from_bytes(encoded)))


def _array_of_version_2(array: zarr.Array[Any]) -> dict[str, Any]:
    fill = np.asarray(array.fill_value)
    return {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(array.chunks),
        "dtype": array.dtype.str,
        **_compressors_of_version_2(array),
        "fill_value": "NaN" if np.isnan(fill) else fill.item(),
        "order": "C",
        "dimension_separator": CHUNK_KEYS["separator"],
    }


def _compressors_of_version_2(array: zarr.Array[Any]) -> dict[str, Any]:
    """Version 2 knows one compressor; what is done before it is a filter."""
    *before, zstd = array.compressors
    assert isinstance(zstd, ZstdCodec)
    return {
        "filters": [_blosc_of_version_2(codec) for codec in before] or None,
        "compressor": {"id": "zstd", "level": zstd.level},
    }


def _blosc_of_version_2(codec: object) -> dict[str, Any]:
    assert isinstance(codec, BloscCodec)
    told: Any = codec.to_dict()["configuration"]  # plain words; the codec's own are enums, or not
    return {
        "id": "blosc",
        "cname": told["cname"],
        "clevel": told["clevel"],
        "shuffle": 1,
        "blocksize": told["blocksize"],
    }
