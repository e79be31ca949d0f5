"""Opening the cube of a region: all published days along time, at the cost of one."""

from __future__ import annotations

import os

import numpy as np
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import xarray as xr

from catalog import objects
from catalog.cube.repository import BRANCH, cube_url, open_to_read
from catalog.errors import StoreError


def open_cube(url: str | os.PathLike[str]) -> xr.Dataset:
    """The published mosaics of a region, `{store}/{region}`, from its cube: (time, y, x), lazy.

    What it costs to open does not grow with the days, so it is for many of them. Days, variables,
    units and numbers are those of `catalog.open_mosaic`, which opens each day and can cut them. But
    the `sar_scene` and `optical_scene` of a pixel count the scenes of its day: `sar_time[time,
    number]` is when, `sar_id` which; there are no overviews; days on another grid than the latest
    are not there, and the attribute `days_on_other_grids` names them. What was opened stays as it
    was when days come or are made again.

    Raises StoreError where the region has no cube, where its store was moved or copied since the
    cube was written, or when it cannot be opened.
    """
    region_url = os.fspath(url).rstrip("/")
    repository = open_to_read(region_url)
    if repository is None:
        raise StoreError(
            f"{cube_url(region_url)}: there is no cube, or one of another place; "
            "`tar-pipeline cube STORE` makes it",
            url=region_url,
        )
    with objects.store_errors("open", cube_url(region_url)):
        store = repository.readonly_session(BRANCH).store
        cube: xr.Dataset = xr.open_zarr(store, consolidated=False, decode_coords="all")
        for name, variable in cube.data_vars.items():
            if "scale_factor" in variable.encoding:  # which xarray makes double precision
                cube[name] = variable.astype(np.float32)
        return cube


def open_undivided_cube(url: str) -> xr.Dataset | None:
    """As `open_cube`, without Dask, for small windows; None where a region has no cube here.

    Raises StoreError.
    """
    repository = open_to_read(url)
    if repository is None:
        return None
    with objects.store_errors("open", cube_url(url)):
        store = repository.readonly_session(BRANCH).store
        cube: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=None)
        return cube if "time" in cube.dims else None
