"""Files that tell of more than there is memory for: refused before anything is read of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.io import DatasetReader

from catalog.archives.items import Asset, Scene
from catalog.errors import SceneReadError
from catalog.pixels import open_files
from catalog.pixels.sanity import examine
from catalog.pixels.scene import probe
from tests.support.scenes import CORNER, UTM, scene, write_raster

MIB = 2**20


def declared(path: Path, **profile: object) -> Path:
    """A GeoTIFF that tells of a raster and has none of it: its blocks are not there."""
    told = {
        "driver": "GTiff", "count": 1, "dtype": "uint16", "compress": "deflate",
        "SPARSE_OK": "TRUE", "crs": UTM, "transform": Affine(10, 0, CORNER[0], 0, -10, CORNER[1]),
    }  # fmt: skip
    with rasterio.open(path, "w", **{**told, **profile}):
        pass
    return path


def scene_with(path: Path) -> Scene:
    return scene("x", assets=(Asset("data", str(path), ("vv",)),))


@pytest.mark.parametrize(
    ("profile", "fault"),
    [
        ({"width": 10**6, "height": 10**6, "tiled": True, "blockxsize": 2**16,
          "blockysize": 2**16, "BIGTIFF": "YES"}, "has 1000000 x 1000000 pixels"),
        ({"width": 2**16, "height": 2**16, "tiled": True, "blockxsize": 2**16,
          "blockysize": 2**16, "BIGTIFF": "YES"}, "blocks of 65536 x 65536 pixels, 8192 MiB"),
        ({"width": 30000, "height": 30000, "blockysize": 30000, "BIGTIFF": "YES"},
         "blocks of 30000 x 30000 pixels, 1717 MiB unpacked, and more than 16 MiB at once"),
        ({"width": 4096, "height": 4096, "count": 8, "tiled": True, "blockxsize": 4096,
          "blockysize": 4096, "interleave": "pixel"}, "256 MiB unpacked"),
        ({"width": 16, "height": 16, "count": 2000}, "has 2000 bands"),
    ],
)  # fmt: skip
def test_what_tells_of_too_much_is_refused(
    tmp_path: Path, profile: dict[str, object], fault: str
) -> None:
    path = declared(tmp_path / "x.tif", **profile)
    assert path.stat().st_size < MIB
    for look in (probe, examine):
        with pytest.raises(SceneReadError, match=fault) as caught:
            look(scene_with(path))
        assert str(path) in str(caught.value)
        assert str(caught.value).endswith("are not read")


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_overviews_and_masks_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interleave: str
) -> None:
    values = np.ones((3, 1024, 1024), np.uint8)
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": interleave}
    path = write_raster(tmp_path / "x.tif", values, **tiled)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_TIFF_OVR_BLOCKSIZE=512),
        rasterio.open(path, "r+") as target,
    ):
        target.write_mask(np.ones((1024, 1024), bool))
        target.build_overviews([2])
    probe(scene_with(path))
    blocks: list[tuple[tuple[int, int], tuple[int, int]]] = []

    def note(part: DatasetReader) -> None:
        blocks.append((part.shape, part.block_shapes[0]))

    monkeypatch.setattr(open_files, "_excess_of_blocks", note)
    open_files._kept.files.clear()
    probe(scene_with(path))
    assert set(blocks) == {((1024, 1024), (256, 256)), ((512, 512), (512, 512))}
    assert len(blocks) >= 4
