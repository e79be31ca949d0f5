"""What an optical sensor and a made Sentinel-1 pass see of one drawn ground with relief.

The ground and its colours are the demo's (`tar_engine.training.synthesis`), the radar's geometry is
that of `grd`: every bit of ground adds its power to the pixel of its slant range, so slopes that
face the sensor are short and bright. What is true is known by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from catalog.archives.items import Asset, Scene
from catalog.grid import Lattice, lattice_for
from tar_engine.training.synthesis import BACKSCATTER_DB, CROPS, Ground, draw_ground, optical_image
from tests.support.grd import Radar, lonlat_of, region, write_dem, write_grd
from tests.support.grd_annotations import (
    noise_power,
    sigma_nought,
    write_annotation,
    write_calibration,
    write_noise,
)
from tests.support.scenes import scene

Floats = NDArray[np.float64]
MARGIN_PX = 130  # of ground around the lattice: relief moves some of it in
FINER = 2  # bits of ground along a side of a pixel
LOOKS = 4.4  # of Sentinel-1's IW GRD


@dataclass(frozen=True)
class GrdScene:
    """An optical and a radar scene, where they lie, and the truth between them."""

    lattice: Lattice
    optical: Scene
    sar: Scene
    dem: Scene
    radar: Radar
    optical_path: Path
    sar_path: Path
    truth: Floats
    """(2, H, W): column and row, pixel centres at integers, at which each lattice pixel shows."""


def write_scene(folder: Path, radar: Radar, half_km: float = 3.0, seed: int = 5) -> GrdScene:
    """Draw ground, let both sensors see it, write their files and a DEM."""
    relief = radar.relief
    lattice = lattice_for(region(half_km))
    around = lattice.window.expand(MARGIN_PX)
    lon, lat = lonlat_of(lattice, around.positions())
    height_m = relief(lon, lat)
    size = max(around.shape)
    drawn = draw_ground(size, seed)
    rows, columns = around.shape
    ground = replace(
        drawn,
        cover=drawn.cover[:rows, :columns],
        crop=drawn.crop[:rows, :columns],
        height_m=height_m.astype(np.float32),
    )
    inner = (
        slice(MARGIN_PX, MARGIN_PX + lattice.shape[0]),
        slice(MARGIN_PX, MARGIN_PX + lattice.shape[1]),
    )
    optical_path = _write_optical(folder / "optical.tif", lattice, _square(ground, size)[:, *inner])
    numbers, corner = _seen_by(radar, lattice, ground)
    sar_path = write_grd(folder / "vv.tif", radar, numbers, corner)
    asset = Asset(
        "vv", str(sar_path), ("vv",),
        annotation=str(write_annotation(folder / "product.xml", radar)),
        calibration=str(write_calibration(folder / "calibration.xml", radar)),
        noise=str(write_noise(folder / "noise.xml", radar)),
    )  # fmt: skip
    dem = write_dem(folder / "dem.tif", relief, region(half_km + 3))
    box = region(half_km)
    truth = radar.image_xy(lon[inner], lat[inner], height_m[inner]) - 0.5
    return GrdScene(
        lattice,
        scene("S2", box, assets=(Asset("visual", str(optical_path), ("red", "green", "blue")),)),
        scene("S1", region(half_km + MARGIN_PX / 100), assets=(asset,)),
        scene("dem", region(half_km + 3), assets=(Asset("data", str(dem), ("elevation",)),)),
        radar,
        optical_path,
        sar_path,
        truth,
    )


def _square(ground: Ground, size: int) -> NDArray[np.uint8]:
    """`optical_image` draws squares alone."""
    missing = [(0, size - side) for side in ground.cover.shape]
    padded = replace(
        ground,
        cover=np.pad(ground.cover, missing, mode="edge"),
        crop=np.pad(ground.crop, missing, mode="edge"),
        height_m=np.pad(ground.height_m, missing, mode="edge"),
    )
    return optical_image(padded)


def _write_optical(path: Path, lattice: Lattice, image: NDArray[np.uint8]) -> Path:
    height, width = lattice.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=height, width=width, dtype="uint8",
        crs=lattice.crs.to_wkt(), transform=lattice.geobox.affine, tiled=True,
    ) as target:  # fmt: skip
        target.write(image)
    return path


def _seen_by(
    radar: Radar, lattice: Lattice, ground: Ground
) -> tuple[NDArray[np.uint16], tuple[int, int]]:
    """Digital numbers (1, h, w) of what is seen of a ground, and where the first one is."""
    rng = np.random.default_rng((ground.seed, 9))
    rows, columns = ground.cover.shape
    y, x = ((np.arange(side * FINER) + 0.5) / FINER - 0.5 - MARGIN_PX for side in (rows, columns))
    lon, lat = lonlat_of(lattice, np.stack(np.meshgrid(x, y)))
    column, row = radar.image_xy(lon, lat, radar.relief(lon, lat))
    decibel = np.where(ground.crop >= 0, CROPS[ground.crop, 3], BACKSCATTER_DB[ground.cover])
    power = 10 ** (decibel.repeat(FINER, axis=0).repeat(FINER, axis=1) / 10)

    x0, y0 = int(column.min()) + 2, int(row.min()) + 2
    width, height = int(column.max()) - 2 - x0, int(row.max()) - 2 - y0
    area, echo = np.zeros(height * width), np.zeros(height * width)
    left, top = np.floor(column - 0.5).astype(int), np.floor(row - 0.5).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            at_x, at_y = left + right, top + down
            share = (1 - np.abs(column - 0.5 - at_x)) * (1 - np.abs(row - 0.5 - at_y))
            inside = (at_x >= x0) & (at_x < x0 + width) & (at_y >= y0) & (at_y < y0 + height)
            index = (at_y[inside] - y0) * width + at_x[inside] - x0
            area += np.bincount(index, share[inside], height * width)
            echo += np.bincount(index, (share * power)[inside], height * width)
    area, echo = area.reshape(height, width), echo.reshape(height, width)
    seen = area > 0.05
    # The mean power of a pixel's bits, times how much ground lies in it; bits are few, so smoothed.
    sigma = np.where(seen, echo / np.where(seen, area, 1), 0) * gaussian_filter(area, 1) / FINER**2
    table = sigma_nought(np.arange(height) + y0 + 0.0, np.arange(width) + x0 + 0.0)
    noise = noise_power(
        np.arange(height) + y0 + 0.0, np.arange(width) + x0 + 0.0, -(-radar.shape[1] // 3)
    )
    received = sigma * table**2 + noise
    numbers = np.sqrt(received * rng.gamma(LOOKS, 1 / LOOKS, received.shape))
    numbers = np.where(seen, np.clip(np.rint(numbers), 1, 65535), 0)
    return numbers.astype(np.uint16)[None], (x0, y0)
