"""Which scene shows a pixel: the one rule, for matching, the mosaic, the pictures and the terrain.

A scene can show a pixel where all asked bands have data. Of those that can, the one shows it whose
mask says that the ground is hidden least (`masks.hiding`); of equals, the first in the order given.
A scene without a mask counts as clear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalog.archives.items import Scene
from catalog.grid import Lattice, Window
from catalog.pixels.masks import CLEAR, UNKNOWN, hiding, optical_classes

NONE_SHOWN = -1  # where no scene has data
NOTHING_SHOWN = 255  # hides more than any cloud

ReadScene = Callable[[Scene, Lattice, Window, Sequence[str]], NDArray[np.float32] | None]
"""`scene.read_scene`, which itself needs the rule, for terrain. What it returns is changed."""


@dataclass(frozen=True)
class Composite:
    """What scenes show together on a window, in memory."""

    values: NDArray[np.float32]
    """(bands, H, W), physical; NaN in all bands where no scene has data."""
    scene: NDArray[np.int16]
    """(H, W): index of the scene that shows the pixel, NONE_SHOWN for none."""
    optical_class: NDArray[np.uint8]
    """(H, W): values of masks.CLASSES; unknown where no scene, or one without a mask, is shown."""


def show_clearest(
    scenes: Sequence[Scene],
    lattice: Lattice,
    window: Window,
    bands: Sequence[str],
    read_scene: ReadScene,
) -> Composite:
    """Composite scenes on a window by the rule above.

    A scene is read while there is a pixel that it could show, its mask where it has data. Raises
    SceneReadError for the first scene that cannot be read.
    """
    values: NDArray[np.float32] | None = None
    shown = np.full(window.shape, NONE_SHOWN, np.int16)
    classes = np.full(window.shape, UNKNOWN, np.uint8)
    hides = np.full(window.shape, NOTHING_SHOWN, np.uint8)
    for index, scene in enumerate(scenes):
        if not (hides > CLEAR).any():
            break
        image = read_scene(scene, lattice, window, bands)
        if image is None:
            continue
        known = np.isfinite(image).all(axis=0)
        if not known.any():
            continue
        own = optical_classes(scene, lattice, window) if scene.mask else np.array(UNKNOWN, np.uint8)
        level = hiding(own)
        better = known & (level < hides)
        everywhere = bool(better.all())
        where = True if everywhere else better  # a copy by a mask takes several times as long
        if values is None:
            values = image
            if not everywhere:
                np.copyto(values, np.nan, where=~known)
        else:
            np.copyto(values, image, where=where)
        for kept, new in ((shown, index), (classes, own), (hides, level)):
            np.copyto(kept, new, where=where)
    if values is None:
        values = np.full((len(bands), *window.shape), np.nan, np.float32)
    return Composite(values, shown, classes)
