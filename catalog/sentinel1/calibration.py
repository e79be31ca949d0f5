"""Radiometry of radar images: digital numbers to sigma nought.

Everything inside the program is linear power: averages and interpolation are right there, and not
in decibels. The engine takes either (`tar_engine.network.msfl.normalise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.archives.providers import Access
from catalog.errors import shown
from catalog.sentinel1.annotation import AnnotationError, xml_of


@dataclass(frozen=True)
class SigmaTable:
    """The look-up table A of a calibration annotation: sigma0 = DN^2 / A^2."""

    lines: NDArray[np.float64]
    """(V,) lines of the image, rising."""
    pixels: tuple[NDArray[np.float64], ...]
    """Of each line, the pixels for which there is a value, rising."""
    values: tuple[NDArray[np.float64], ...]

    def at(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float64]:
        """A at every crossing of rows (h,) and columns (w,), bilinear, the edges kept: (h, w)."""
        along = np.stack(
            [np.interp(columns, *pair) for pair in zip(self.pixels, self.values, strict=True)]
        )
        if len(self.lines) == 1:
            return np.repeat(along, len(rows), axis=0)
        above = np.clip(np.searchsorted(self.lines, rows) - 1, 0, len(self.lines) - 2)
        step = (rows - self.lines[above]) / (self.lines[above + 1] - self.lines[above])
        weight = np.clip(step, 0.0, 1.0)[:, None]
        table: NDArray[np.float64] = along[above] * (1 - weight) + along[above + 1] * weight
        return table


@lru_cache(maxsize=16)
def sigma_table(href: str, access: Access) -> SigmaTable:
    """The sigma nought table of a calibration annotation. Raises AnnotationError."""
    lines, pixels, values = [], [], []
    for vector in xml_of(href, access).iterfind(".//calibrationVectorList/calibrationVector"):
        try:
            line = float(vector.findtext("line", ""))
            pixel, value = (
                np.array((vector.findtext(name) or "").split(), dtype=np.float64)
                for name in ("pixel", "sigmaNought")
            )
        except ValueError as error:
            raise AnnotationError(f"{shown(href)}: a calibration vector is {error}") from error
        sound = 0 < pixel.size == value.size and (np.diff(pixel) > 0).all() and (value > 0).all()
        if not sound:
            raise AnnotationError(
                f"{shown(href)}: the calibration vector of line {line:g} has {pixel.size} rising "
                f"pixels and {value.size} positive values of sigmaNought, which should be as many"
            )
        lines.append(line)
        pixels.append(pixel)
        values.append(value)
    if not lines or (np.diff(lines) <= 0).any():
        raise AnnotationError(f"{shown(href)} has no calibration vectors in the order of lines")
    return SigmaTable(np.array(lines), tuple(pixels), tuple(values))
