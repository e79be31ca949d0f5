"""How fast windows are read, beside a plain rasterio loop over the same windows.

    .venv/bin/python -m tests.benchmarks.reading [--side 4096] [--rounds 5]

Three bands of a made-up granule: 16-bit, deflated, in blocks of 512 px, one file each, as archives
keep them. Both give float32 reflectance with NaN for no data, and begin every round with no file
open. Rounds alternate; times are medians. `aligned` windows lie on the files' own pixels, `shifted`
ones half a pixel beside them; `tiles` overlap, as they do where they are matched.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterWindow
from scipy import ndimage

from catalog.archives.items import Asset, Scene
from catalog.grid import Lattice, Window
from catalog.pixels.composite import read_composite
from catalog.pixels.rasters import GDAL_OPTIONS
from tests.support.scenes import close_open_files

Floats = npt.NDArray[np.float32]
CRS, CORNER, PX_M = "EPSG:32632", (600_000.0, 5_200_020.0), 10.0
BANDS = ("red", "green", "blue")
SCALE, OFFSET = 0.0001, -0.1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096, help="of the granule, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("windows                  ours MPx/s  rasterio MPx/s   ratio")
    with tempfile.TemporaryDirectory() as folder:
        scene = write_granule(Path(folder), args.side)
        for name, shift, window_px, halo_px in (
            ("shards, aligned", 0.0, 1024, 0),
            ("tiles, aligned", 0.0, 512, 64),
            ("shards, shifted", 0.5, 1024, 0),
            ("tiles, shifted", 0.5, 512, 64),
        ):
            lattice = lattice_of(args.side, shift)
            wide = (each.expand(halo_px).clip(lattice.shape) for each in lattice.tiles(window_px))
            windows = [window for window in wide if window is not None]
            plain = plain_aligned if shift == 0 else plain_warped
            ours, theirs = alternating(
                lambda lattice=lattice, windows=windows: read_ours(scene, lattice, windows),
                lambda lattice=lattice, windows=windows, plain=plain: plain(
                    scene, lattice, windows
                ),
                args.rounds,
            )
            pixels = len(BANDS) * sum(w.height * w.width for w in windows) / 1e6
            print(
                f"{name:22} {pixels / ours:12.1f} {pixels / theirs:15.1f} {theirs / ours:7.0%}",
                flush=True,
            )


def write_granule(folder: Path, side: int) -> Scene:
    """Three files of structured noise, which deflates about as much as the ground does."""
    drawn = np.random.default_rng(0)
    assets = []
    for band in BANDS:
        rough = ndimage.zoom(drawn.normal(1800, 300, (side // 16, side // 16)), 16, order=1)
        numbers = (rough + drawn.normal(0, 40, rough.shape)).clip(1).astype(np.uint16)
        numbers[: side // 10, : side // 10] = 0
        path = folder / f"{band}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=1, height=side, width=side, dtype="uint16",
            crs=CRS, transform=Affine(PX_M, 0, CORNER[0], 0, -PX_M, CORNER[1]), nodata=0,
            tiled=True, blockxsize=512, blockysize=512, compress="deflate", predictor=2,
        ) as target:  # fmt: skip
            target.write(numbers, 1)
        assets.append(Asset(band, str(path), (band,), 0.0, SCALE, OFFSET))
    left, top = CORNER
    outline = transform_bounds(CRS, "EPSG:4326", left, top - PX_M * side, left + PX_M * side, top)
    return Scene("S2", "c", datetime(2024, 6, 1, tzinfo=UTC), shapely.box(*outline), tuple(assets))


def lattice_of(side: int, shift_px: float) -> Lattice:
    """The granule's pixels, or those `shift_px` to the right and below."""
    x, y = CORNER[0] + PX_M * shift_px, CORNER[1] - PX_M * shift_px
    return Lattice(GeoBox((side, side), Affine(PX_M, 0, x, 0, -PX_M, y), CRS))


def read_ours(scene: Scene, lattice: Lattice, windows: Sequence[Window]) -> Floats:
    """What the pipeline does; returns the last window."""
    close_open_files()
    for window in windows:
        shown = read_composite((scene,), lattice, window, BANDS)
    return shown.values


def plain_aligned(scene: Scene, _: Lattice, windows: Sequence[Window]) -> Floats:
    """A loop that knows that nothing has to be resampled."""
    with rasterio.Env(**GDAL_OPTIONS), ExitStack() as stack:
        sources = [stack.enter_context(rasterio.open(asset.href)) for asset in scene.assets]
        for window in windows:
            part = RasterWindow(window.x0, window.y0, window.width, window.height)
            values = physical([source.read(1, window=part) for source in sources])
    return values


def plain_warped(scene: Scene, lattice: Lattice, windows: Sequence[Window]) -> Floats:
    """A loop over windows of one warped view of each file."""
    with rasterio.Env(**GDAL_OPTIONS), ExitStack() as stack:
        sources = [stack.enter_context(rasterio.open(asset.href)) for asset in scene.assets]
        for window in windows:
            geobox = lattice.window_geobox(window)
            parts = []
            for source in sources:
                with WarpedVRT(
                    source, crs=CRS, transform=geobox.affine, height=window.height,
                    width=window.width, resampling=Resampling.bilinear,
                ) as warped:  # fmt: skip
                    parts.append(warped.read(1))
            values = physical(parts)
    return values


def physical(numbers: Sequence[npt.NDArray[np.uint16]]) -> Floats:
    """Stored numbers made reflectance."""
    stored = np.stack(numbers)
    values = stored.astype(np.float32) * np.float32(SCALE) + np.float32(OFFSET)
    values[stored == 0] = np.nan
    return values


def alternating(
    ours: Callable[[], Floats], theirs: Callable[[], Floats], rounds: int
) -> tuple[float, float]:
    """Median seconds of both, and a check that they read the same."""
    assert np.allclose(ours(), theirs(), atol=2e-4, equal_nan=True)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, kept in zip((ours, theirs), seconds, strict=True):
            started = time.perf_counter()
            run()
            kept.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


if __name__ == "__main__":
    main()
