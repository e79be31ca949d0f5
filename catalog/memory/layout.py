"""How the Zarr group of a memory version is laid out, and how it is opened.

    {version}.zarr/            the variables of `encoding.VARIABLES`, one chunk each
    {version}.zarr/reference/  `sar` (y, x), uint8, pixels of 2 x 2 of the lattice

Everything here is determined by the field, the lattice and the attributes, so the same memory is
written with the same bytes. Chunks carry a checksum, so one that is damaged does not decode.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.errors import ContainsArrayError, ZarrUserWarning

from catalog.grid import Lattice
from catalog.memory.encoding import (
    DAY,
    DB_PER_CODE,
    LOWEST_DB,
    NO_DATA_CODE,
    NODES,
    VARIABLES,
    pack,
)
from catalog.store.layout import (
    GEOZARR_CONVENTIONS,
    MULTISCALES,
    axis_attributes,
    create_array,
    create_axes,
    create_grid_mapping,
    geotransform,
    level_lattice,
    spatial_attributes,
)
from catalog.store.schema import DIMENSIONS

REFERENCE = "reference"
REFERENCE_FACTOR = 2
"""Side of a reference pixel in lattice pixels."""
CHUNK_PX = 1024  # of the reference, at most: some hundred kilobytes
ZSTD_LEVEL = 9  # written once a night, read every night


def reference_lattice(lattice: Lattice) -> Lattice:
    """The pixels of a memory's reference image."""
    return level_lattice(lattice, REFERENCE_FACTOR)


def create_version(
    store: Store, field: xr.Dataset, lattice: Lattice, attrs: Mapping[str, Any]
) -> None:
    """Write a version's field, and its reference without pixels, where they are missing.

    Raises ArgumentError for a field that cannot be kept.
    """
    packed = pack(field)
    with warnings.catch_warnings():
        # Consolidated metadata is no part of the Zarr v3 specification; see `store.layout`.
        warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
        root = zarr.open_group(store, mode="a", zarr_format=3)
        if root.metadata.consolidated_metadata is not None:
            return  # it is written last: nothing is missing
        root.attrs.put({
            "Conventions": "CF-1.11",
            "title": "What is remembered of how SAR of one viewing geometry is displaced",
            "coordinates": "x y spatial_ref",
            **_crs_attributes(lattice),
            **attrs,
        })  # fmt: skip
        _create_coordinates(root, field, lattice)
        for name, kind in VARIABLES.items():
            storage = _storage(kind.dtype)
            fill = 0 if kind.fill is None else kind.fill
            create_array(root, name, packed[name], kind.dims, kind.attributes, fill, **storage)
        _create_reference(root.require_group(REFERENCE), lattice)
        zarr.consolidate_metadata(store)


def _crs_attributes(lattice: Lattice) -> dict[str, Any]:
    return {
        **({"proj:code": lattice.crs_code} if lattice.crs_code else {}),
        "proj:wkt2": lattice.crs.to_wkt(),
    }


def _create_coordinates(group: zarr.Group, field: xr.Dataset, lattice: Lattice) -> None:
    """The days, and where nodes lie: in pixels of the lattice and in its CRS."""
    days = field["day"].values.astype("datetime64[D]").astype(np.int64)
    generations = [str(each) for each in field["generation"].values]
    calendar = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    told = {"long_name": "solar day", **calendar, "generations": generations}
    create_array(group, "day", days, DAY, told)
    at = {name: field[name].values.astype(np.float64) for name in NODES}
    crs = lattice.crs_from_px(np.stack(np.meshgrid(at["node_x"], at["node_y"])))
    for name, along, positions in (("y", "node_y", crs[1][:, 0]), ("x", "node_x", crs[0][0])):
        pixels = {"long_name": f"{name} of the node, pixels of the lattice", "units": "1"}
        create_array(group, along, at[along], (along,), pixels)
        create_array(group, name, positions, (along,), axis_attributes(lattice, name))
    create_grid_mapping(group, lattice.crs)


def _storage(dtype: str) -> dict[str, Any]:
    size = np.dtype(dtype).itemsize
    shuffled = BloscCodec(cname="zstd", clevel=ZSTD_LEVEL, shuffle="shuffle", typesize=size)
    return {"compressors": (shuffled, Crc32cCodec())}


def _create_reference(group: zarr.Group, lattice: Lattice) -> None:
    level = reference_lattice(lattice)
    group.attrs.put({
        "Conventions": "CF-1.11",
        "title": "Despeckled SAR image of one viewing geometry, registered to optical",
        "coordinates": "spatial_ref",
        "zarr_conventions": [c for c in GEOZARR_CONVENTIONS if c["name"] != MULTISCALES],
        **_crs_attributes(lattice),
        "spatial:dimensions": list(DIMENSIONS),
        "spatial:transform_type": "affine",
        "spatial:registration": "pixel",
        **spatial_attributes(level.geobox),
    })  # fmt: skip
    create_axes(group, lattice, REFERENCE_FACTOR)
    create_grid_mapping(group, lattice.crs, GeoTransform=geotransform(level.geobox.affine))
    # Two shards never share a chunk, so tasks that write them do not meet.
    side = math.gcd(CHUNK_PX, level.shard_px)
    with contextlib.suppress(ContainsArrayError):  # an earlier attempt made it
        group.create_array(
            "sar",
            shape=level.shape,
            dtype="uint8",
            chunks=(side, side),
            compressors=(ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()),
            fill_value=NO_DATA_CODE,
            dimension_names=DIMENSIONS,
            attributes={
                "long_name": "SAR image, mean of the days without their speckle",
                "units": "dB",
                "scale_factor": DB_PER_CODE,
                "add_offset": LOWEST_DB - DB_PER_CODE,
                "_FillValue": NO_DATA_CODE,
                "grid_mapping": "spatial_ref",
            },
        )


def open_field(store: Store) -> xr.Dataset:
    """The field of a version, lazy: `encoding.VARIABLES` in pixels, NaN where nothing is known.

    Coordinates are `day` as datetime64, `generation` of each, `node_y` and `node_x` in pixels of
    the lattice, `y` and `x` of the nodes in its CRS.
    """
    field: xr.Dataset = xr.open_zarr(store, chunks={}, decode_coords="all", zarr_format=3)
    generations = field["day"].attrs.pop("generations")
    named = {"long_name": "generation of the day that was learnt from"}
    field.coords["generation"] = ("day", np.array(generations, dtype="<U16"), named)
    return field


def open_reference(store: Store) -> xr.Dataset:
    """The reference of a version, lazy: `sar` (y, x), decibels, NaN for no data."""
    reference: xr.Dataset = xr.open_zarr(
        store, group=REFERENCE, chunks={}, decode_coords="all", zarr_format=3
    )
    reference["sar"] = reference["sar"].astype(np.float32)
    return reference
