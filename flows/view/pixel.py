"""One place through the days of a region, from its cube; from the days where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import catalog
from catalog import objects
from catalog.cube.open import open_undivided_cube
from catalog.errors import ArgumentError, StoreError
from flows.view.days import Day, Published

MOST_DAYS = 64
"""At once. A chunk of every day and variable is decoded for it."""


def read_series(
    published: Published,
    day: Day,
    lonlat: tuple[float, float],
    variables: tuple[str, ...],
    span: tuple[str, str],
) -> dict[str, Any]:
    """The lattice pixel of `day` at a longitude and latitude, on every day of a span.

    `variables` are those of `day`; `span` is the first and last day, both included. Returns
    `days` and, by variable, as many numbers, None where nothing is known.

    Raises ArgumentError for a place beyond the day's pixels, a variable that is not there or more
    days than `MOST_DAYS`, StoreError where a day cannot be read.
    """
    level = day.level(1)
    if unknown := [name for name in variables if name not in level.pixels]:
        there = ", ".join(map(str, level.pixels.data_vars))
        raise ArgumentError(
            f"variables: there is no {', '.join(unknown)}; there are {there}", argument="variables"
        )
    x, y = level.lattice.px_from_lonlat(np.array(lonlat).reshape(2, 1)).ravel()
    column, row = round(x), round(y)
    height, width = level.lattice.shape
    if not (0 <= row < height and 0 <= column < width):
        raise ArgumentError("lon, lat: that place lies outside the region", argument="lon")
    slots = [s for s in published.slots(day.region) if span[0] <= s <= span[1]]
    if not 0 < len(slots) <= MOST_DAYS:
        raise ArgumentError(
            f"first, last: {len(slots)} days; 1 to {MOST_DAYS} at once", argument="first"
        )
    url = published.region_url(day.region)
    a, _, c, _, e, f = level.lattice.transform
    place = {"x": c + a * (column + 0.5), "y": f + e * (row + 0.5)}
    with objects.store_errors("read a pixel of", url):
        cube = open_undivided_cube(url)
        if cube is None or any(name not in cube for name in variables):
            cube = catalog.open_mosaic(url, time=(slots[0], slots[-1]), bands=variables)
        series = cube[list(variables)].sel(time=slice(slots[0], slots[-1]))
        try:
            series = series.sel(place, method="nearest", tolerance=0.01 * a).load()
        except KeyError as error:
            raise StoreError(
                f"{day.slot} and the cube of {url} are on different grids; "
                "tar-pipeline cube makes it anew",
                url=url,
            ) from error
    return {
        "days": [str(each)[:10] for each in series.time.values],
        "values": {name: _numbers(series[name]) for name in variables},
        "row": row,
        "column": column,
    }


def _numbers(values: xr.DataArray) -> list[float | None]:
    return [
        float(f"{each:.6g}") if np.isfinite(each) else None
        for each in values.values.astype(np.float64)
    ]
