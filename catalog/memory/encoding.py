"""How a memory's numbers are packed into few bits, and its variables declared once.

Displacements are kept to 0.01 px and reach 327 px, further than any is looked for; errors to
0.005 px. The reference image is in decibels, 1 dB a step:
less than the speckle that is left, and half of the bytes of 0.4 dB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from catalog.errors import ArgumentError

DAY, NODES = ("day",), ("node_y", "node_x")
COORDINATES = (*DAY, "generation", *NODES)

LOWEST_DB, DB_PER_CODE, NO_DATA_CODE = -60.0, 1.0, 0
HIGHEST_DB = LOWEST_DB + DB_PER_CODE * 254  # of code 255


@dataclass(frozen=True)
class Packed:
    """A variable on nodes or days: what it is, and the whole numbers it is kept as."""

    dims: tuple[str, ...]
    long_name: str
    dtype: str
    scale: float | None = None
    """One step, in pixels; None keeps numbers as they are."""
    fill: float | None = None
    """What is kept where nothing is known; None where something always is."""
    least: float = -np.inf
    """Pixels; what is less is kept as that."""

    @property
    def attributes(self) -> dict[str, Any]:
        """CF attributes, those that unpack it included."""
        # UDUNITS has no pixel, so to CF these are plain numbers.
        told: dict[str, Any] = {"long_name": self.long_name, "units": "1"}
        if self.scale is not None:
            told["scale_factor"] = self.scale
        if self.fill is not None and np.isfinite(self.fill):  # NaN needs no telling
            told["_FillValue"] = int(self.fill)
        if NODES[0] in self.dims:
            told["grid_mapping"] = "spatial_ref"
        return told


def _displacement(dims: tuple[str, ...], what: str) -> Packed:
    long_name = f"{what}, pixels: SAR position minus optical position"
    return Packed(dims, long_name, "int16", scale=0.01, fill=-32768)


def _error(dims: tuple[str, ...], what: str) -> Packed:
    long_name = f"{what}, one sigma of its length, pixels"
    return Packed(dims, long_name, "uint16", scale=0.005, fill=0, least=0.005)


def _shift(what: str) -> Packed:
    return Packed(DAY, f"{what} beyond the ground, pixels", "float64", fill=np.nan)


VARIABLES: Mapping[str, Packed] = {
    "dx": _displacement(NODES, "displacement of the ground along x"),
    "dy": _displacement(NODES, "displacement of the ground along y"),
    "error": _error(NODES, "expected error of the displacement of the ground"),
    "count": Packed(NODES, "number of days that know the node", "uint16"),
    "day_dx": _displacement(DAY + NODES, "displacement along x that one day alone found"),
    "day_dy": _displacement(DAY + NODES, "displacement along y that one day alone found"),
    "day_error": _error(DAY + NODES, "expected error of what one day alone found"),
    "remainder_dx": _shift("what the pass of that day has along x"),
    "remainder_dy": _shift("what the pass of that day has along y"),
    "optical_dx": _shift("what the optical image of that day has along x"),
    "optical_dy": _shift("what the optical image of that day has along y"),
}
"""The variables of a field. NaN is where nothing is known."""


def pack(field: xr.Dataset) -> dict[str, NDArray[Any]]:
    """The variables of a field as they are stored, by name.

    Raises ArgumentError for other variables or dimensions than those of `VARIABLES`, a missing
    coordinate, no day at all, and a number that cannot be kept.
    """
    if set(field.data_vars) != set(VARIABLES):
        raise ArgumentError(
            f"field: a memory holds {', '.join(VARIABLES)}, not {', '.join(map(str, field))}",
            argument="field",
        )
    lacking = [name for name in COORDINATES if name not in field.coords]
    if lacking or not field.sizes["day"]:
        raise ArgumentError(
            f"field: it has no {', '.join(lacking) or 'day'}, and needs the coordinates "
            f"{', '.join(COORDINATES)} with at least one day",
            argument="field",
        )
    return {name: _pack(name, field[name], kind) for name, kind in VARIABLES.items()}


def _pack(name: str, variable: xr.DataArray, kind: Packed) -> NDArray[Any]:
    if variable.dims != kind.dims:
        raise ArgumentError(
            f"field: {name} has the dimensions {variable.dims}, not {kind.dims}", argument="field"
        )
    values = np.asarray(variable.values)
    if np.dtype(kind.dtype).kind == "f":
        return values.astype(kind.dtype)
    known = ~np.isnan(values)
    codes = np.round(np.maximum(np.where(known, values, 0), kind.least) / (kind.scale or 1))
    largest = np.iinfo(kind.dtype).max
    lowest = -largest if np.iinfo(kind.dtype).min else 0
    if (codes[known] < lowest).any() or (codes[known] > largest).any():
        raise ArgumentError(
            f"field: {name} reaches from {values[known].min():g} to {values[known].max():g}, which "
            "a memory cannot keep",
            argument="field",
        )
    return np.where(known, codes, kind.fill or 0).astype(kind.dtype)


def codes_from_db(decibels: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Decibels as a reference keeps them: uint8, 1 for -60 dB or less, 1 dB a step, 0 for NaN.

    It reaches 194 dB, so numbers that are not calibrated fit as well.
    """
    known = np.nan_to_num(decibels.astype(np.float64), nan=LOWEST_DB)
    steps = (np.clip(known, LOWEST_DB, HIGHEST_DB) - LOWEST_DB) / DB_PER_CODE
    codes = 1 + np.round(steps).astype(np.uint8)
    return np.where(np.isnan(decibels), np.uint8(NO_DATA_CODE), codes)


def db_from_codes(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What `codes_from_db` kept: float32 decibels, NaN for no data."""
    decibels = LOWEST_DB + DB_PER_CODE * (codes.astype(np.float64) - 1)
    return np.where(codes == NO_DATA_CODE, np.nan, decibels).astype(np.float32)
