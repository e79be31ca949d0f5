"""What hides the ground in an optical scene: clouds, shadows, broken pixels, as told beside it."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from catalog.grid import Lattice, Window
from catalog.items import Mask, Scene
from catalog.rasters import attempt

CLEAR, SHADOW, CIRRUS, LIKELY_CLOUD, CLOUD, BROKEN = range(6)
"""How much hides the ground of a pixel; of two scenes the one with less shows it."""

CLOUDY = (CIRRUS, LIKELY_CLOUD, CLOUD)

# Sentinel-2's scene classes. Dark areas, vegetation, soil, water, unclassified and snow are ground;
# class 0 is where there is no scene, which the bands say themselves.
BY_SCENE_CLASS = {1: BROKEN, 3: SHADOW, 8: LIKELY_CLOUD, 9: CLOUD, 10: CIRRUS}
# From these percentages on a pixel counts as such; so Sentinel-2's own classes are made.
LIKELY_CLOUD_PERCENT, CLOUD_PERCENT = 35, 65


def hidden(scene: Scene, lattice: Lattice, window: Window) -> NDArray[np.uint8]:
    """What hides each pixel of a window: CLEAR, SHADOW, … as uint8 (H, W).

    Everything is clear in a scene without a mask, and outside of the mask. The nearest pixel of the
    mask decides. Raises SceneReadError.
    """
    if scene.mask is None:
        return np.zeros(window.shape, np.uint8)
    read = partial(_on_window, lattice=lattice, window=window)
    stored = attempt(scene, scene.mask.asset, read)
    return _levels(scene.mask)[stored]


def _levels(mask: Mask) -> NDArray[np.uint8]:
    """What every value of a mask, 0 to 255, means."""
    levels = np.full(256, CLEAR, np.uint8)
    if mask.kind == "scene classes":
        for value, level in BY_SCENE_CLASS.items():
            levels[value] = level
    else:
        levels[LIKELY_CLOUD_PERCENT : CLOUD_PERCENT + 1] = LIKELY_CLOUD
        levels[CLOUD_PERCENT + 1 : 101] = CLOUD
    return levels


def _on_window(source: DatasetReader, lattice: Lattice, window: Window) -> NDArray[np.uint8]:
    geobox = lattice.window_geobox(window)
    assert geobox.crs is not None
    with WarpedVRT(
        source,
        crs=geobox.crs.to_wkt(),
        transform=geobox.affine,
        height=geobox.shape[0],
        width=geobox.shape[1],
        resampling=Resampling.nearest,
        dtype="uint8",
        nodata=0,
    ) as warped:
        values: NDArray[np.uint8] = warped.read(1)
    return values
