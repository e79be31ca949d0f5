"""What a slot holds per pixel: its variables, their types, fills and attributes, and their packing.

They are declared here and nowhere else. Floats are what is measured, NaN where nothing is known.
Whole numbers are CF flags, and each fill is the flag of a pixel that was never written.

What is measured is stored no finer than it is known. Optical bands are the whole numbers of their
files, displacements whole numbers of 1/64 px, as CF packs them; xarray, rioxarray and GDAL undo
that by themselves. Backscatter stays floats, whose last bits, which are noise, are zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from catalog.archives.items import Asset
from catalog.errors import ArgumentError
from catalog.pixels.masks import CLASS_ATTRIBUTES, UNKNOWN

QUALITY = (
    "no_optical",  # also what a shard that was never written reads as
    "registered",
    "abstained",  # SAR is there, but its registration cannot be trusted, so it is left out
    "no_sar",
    "cloud",
    "registered_from_memory",  # by what earlier passes of its geometry told, and by nothing else
    "registered_radar_to_radar",  # to the reference SAR image of its geometry
    "layover_or_shadow",  # to the radar, ground shows with other ground or not at all; by the DEM
)
"""What became of a pixel: the meanings of the `quality` variable, by value."""

NO_OPTICAL, REGISTERED, ABSTAINED, NO_SAR, CLOUD = range(5)
REGISTERED_FROM_MEMORY, REGISTERED_RADAR_TO_RADAR, LAYOVER_OR_SHADOW = range(5, len(QUALITY))

SENSOR_NAMES: Mapping[str, str] = {"sar": "SAR", "optical": "optical"}
"""The sensors whose scenes pixels count, and how people write them.

The pixels are `{sensor}_scene`; `{sensor}_time` along `{sensor}_index` is when each was taken.
"""

NO_SCENE = 0
"""`{sensor}_scene` where none is shown, and the entry of `{sensor}_time` that is not a time."""

DIMENSIONS = ("y", "x")
NOTHING_MEASURED: np.generic = np.float32(np.nan)
FLAG_FILLS: Mapping[str, np.generic] = {
    "quality": np.uint8(NO_OPTICAL),
    **{f"{sensor}_scene": np.uint16(NO_SCENE) for sensor in SENSOR_NAMES},
    "optical_class": np.uint8(UNKNOWN),
}
"""Fills of the flags; their types are those of the variables."""

FEW_LEVELS_PARTS = 16
"""Parts of a level of 8-bit imagery that resampling may fall between."""

ROUNDED_BITS, ROUNDED_MULTIPLE = 7, 1 / 32
"""Backscatter keeps 7 bits after the first one, or is a multiple of 1/32, whichever is finer.

As power that is 0.017 dB at most, as decibels 0.016 dB: whoever measures either loses nothing.
"""

NOT_CF_WORD = re.compile(r"[^A-Za-z0-9_.+@-]+")


@dataclass(frozen=True)
class Packing:
    """Whole numbers for floats, as CF has it: value = stored * scale + offset.

    The lowest number of the type is no data.
    """

    dtype: str
    scale: float
    offset: float = 0.0

    @property
    def fill(self) -> int:
        """What stands for no data."""
        return int(np.iinfo(self.dtype).min)

    @property
    def attributes(self) -> dict[str, Any]:
        """As CF names them, and xarray's encoding."""
        offset = {"add_offset": self.offset} if self.offset else {}
        return {"_FillValue": self.fill, "scale_factor": self.scale, **offset}

    @classmethod
    def of(cls, dtype: np.dtype[Any], attributes: Mapping[str, Any]) -> Packing | None:
        """The packing of a stored variable; None where it is stored as it is."""
        if "scale_factor" not in attributes:
            return None
        return cls(str(dtype), attributes["scale_factor"], attributes.get("add_offset", 0.0))

    def pack(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Rounded to the nearest number. Raises ArgumentError for values that none stands for."""
        limits = np.iinfo(self.dtype)
        known = np.isfinite(values)
        whole = np.rint((np.where(known, values, 0.0) - self.offset) / self.scale)
        beyond = known & ((whole <= limits.min) | (whole > limits.max))
        if beyond.any():
            raise ArgumentError(
                f"{values[beyond][0]} cannot be stored as {self.dtype} in steps of {self.scale}",
                argument="pixels",
            )
        return np.where(known, whole, limits.min).astype(self.dtype)

    def unpack(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """What the numbers stand for, NaN for no data."""
        values = stored * self.scale + self.offset
        return np.where(stored == self.fill, np.nan, values).astype(np.float32)


DISPLACEMENT = Packing("int16", 1 / 64)
"""Pixels: to 0.008, and as far as 511."""


@dataclass(frozen=True)
class SlotSchema:
    """What determines the variables of a slot."""

    optical_bands: tuple[str, ...]
    sar_bands: tuple[str, ...]
    sar_scenes: Mapping[str, datetime]
    """Ids and sensing times, in the order in which `sar_scene` counts them from 1."""
    optical_scenes: Mapping[str, datetime]
    """The same for `optical_scene`."""
    classes: bool = False
    """Whether the slot tells what its optical pixels show."""
    optical_packings: Mapping[str, Packing] = field(default_factory=dict)
    """Of the bands that are whole numbers in their files; the others stay floats."""

    @property
    def scenes(self) -> dict[str, Mapping[str, datetime]]:
        """Ids and sensing times of the scenes that pixels count, by sensor."""
        return {"sar": self.sar_scenes, "optical": self.optical_scenes}

    def empty(self, shape: tuple[int, int]) -> xr.Dataset:
        """A slot, or a window of one, in which nothing is written: dims (y, x) of `shape`.

        Every variable has its type, its CF attributes and its fill, and in its encoding how it is
        stored: `dtype`, `_FillValue`, and `scale_factor` and `add_offset` of what is packed. It is
        one number seen everywhere and takes no memory; a deep copy does and can be written to.
        """
        displacements = dict.fromkeys(("dx", "dy", "expected_error"), DISPLACEMENT)
        packings = {**self.optical_packings, **displacements}
        variables = {}
        for name, attributes in self._attributes().items():
            fill = FLAG_FILLS.get(name, NOTHING_MEASURED)
            encoding = {"dtype": str(fill.dtype), "_FillValue": fill}
            if name in packings:
                encoding = {"dtype": packings[name].dtype, **packings[name].attributes}
            variables[name] = (DIMENSIONS, np.broadcast_to(fill, shape), attributes, encoding)
        return xr.Dataset(variables)

    def _attributes(self) -> dict[str, dict[str, Any]]:
        """CF attributes by variable."""
        return {
            **{band: _optical_attributes(band) for band in self.optical_bands},
            **{band: _sar_attributes(band) for band in self.sar_bands},
            "dx": _displacement_attributes("x"),
            "dy": _displacement_attributes("y"),
            "expected_error": {
                "long_name": "expected error of the registration in pixels",
                "units": "1",
            },
            "quality": {
                "standard_name": "quality_flag",
                "long_name": "what became of the pixel",
                **_flags(QUALITY),
            },
            **{
                f"{sensor}_scene": scene_attributes(sensor, tuple(scenes))
                for sensor, scenes in self.scenes.items()
            },
            **({"optical_class": dict(CLASS_ATTRIBUTES)} if self.classes else {}),
        }


def optical_packing(assets: Sequence[Asset]) -> Packing | None:
    """One packing that gives back the whole numbers of all these files; None where there is none.

    0 is no data, so where it is in every file too, the numbers are the file's own. Files whose
    scales differ, or their offsets by no multiple of it, share no numbers.
    """
    files = [asset.found for asset in assets if asset.found is not None]
    types = [np.dtype(file.dtype) for file in files]
    known = len(files) == len(assets) > 0
    if not known or any(dtype.kind not in "iu" or dtype.itemsize > 2 for dtype in types):
        return None
    ranges = [np.iinfo(dtype) for dtype in types]
    steps = {
        asset.scale / FEW_LEVELS_PARTS if limits.bits == 8 else asset.scale
        for asset, limits in zip(assets, ranges, strict=True)
    }
    if len(steps) != 1 or (step := steps.pop()) <= 0:
        return None
    lows, highs = (
        [end * asset.scale + asset.offset for asset, end in zip(assets, ends, strict=True)]
        for ends in ([each.min for each in ranges], [each.max for each in ranges])
    )
    parts = np.array([(low - min(lows)) / step for low in lows])
    if not np.allclose(parts, np.rint(parts), rtol=0, atol=1e-3):
        return None
    lowest_is_none = all(
        limits.min == (file.nodata if asset.nodata is None else asset.nodata)
        for asset, file, limits in zip(assets, files, ranges, strict=True)
    )
    offset = round(min(lows) if lowest_is_none else min(lows) - step, 12)
    count = round((max(highs) - offset) / step)
    return Packing("uint16" if count <= np.iinfo(np.uint16).max else "uint32", step, offset)


def stored_values(
    values: NDArray[Any], dtype: np.dtype[Any], attributes: Mapping[str, Any]
) -> NDArray[Any]:
    """Pixels of a variable as they are stored, by the type and the attributes of what stores them.

    Raises ArgumentError for values that cannot be.
    """
    if (packing := Packing.of(dtype, attributes)) is not None:
        return packing.pack(values)
    if values.dtype.kind != "f":
        return np.ascontiguousarray(values)
    if "rounded_bits" in attributes:
        values = _rounded(values)
    # One bit pattern for every NaN: chunks of nothing else are not stored, and read as the fill.
    return np.where(np.isnan(values), np.array(np.nan, values.dtype), values)


def measured_values(
    stored: NDArray[Any], dtype: np.dtype[Any], attributes: Mapping[str, Any]
) -> NDArray[Any]:
    """Pixels of a variable as they were before `stored_values`, to the precision it keeps."""
    packing = Packing.of(dtype, attributes)
    return stored if packing is None else packing.unpack(stored)


def _rounded(values: NDArray[Any]) -> NDArray[Any]:
    _, exponent = np.frexp(values)  # of a mantissa from a half to one
    coarsest = round(np.log2(ROUNDED_MULTIPLE))
    step = np.ldexp(values.dtype.type(1), np.clip(exponent - 1 - ROUNDED_BITS, -100, coarsest))
    rounded: NDArray[Any] = np.rint(values / step) * step
    return rounded


def is_flag(values: np.ndarray | xr.DataArray) -> bool:
    """Whether values are flags, of which there are no means."""
    return values.dtype.kind != "f"


def scene_attributes(sensor: str, ids: Sequence[str]) -> dict[str, Any]:
    """CF attributes of `{sensor}_scene`, which counts these ids from 1."""
    # CF separates meanings by blanks and allows them few characters.
    meanings = ["none", *(NOT_CF_WORD.sub("_", each) for each in ids)]
    when = f"{sensor}_time[{sensor}_scene] is when it was taken"
    return {
        "long_name": f"{SENSOR_NAMES[sensor]} scene that the pixel shows; {when}",
        **_flags(meanings),
    }


def _optical_attributes(band: str) -> dict[str, Any]:
    return {
        "long_name": f"optical {band}",
        "units": "1",
        "ancillary_variables": "quality optical_scene",
    }


def _sar_attributes(band: str) -> dict[str, Any]:
    return {
        "long_name": f"SAR {band.upper()} registered to the optical scene",
        "units": "1",
        "ancillary_variables": "expected_error quality sar_scene",
        "rounded_bits": ROUNDED_BITS,
        "rounded_multiple": ROUNDED_MULTIPLE,
    }


def _displacement_attributes(axis: str) -> dict[str, Any]:
    # UDUNITS has no pixel, so to CF this is a plain number.
    towards = "in pixels: SAR position minus optical position, as applied"
    return {"long_name": f"displacement along {axis} {towards}", "units": "1"}


def _flags(meanings: Sequence[str]) -> dict[str, Any]:
    """CF attributes of whole numbers that mean something, from 0 on."""
    return {"flag_values": list(range(len(meanings))), "flag_meanings": " ".join(meanings)}
