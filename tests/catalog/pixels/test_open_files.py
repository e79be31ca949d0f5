"""Files that stay open from one window to the next, and are let go when they change or fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError

from catalog.archives.items import Asset
from catalog.errors import SceneReadError
from catalog.pixels.open_files import KEPT_OPEN, file_of, is_open
from catalog.pixels.rasters import read_asset
from tests.support.scenes import (
    aligned_lattice,
    close_open_files,
    noise,
    read_window,
    same,
    scene_of,
    write_raster,
)

SIDE = 64
BANDS = ("red", "green", "blue")


def holds(path: Path) -> bool:
    """Whether this thread has the file open."""
    return is_open(file_of(Asset("x", str(path), BANDS)))


def test_files_stay_open_and_are_opened_anew_when_they_change(tmp_path: Path) -> None:
    close_open_files()
    lattice = aligned_lattice()
    path = tmp_path / "x.tif"

    def read(values: NDArray[Any]) -> NDArray[np.float32]:
        found = scene_of(write_raster(path, values), BANDS)
        return read_window([found], lattice, lattice.window, BANDS)

    first, second = (noise((3, SIDE, SIDE), seed=seed) for seed in (1, 2))
    assert same(read(first), first.astype("float32"))
    assert holds(path)
    assert same(read(second), second.astype("float32"))
    for number in range(KEPT_OPEN + 3):
        other = write_raster(tmp_path / f"{number}.tif", first)
        read_window([scene_of(other, BANDS)], lattice, lattice.window, BANDS)
    assert not holds(path)
    assert holds(other)
    close_open_files()
    assert not holds(other)


def test_what_failed_is_closed_and_tried_once_with_a_new_file(tmp_path: Path) -> None:
    """A file may fail because it was opened long ago: keys run out, connections break."""
    close_open_files()
    path = write_raster(tmp_path / "x.tif", noise((3, SIDE, SIDE)))
    found = scene_of(path, BANDS)
    (asset,) = found.assets
    handles = []

    def read(source: Any) -> str:
        handles.append(source)
        if len(handles) in (2, 4, 5):
            raise RasterioIOError("it was open for too long")
        return "read"

    assert read_asset(found, asset, read) == "read"
    assert read_asset(found, asset, read) == "read"  # the second handle failed, a third was opened
    assert handles[0] is handles[1]
    assert handles[2] is not handles[1]
    assert handles[1].closed
    with pytest.raises(SceneReadError, match="it was open for too long"):
        read_asset(found, asset, read)
    assert len(handles) == 5
    assert not holds(path)
