"""Which scene of a pass shows a place, by outlines alone: the first one in the group's order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Scene
from catalog.grid import Lattice

OUTLINE_STEP_DEGREES = 0.01  # straight lines in lon/lat are not straight on the lattice


def find_shown(
    scenes: Sequence[Scene], xy: npt.NDArray[np.float64], lattice: Lattice
) -> npt.NDArray[np.intp]:
    """Index of the first scene whose footprint holds each lattice position (N, 2); -1 if none."""
    shown = np.full(len(xy), -1)
    for index, scene in enumerate(scenes):
        outline = _project(lattice, scene.footprint)
        shown[(shown < 0) & shapely.contains_xy(outline, xy[:, 0], xy[:, 1])] = index
    return shown


def _project(lattice: Lattice, footprint: BaseGeometry) -> BaseGeometry:
    """A lon/lat outline in lattice pixels; dense, because straight lines do not stay straight."""
    dense = shapely.segmentize(footprint, OUTLINE_STEP_DEGREES)
    return shapely.transform(dense, lambda lonlat: lattice.px_from_lonlat(lonlat.T).T)
