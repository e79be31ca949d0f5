"""Radiometry of radar images: digital numbers to sigma nought.

Everything inside the program is linear power: averages and interpolation are right there, and not
in decibels. The engine takes either (`tar_engine.network.msfl.normalise`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from catalog.archives.providers import Access
from catalog.errors import shown
from catalog.sentinel1.annotation import AnnotationError, xml_of


@dataclass(frozen=True)
class LookUpTable:
    """Values of an annotation at some pixels of some lines."""

    lines: NDArray[np.float64]
    """(V,) lines of the image, rising."""
    pixels: tuple[NDArray[np.float64], ...]
    """Of each line, the pixels for which there is a value, rising."""
    values: tuple[NDArray[np.float64], ...]

    def at(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float64]:
        """Values at every crossing of rows (h,) and columns (w,): bilinear, edges kept, (h, w)."""
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


@lru_cache(maxsize=64)
def sigma_table(href: str, access: Access) -> LookUpTable:
    """The table A of a calibration annotation, sigma0 = DN^2 / A^2. Raises AnnotationError."""
    vectors = xml_of(href, access).iterfind(".//calibrationVectorList/calibrationVector")
    table = table_of(vectors, "sigmaNought", href)
    if any((values <= 0).any() for values in table.values):
        raise AnnotationError(f"{shown(href)}: its sigmaNought is not positive everywhere")
    return table


def table_of(vectors: Iterable[Element], name: str, href: str) -> LookUpTable:
    """The values called `name` of vectors with lines and pixels. Raises AnnotationError."""
    lines, pixels, values = [], [], []
    for vector in vectors:
        try:
            line = float(vector.findtext("line", ""))
        except ValueError as error:
            raise AnnotationError(f"{shown(href)}: a vector of {name} is {error}") from error
        which = f"the vector of line {line:g}"
        pixel, value = values_along(vector, "pixel", name, href, which, f"values of {name}")
        lines.append(line)
        pixels.append(pixel)
        values.append(value)
    if not lines or (np.diff(lines) <= 0).any():
        raise AnnotationError(f"{shown(href)} has no vectors of {name} in the order of lines")
    return LookUpTable(np.array(lines), tuple(pixels), tuple(values))


def values_along(
    vector: Element, along: str, name: str, href: str, which: str, words: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lines or pixels of a vector and as many values called `name`, both (N,).

    Raises AnnotationError, which says `which` vector it is, and calls the values `words`.
    """
    try:
        places, values = (
            np.array((vector.findtext(each) or "").split(), dtype=np.float64)
            for each in (along, name)
        )
    except ValueError as error:
        raise AnnotationError(f"{shown(href)}: a vector of {name} is {error}") from error
    sound = 0 < places.size == values.size and (np.diff(places) > 0).all() and (values >= 0).all()
    if not sound:
        raise AnnotationError(
            f"{shown(href)}: {which} has {places.size} rising {along}s and {values.size} {words} "
            "from zero up, which should be as many"
        )
    return places, values
