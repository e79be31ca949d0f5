"""Two rasters, no catalog."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.warp import reproject

from flows.cli.demo_region import DemoRegion
from flows.cli.pair import register_files
from flows.plan.request import RequestError
from tar_engine.training.synthesis import draw_ground, optical_image, sar_image
from tests.support.regions import scenes_of


def files_of(region: DemoRegion) -> tuple[Path, Path]:
    folder = region.catalog.parent
    return folder / "S2-DEMO-WEST.tif", folder / "S1-DEMO-NORTH.tif"


def test_georeferenced_rasters_end_on_the_optical_grid(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    optical, sar = files_of(small_region)
    out = tmp_path / "registered.tif"
    result = register_files(optical, sar, out)
    assert result.accepted
    assert result.expected_error_px < 1.0
    with rasterio.open(out) as registered, rasterio.open(optical) as reference:
        assert registered.transform == reference.transform
        assert registered.crs == reference.crs
        assert registered.shape == reference.shape
        assert registered.dtypes == ("float32",)
        assert registered.tags()["TAR_SAR"] == sar.name
        values = registered.read(1)
        colour = reference.read().astype(float)
    # The radar's frame covers the upper part; there the river and the forests now agree.
    seen = np.isfinite(values)
    assert 0.5 < seen.mean() < 0.8
    assert _explained(values, colour, seen) > _explained(_delivered(sar, optical), colour, seen)


def _delivered(sar: Path, optical: Path) -> np.ndarray:
    """The SAR raster where its own georeference puts it, by rasterio alone."""
    with rasterio.open(optical) as grid, rasterio.open(sar) as raster:
        target = np.zeros(grid.shape, np.float32)
        reproject(
            rasterio.band(raster, 1),
            target,
            dst_transform=grid.transform,
            dst_crs=grid.crs,
            resampling=Resampling.cubic,
        )
    return target


def _explained(sar: np.ndarray, colour: np.ndarray, seen: np.ndarray) -> float:
    """Share of the SAR variance that 64 classes of optical colour explain."""
    digits = [np.digitize(band, np.quantile(band, (0.25, 0.5, 0.75))) for band in colour]
    label = (digits[0] * 16 + digits[1] * 4 + digits[2])[seen]
    values = sar[seen]
    count = np.bincount(label, minlength=64)
    means = np.bincount(label, values, minlength=64) / np.maximum(count, 1)
    return float(np.var(means[label]) / np.var(values))


def test_images_without_georeference_are_matched_whole(tmp_path: Path) -> None:
    ground = draw_ground(320, seed=11)
    optical, sar = optical_image(ground), sar_image(ground)[0]
    Image.fromarray(np.moveaxis(optical[:, 20:276, 20:276], 0, -1)).save(tmp_path / "optical.png")
    Image.fromarray(sar[24:280, 17:273]).save(tmp_path / "sar.png")
    out = tmp_path / "registered.tif"
    result = register_files(tmp_path / "optical.png", tmp_path / "sar.png", out)
    assert result.accepted, result.reason
    with rasterio.open(out) as registered:
        assert registered.shape == (256, 256)
        assert np.isfinite(registered.read(1)).mean() > 0.8


def test_rasters_that_do_not_overlap_are_refused_and_nothing_is_written(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    optical, sar = files_of(small_region)
    with rasterio.open(sar) as raster:
        profile, values = raster.profile, raster.read()
    profile |= {"driver": "GTiff", "transform": raster.transform.translation(700_000, 5_000_000)}
    far = tmp_path / "far.tif"
    with rasterio.open(far, "w", **profile) as raster:
        raster.write(values)
    result = register_files(optical, far, tmp_path / "out.tif")
    assert (result.accepted, result.reason) == (False, "the two rasters do not overlap")
    assert not (tmp_path / "out.tif").exists()


def test_another_place_is_refused(small_region: DemoRegion, tmp_path: Path) -> None:
    optical, _ = files_of(small_region)
    with rasterio.open(optical) as raster:
        profile = raster.profile
    elsewhere = sar_image(draw_ground(profile["height"], seed=99))
    profile |= {"driver": "GTiff", "count": 1, "width": elsewhere.shape[2]}
    with rasterio.open(tmp_path / "sar.tif", "w", **profile) as raster:
        raster.write(elsewhere)
    result = register_files(optical, tmp_path / "sar.tif", tmp_path / "out.tif")
    assert not result.accepted
    assert result.reason
    assert [path.name for path in tmp_path.iterdir()] == ["sar.tif"]


@pytest.mark.parametrize("missing", ["optical", "sar", "out"])
def test_a_wrong_path_is_named(small_region: DemoRegion, tmp_path: Path, missing: str) -> None:
    optical, sar = files_of(small_region)
    paths = {"optical": optical, "sar": sar, "out": tmp_path / "out.tif"}
    paths[missing] = tmp_path / "no-such-folder" / "file.tif"
    with pytest.raises(RequestError, match=f"^{missing}: "):
        register_files(**paths)
    assert not list(tmp_path.iterdir())


def test_the_scenes_of_the_region_are_there(small_region: DemoRegion) -> None:
    assert len(scenes_of(small_region)) == 5
