"""SAR as it was delivered, from what the store holds: registered SAR moved back.

The store keeps no SAR as delivered. It keeps what was moved, and by how much: the registered image
at p shows what the delivered one has at p + d(p), the displacement d in pixels. So the delivered
image at q is the registered one at the p with p + d(p) = q, which is found by the fixed-point
iteration p = q - d(p): it converges where d changes by less than a pixel per pixel, as a field that
folds nowhere does (Chen et al. 2008, A simple fixed-point approach to invert a deformation field).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ITERATIONS = 6
STEP_PX = 4  # the way back is as smooth as the displacement: between these it is interpolated
Floats = NDArray[np.float32]


def moved_back(registered: Floats, dx: Floats, dy: Floats) -> Floats:
    """Registered SAR (H, W) where its own georeference had put it; NaN where that is not known.

    `dx`, `dy` are (H, W), SAR position minus optical position in pixels of this grid, NaN where
    nothing was registered. Between pixels, values are interpolated linearly.
    """
    known = np.isfinite(registered) & np.isfinite(dx) & np.isfinite(dy)
    if not known.any():
        return np.full(registered.shape, np.nan, np.float32)
    # Beyond the edge of what is known the nearest displacement leads back to it, or stays outside.
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    field = np.stack([dy[tuple(nearest)], dx[tuple(nearest)]])
    place: Floats = np.indices(registered.shape, dtype=np.float32)
    coarse = place[:, ::STEP_PX, ::STEP_PX]
    back: Floats = np.zeros_like(coarse)
    for _ in range(ITERATIONS):
        back = -np.stack([_at(each, coarse + back) for each in field])
    at = place + np.stack([_at(each, place / STEP_PX) for each in back])
    values = _at(registered[tuple(nearest)], at)
    rows, columns = np.rint(at).astype(np.int64)
    height, width = registered.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    shown = inside & known[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.where(shown, values, np.float32(np.nan))


def _at(values: Floats, places: NDArray[np.floating[Any]]) -> Floats:
    """(H, W) at rows and columns (2, ...), linearly interpolated; beyond the edge as at it."""
    found: Floats = ndimage.map_coordinates(values, places, order=1, mode="nearest")
    return found
