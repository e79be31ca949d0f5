"""The scenes of a region as one image on its lattice: a window of it now, or all of it lazily.

Which scene shows a pixel is decided in `clearest`, how a scene gets to the lattice in `scene`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
import rioxarray  # noqa: F401  (gives xarray objects their .rio accessor)
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from catalog.archives.items import Scene
from catalog.grid import Lattice, Window
from catalog.pixels.clearest import NONE_SHOWN, Composite, show_clearest
from catalog.pixels.masks import CLASS_ATTRIBUTES
from catalog.pixels.scene import assets_of, read_scene


@dataclass(frozen=True)
class _Source:
    """What the blocks are read from. Their tasks refer to it, so that a worker gets it once."""

    scenes: tuple[Scene, ...]
    lattice: Lattice
    bands: tuple[str, ...]


def read_composite(
    scenes: Sequence[Scene], lattice: Lattice, window: Window, bands: Sequence[str]
) -> Composite:
    """The scenes composited on a window, which may leave the lattice, in one read of each.

    This is what tasks on workers read, and each block of the lazy `composite`: a graph of Dask's
    inside a task would take some milliseconds for every window, and give nothing.

    Raises SceneReadError for the first scene that cannot be read.
    """
    return show_clearest(scenes, lattice, window, bands, read_scene)


def composite(scenes: Sequence[Scene], lattice: Lattice, bands: Sequence[str]) -> xr.Dataset:
    """The scenes as one image on the lattice, lazily: each pixel whole from the scene it shows.

    Variables have dims (y, x): every band, float32 in physical values, NaN for no data; `scene`,
    int16, the index of the scene shown in its attribute `scenes`, -1 for none; and where a scene
    has a mask `optical_class`, uint8, what the pixel shows. Coordinates are pixel centres in the
    lattice's CRS, which is attached. Cut windows with `isel` or `sel`.

    Chunks are the lattice's shards; the variables of a chunk come of one `read_composite`. Where a
    scene lies on the lattice's pixels they are the file's to the bit; from other grids resampling
    is bilinear, and a window read at once agrees with chunks as closely as the way between the
    grids is approximated, a hundredth of a pixel.

    Raises ArgumentError for a band that a scene lacks. Computing raises SceneReadError.
    """
    for scene in scenes:
        assets_of(scene, bands)  # an unknown band is an error now, not when it is computed
    height, width = lattice.shape
    blocks = da.blockwise(
        _read_block,
        "yx",
        da.arange(height, chunks=lattice.shard_px),
        "y",
        da.arange(width, chunks=lattice.shard_px),
        "x",
        source=delayed(_Source(tuple(scenes), lattice, tuple(bands))),
        dtype=object,
        meta=np.empty((0, 0), object),
    )

    def variable(name: str, dtype: str, **attributes: Any) -> xr.Variable:
        pixels = da.map_blocks(itemgetter(name), blocks, meta=np.empty((0, 0), dtype))
        return xr.Variable(("y", "x"), pixels, attributes)

    variables = {band: variable(band, "float32") for band in bands}
    variables["scene"] = variable(
        "scene",
        "int16",
        long_name=f"index of the scene that the pixel shows, {NONE_SHOWN} for none",
        scenes=[scene.id for scene in scenes],
    )
    if any(scene.mask is not None for scene in scenes):
        variables["optical_class"] = variable("optical_class", "uint8", **CLASS_ATTRIBUTES)
    x, y = lattice.centres(lattice.window)
    located: xr.Dataset = xr.Dataset(variables, {"y": y, "x": x}).rio.write_crs(lattice.crs)
    return located


def _read_block(
    rows: NDArray[np.int64], columns: NDArray[np.int64], source: _Source
) -> dict[str, NDArray[np.generic]]:
    """Every variable of the image on these rows and columns of the lattice."""
    window = Window(int(rows[0]), int(columns[0]), len(rows), len(columns))
    read = read_composite(source.scenes, source.lattice, window, source.bands)
    return {
        **dict(zip(source.bands, read.values, strict=True)),
        "scene": read.scene,
        "optical_class": read.optical_class,
    }
