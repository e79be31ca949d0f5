"""What the pixels of an optical scene show, as told beside it, and what of it hides the ground."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from catalog.archives.items import Mask, Scene
from catalog.grid import Lattice, Window
from catalog.pixels.rasters import read_asset

CLASSES = (
    "unknown",  # nothing tells: no mask, or no scene
    "ground",
    "water",
    "snow",
    "shadow",
    "cirrus",
    "likely_cloud",
    "cloud",
    "broken",
)
"""What an optical pixel shows, by value.

Those after snow hide the ground, each more than the one before."""

CLASS_ATTRIBUTES: Mapping[str, Any] = {
    "long_name": "what the optical pixel shows",
    "flag_values": list(range(len(CLASSES))),
    "flag_meanings": " ".join(CLASSES),
}
"""CF attributes of a variable of classes, of a lazy image as of a slot."""

UNKNOWN, GROUND, WATER, SNOW, SHADOW, CIRRUS, LIKELY_CLOUD, CLOUD, BROKEN = range(len(CLASSES))
CLOUDY = (CIRRUS, LIKELY_CLOUD, CLOUD)
CLEAR = 0

# Sentinel-2's scene classes. Dark areas, vegetation, soil and what is unclassified are ground;
# class 0 is where there is no scene, which the bands say themselves.
BY_SCENE_CLASS = {
    1: BROKEN, 2: GROUND, 3: SHADOW, 4: GROUND, 5: GROUND, 6: WATER, 7: GROUND,
    8: LIKELY_CLOUD, 9: CLOUD, 10: CIRRUS, 11: SNOW,
}  # fmt: skip
# From these percentages on a pixel counts as such; so Sentinel-2's own classes are made.
LIKELY_CLOUD_PERCENT, CLOUD_PERCENT = 35, 65
OUTSIDE = 255  # means nothing in either


def hiding(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How much hides the ground of pixels of these classes: CLEAR, or the more the larger."""
    return np.where(classes > SNOW, classes, np.uint8(CLEAR))


def optical_classes(scene: Scene, lattice: Lattice, window: Window) -> NDArray[np.uint8]:
    """What each pixel of a window shows: values of CLASSES as uint8 (H, W).

    Everything is unknown in a scene without a mask, and outside of the mask. The nearest pixel of
    the mask decides. Raises SceneReadError.
    """
    if scene.mask is None:
        return np.zeros(window.shape, np.uint8)
    read = partial(_on_window, lattice=lattice, window=window)
    stored = read_asset(scene, scene.mask.asset, read)
    return _meanings(scene.mask)[stored]


def _meanings(mask: Mask) -> NDArray[np.uint8]:
    """The class of every value of a mask, 0 to 255."""
    meanings = np.full(256, UNKNOWN, np.uint8)
    if mask.kind == "scene classes":
        for value, meaning in BY_SCENE_CLASS.items():
            meanings[value] = meaning
    else:
        meanings[:LIKELY_CLOUD_PERCENT] = GROUND
        meanings[LIKELY_CLOUD_PERCENT : CLOUD_PERCENT + 1] = LIKELY_CLOUD
        meanings[CLOUD_PERCENT + 1 : 101] = CLOUD
    return meanings


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
        nodata=OUTSIDE,
    ) as warped:
        values: NDArray[np.uint8] = warped.read(1)
    return values
