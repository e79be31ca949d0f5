"""What a slot holds per pixel: its variables, their types, fills and attributes.

They are declared here and nowhere else. Floats are what is measured, NaN where nothing is known.
Whole numbers are CF flags, and each fill is the flag of a pixel that was never written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import xarray as xr

from catalog.pixels.masks import CLASS_ATTRIBUTES, UNKNOWN

QUALITY = (
    "no_optical",  # also what a shard that was never written reads as
    "registered",
    "abstained",  # SAR is there, but its registration cannot be trusted, so it is left out
    "no_sar",
    "cloud",
    "registered_from_memory",  # by what earlier passes of its geometry told, and by nothing else
    "registered_radar_to_radar",  # to the reference SAR image of its geometry
)
"""What became of a pixel: the meanings of the `quality` variable, by value."""

NO_OPTICAL, REGISTERED, ABSTAINED, NO_SAR, CLOUD = range(5)
REGISTERED_FROM_MEMORY, REGISTERED_RADAR_TO_RADAR = range(5, len(QUALITY))

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

NOT_CF_WORD = re.compile(r"[^A-Za-z0-9_.+@-]+")


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

    @property
    def scenes(self) -> dict[str, Mapping[str, datetime]]:
        """Ids and sensing times of the scenes that pixels count, by sensor."""
        return {"sar": self.sar_scenes, "optical": self.optical_scenes}

    def empty(self, shape: tuple[int, int]) -> xr.Dataset:
        """A slot, or a window of one, in which nothing is written: dims (y, x) of `shape`.

        Every variable has its type, its CF attributes and its fill, which stands in its encoding
        as `_FillValue` too. It is one number seen everywhere and takes no memory; a deep copy does
        and can be written to.
        """
        return xr.Dataset(
            {
                name: (
                    DIMENSIONS,
                    np.broadcast_to(fill := FLAG_FILLS.get(name, NOTHING_MEASURED), shape),
                    attributes,
                    {"_FillValue": fill},
                )
                for name, attributes in self._attributes().items()
            }
        )

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
    }


def _displacement_attributes(axis: str) -> dict[str, Any]:
    # UDUNITS has no pixel, so to CF this is a plain number.
    towards = "in pixels: SAR position minus optical position, as applied"
    return {"long_name": f"displacement along {axis} {towards}", "units": "1"}


def _flags(meanings: Sequence[str]) -> dict[str, Any]:
    """CF attributes of whole numbers that mean something, from 0 on."""
    return {"flag_values": list(range(len(meanings))), "flag_meanings": " ".join(meanings)}
