"""Digital numbers of radar images become power, and the frame around them no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from catalog.archives.items import Asset, Scene, scene_from_item
from catalog.errors import SceneReadError
from catalog.grid import Lattice, lattice_for
from catalog.pixels.scene import probe, source_window
from tests.support.grd import Radar, flat, region, write_grd
from tests.support.grd_annotations import sigma_nought, write_calibration
from tests.support.scenes import (
    aligned_lattice,
    noise,
    read_window,
    same,
    scene,
    scene_of,
    write_raster,
)

SMALL = Radar(flat, shape=(700, 900), points=(5, 6))


def ground_numbers(seed: int = 0) -> NDArray[np.uint16]:
    """(1, H, W) of 40 to 400, as over land."""
    return np.random.default_rng(seed).integers(40, 400, (1, *SMALL.shape)).astype(np.uint16)


def radar_scene(path: Path, calibration: Path | None = None) -> Scene:
    table = None if calibration is None else str(calibration)
    asset = Asset("vv", str(path), ("vv",), calibration=table)
    return scene("S1", region(6), assets=(asset,))


def read_all(found: Scene, resolution: float = 10.0) -> tuple[Any, Any, Lattice]:
    """Everything that `source_window` finds around the scene: values and (x, y) in them."""
    lattice = lattice_for(region(7), resolution=resolution)
    part = source_window(found, lattice, lattice.window.positions())
    assert part is not None
    return part[0], part[1], lattice


def test_numbers_become_sigma_nought(tmp_path: Path) -> None:
    numbers = ground_numbers()
    path = write_grd(tmp_path / "x.tif", SMALL, numbers)
    calibration = write_calibration(tmp_path / "c.xml", SMALL, every=(60, 40))
    plain, _, _ = read_all(radar_scene(path))
    assert same(plain, numbers.astype(np.float32))
    power, _, _ = read_all(radar_scene(path, calibration))
    height, width = SMALL.shape
    table = sigma_nought(np.arange(height, dtype=float), np.arange(width, dtype=float))
    expected = numbers[0] / table
    np.testing.assert_allclose(power[0], expected**2, rtol=1e-4)
    # Averaged down, it is power that is averaged.
    coarse, _, _ = read_all(radar_scene(path, calibration), resolution=50.0)
    blocks = (expected**2).reshape(height // 5, 5, width // 5, 5).mean(axis=(1, 3))
    # GDAL rounds what it averages to whole numbers.
    np.testing.assert_allclose(coarse[0], blocks, rtol=6e-3)
    assert coarse.mean() == pytest.approx(blocks.mean(), rel=1e-4)


def test_a_lost_table_is_found_while_planning(tmp_path: Path) -> None:
    path = write_grd(tmp_path / "x.tif", SMALL, ground_numbers())
    with pytest.raises(SceneReadError, match=r"scene S1: .*none\.xml is not there") as caught:
        probe(radar_scene(path, tmp_path / "none.xml"))
    assert caught.value.scene_id == "S1"


def framed(numbers: NDArray[np.uint16]) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Zeros outside, inside them a frame of low noise of uneven width, dark water further in."""
    rng = np.random.default_rng(5)
    height, width = numbers.shape[1:]
    columns, rows = np.arange(width)[None, :], np.arange(height)[:, None]
    left, right = 40 + 15 * np.sin(rows / 80), width - 60 - 20 * np.sin(rows / 110)
    lost = (columns < left) | (columns >= right) | (rows < 25) | (rows >= 680)
    low = rng.integers(1, 7, numbers.shape[1:])
    low[(rows < 10) | (columns < 12) | (columns >= width - 15)] = 0
    numbers = np.where(lost, low, numbers[0]).astype(np.uint16)
    numbers[300:360, 400:470] = rng.integers(2, 9, (60, 70))  # a lake without a breath of wind
    numbers[500, 500] = 0
    return numbers[None], lost


def test_the_frame_is_cut_and_dark_water_is_not(tmp_path: Path) -> None:
    numbers, lost = framed(ground_numbers())
    path = write_grd(tmp_path / "x.tif", SMALL, numbers)
    values, source_xy, lattice = read_all(radar_scene(path))
    seen = np.isfinite(values[0])
    assert not seen[lost].any()
    lost_ground = ~seen & ~lost
    lost_ground[500, 500] = False
    # Where the frame bends, some pixels between two of its parts go with them.
    print(f"\nground cut with the frame: {lost_ground.sum() / (~lost).sum():.4%}")
    assert lost_ground.sum() < 1e-3 * (~lost).sum()
    assert not lost_ground[16:-16, 80:-100].any()
    assert not seen[500, 500]
    assert (values[0][300:360, 400:470] < 9).all()
    # A window of any size cuts at the same places.
    for window in lattice.tiles(256):
        part = source_window(radar_scene(path), lattice, window.positions())
        if part is None:
            continue
        whole_xy = source_xy[:, window.slices[0], window.slices[1]][:, 0, 0]
        column, row = np.round(whole_xy - part[1][:, 0, 0]).astype(int)
        _, height, width = part[0].shape
        assert same(part[0], values[:, row : row + height, column : column + width])


def test_no_zero_is_read_as_ground(tmp_path: Path) -> None:
    numbers, _ = framed(ground_numbers())
    path = write_grd(tmp_path / "x.tif", SMALL, numbers)
    found = radar_scene(path, write_calibration(tmp_path / "c.xml", SMALL))
    lattice = lattice_for(region(7))
    read = read_window([found], lattice, lattice.window, ("vv",))
    assert 0.2 < np.isfinite(read).mean() < 0.3  # the scene's part of this window
    assert np.nanmin(read) > 0


def test_eight_bit_stretches_keep_their_values(tmp_path: Path) -> None:
    """With control points or on a map: somebody else has decided what is dark."""
    values = noise((1, *SMALL.shape))
    values[:, :30] = 3
    read, _, _ = read_all(radar_scene(write_grd(tmp_path / "x.tif", SMALL, values)))
    assert same(read, values.astype(np.float32))
    mapped = noise((1, 64, 64))
    mapped[:, :9] = 0
    lattice = aligned_lattice()
    found = scene_of(write_raster(tmp_path / "y.tif", mapped), ("vh",))
    assert same(read_window([found], lattice, lattice.window, ("vh",)), mapped.astype(np.float32))


def test_padding_of_terrain_corrected_power_is_no_data(tmp_path: Path) -> None:
    """Whatever the declared value is, archives fill borders with zeros."""
    power = noise((1, 64, 64), "float32") / 500
    power[:, :, :20], power[:, 50:, :] = 0, -32768
    power[:, 50:, :5] = -32768
    found = scene_of(write_raster(tmp_path / "x.tif", power, nodata=-32768), ("vv",))
    lattice = aligned_lattice()
    expected = np.where(power > 0, power, np.nan).astype(np.float32)
    assert same(read_window([found], lattice, lattice.window, ("vv",)), expected)
    part = source_window(found, lattice, lattice.window.positions())
    assert part is not None
    assert same(part[0], expected)
    # Between pixels, nothing of the padding gets into the ground beside it.
    beside = lattice_for(found.footprint.bounds, "EPSG:3395")
    read = read_window([found], beside, beside.window, ("vv",))
    assert 0.3 < np.isfinite(read).mean() < 0.7
    assert np.nanmin(read) >= power[power > 0].min() * 0.99


def item(assets: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S1A_IW_GRDH_1SDV",
        "bbox": [10, 46, 11, 47],
        "geometry": None,
        "properties": {"datetime": "2024-06-14T05:34:20Z"},
        "links": [],
        "assets": {key: {"href": href} for key, href in assets.items()},
    }


@pytest.mark.parametrize(
    ("assets", "told"),
    [
        (
            {
                "vv": "https://a/measurement/iw-vv.tiff",
                "vh": "https://a/measurement/iw-vh.tiff",
                "schema-product-vh": "https://a/annotation/iw-vh.xml",
                "schema-product-vv": "https://a/annotation/iw-vv.xml",
                "schema-calibration-vv": "https://a/annotation/calibration/calibration-iw-vv.xml",
                "schema-noise-vv": "https://a/annotation/calibration/noise-iw-vv.xml",
            },
            [
                ("iw-vv.xml", "calibration-iw-vv.xml", "noise-iw-vv.xml"),
                ("iw-vh.xml", None, None),
            ],
        ),
        (
            {
                "vv": "https://a/X.SAFE/measurement/s1a-iw-grd-vv-2024-001.tiff",
                "annotation": "https://a/X.SAFE/annotation/s1a-iw-grd-vv-2024-001.xml",
                "noise": "https://a/X.SAFE/annotation/calibration/noise-s1a-iw-grd-vv-2024.xml",
                "lut": "https://a/X.SAFE/annotation/calibration/calibration-s1a-iw-grd-vv-2024.xml",
            },
            [
                (
                    "s1a-iw-grd-vv-2024-001.xml",
                    "calibration-s1a-iw-grd-vv-2024.xml",
                    "noise-s1a-iw-grd-vv-2024.xml",
                )
            ],
        ),
        ({"vv": "https://a/rtc/iw-vv.tiff"}, [(None, None, None)]),
        (
            {"vv": "https://a/iw-vv.tiff", "schema-calibration-vv": "/vsizip/https://a/c.xml"},
            [(None, None, None)],
        ),
    ],
)
def test_annotations_are_found_in_items(
    assets: dict[str, str], told: list[tuple[str | None, ...]]
) -> None:
    found = scene_from_item(item(assets), "https://api")
    names = [
        tuple(
            None if href is None else href.split("/")[-1]
            for href in (a.annotation, a.calibration, a.noise)
        )
        for a in found.assets
    ]
    assert names == told


@pytest.mark.parametrize(
    ("told", "right"),
    [
        ("https://a/annotation/rfi/rfi-iw-vv.xml", "https://a/annotation/iw-vv.xml"),
        ("https://a/annotation/rfi-iw-vv.xml?sig=1", "https://a/annotation/iw-vv.xml?sig=1"),
        ("https://a/annotation/rfi-a/iw-vv.xml", "https://a/annotation/rfi-a/iw-vv.xml"),
        ("rfi/rfi-iw-vv.xml", "https://api/iw-vv.xml"),
        ("rfi-iw-vv.xml", "https://api/iw-vv.xml"),
    ],
)
def test_the_product_annotation_beside_one_of_interference_is_used(told: str, right: str) -> None:
    named = item({"vv": "https://a/measurement/iw-vv.tiff", "schema-product-vv": told})
    assert scene_from_item(named, "https://api/").assets[0].annotation == right
