"""What the Zarr group of a slot looks like: variables, coordinates, CF and GeoZarr attributes.

Written once, before any pixel. Everything here is determined by the lattice, the bands and the
day, so two runs of one request write the same bytes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec
from zarr.errors import ContainsArrayError, ZarrUserWarning

from catalog.grid import Lattice

ZSTD_LEVEL = 3

QUALITY = (
    "no_optical",  # also what a shard that was never written reads as
    "registered",
    "abstained",  # SAR is there, but its registration cannot be trusted, so it is left out
    "no_sar",
    "cloud",
)
"""What became of a pixel: the meanings of the `quality` variable, by value."""

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
    )
]


def create_group(
    store: Store,
    lattice: Lattice,
    day: date,
    optical_bands: Sequence[str],
    sar_bands: Sequence[str],
    attrs: Mapping[str, Any],
) -> None:
    """Write a slot's metadata and coordinates where they are missing; pixels are never touched."""
    with warnings.catch_warnings():
        # Consolidated metadata is no part of the Zarr v3 specification. It saves readers on object
        # stores a request per array, and those that do not know it ignore it.
        warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
        group = zarr.open_group(store, mode="a", zarr_format=3)
        if group.metadata.consolidated_metadata is not None:
            return  # it is written last: nothing is missing
        group.attrs.put({**_group_attributes(lattice), **attrs})
        _create_coordinates(group, lattice, day)
        for name, dtype, fill, attributes in _variables(optical_bands, sar_bands):
            _create_pixels(group, name, dtype, fill, attributes, lattice)
        zarr.consolidate_metadata(store)


def _group_attributes(lattice: Lattice) -> dict[str, Any]:
    height, width = lattice.shape
    left, bottom, right, top = lattice.geobox.boundingbox.bbox
    return {
        "Conventions": "CF-1.11",
        "coordinates": "time spatial_ref",
        "zarr_conventions": GEOZARR_CONVENTIONS,
        **({"proj:code": lattice.crs_code} if lattice.crs_code else {}),
        "proj:wkt2": lattice.crs.to_wkt(),
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(lattice.transform),
        "spatial:transform_type": "affine",
        "spatial:registration": "pixel",
        "spatial:shape": [height, width],
        "spatial:bbox": [left, bottom, right, top],
    }


def _create_coordinates(group: zarr.Group, lattice: Lattice, day: date) -> None:
    axes = {axis["axis"]: axis for axis in lattice.crs.cs_to_cf()}
    x, y = lattice.centres(lattice.window)
    for name, values in (("y", y), ("x", x)):
        _create_array(group, name, values, (name,), dict(axes.get(name.upper(), {})))
    days = np.array((day - date(1970, 1, 1)).days, dtype=np.int64)
    calendar = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    _create_array(group, "time", days, (), {"standard_name": "time", **calendar})
    transform = " ".join(str(value) for value in lattice.geobox.affine.to_gdal())
    wkt = lattice.crs.to_wkt()
    grid_mapping = {**lattice.crs.to_cf(), "spatial_ref": wkt, "GeoTransform": transform}
    _create_array(group, "spatial_ref", np.array(0, dtype=np.int64), (), grid_mapping)


def _variables(
    optical_bands: Sequence[str], sar_bands: Sequence[str]
) -> list[tuple[str, str, Any, dict[str, Any]]]:
    """Name, dtype, fill value and CF attributes of every pixel variable."""
    described = {band: {"long_name": f"optical {band}"} for band in optical_bands}
    described |= {
        band: {"long_name": f"SAR {band.upper()} registered to the optical scene"}
        for band in sar_bands
    }
    towards = "SAR position minus optical position, as applied"
    described["dx"] = {"long_name": f"displacement along x, {towards}", "units": "pixel"}
    described["dy"] = {"long_name": f"displacement along y, {towards}", "units": "pixel"}
    described["expected_error"] = {
        "long_name": "expected error of the registration",
        "units": "pixel",
    }
    quality = {
        "long_name": "what became of the pixel",
        "flag_values": list(range(len(QUALITY))),
        "flag_meanings": " ".join(QUALITY),
    }
    floats = [(name, "float32", float("nan"), attrs) for name, attrs in described.items()]
    return [*floats, ("quality", "uint8", QUALITY.index("no_optical"), quality)]


def _create_pixels(
    group: zarr.Group,
    name: str,
    dtype: str,
    fill: Any,
    attributes: dict[str, Any],
    lattice: Lattice,
) -> None:
    # An earlier attempt, or another run of the same request, wrote the same metadata.
    with contextlib.suppress(ContainsArrayError):
        group.create_array(
            name,
            shape=lattice.shape,
            dtype=dtype,
            shards=(lattice.shard_px, lattice.shard_px),
            chunks=(lattice.chunk_px, lattice.chunk_px),
            compressors=ZstdCodec(level=ZSTD_LEVEL),
            fill_value=fill,
            dimension_names=("y", "x"),
            attributes={**attributes, "grid_mapping": "spatial_ref"},
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
