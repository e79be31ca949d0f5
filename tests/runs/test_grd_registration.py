"""Made Sentinel-1 GRD scenes registered to an optical one: relief with a DEM, without, and none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from catalog.pixels.positions import raster_from_lattice
from catalog.sentinel1.gcps import gcp_grid_of
from flows.cli.pair import register_files
from flows.cluster.workers import load_registrar
from flows.stages import match
from tests.support.grd import Radar, Relief, flat, mountains, ridges
from tests.support.grd_scene import GrdScene, write_scene
from tests.support.scenes import read_window

HALF_KM = 1.28  # some 260 px
Write = Callable[[Relief], GrdScene]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    return lambda relief: write_scene(tmp_path_factory.mktemp("grd"), Radar(relief), HALF_KM)


def residual_px(made: GrdScene, displacement: NDArray[np.floating]) -> NDArray[np.float64]:
    """(H, W): between where the file is read without a DEM, and where the ground shows in truth."""
    with rasterio.open(made.sar_path) as source:
        grid = gcp_grid_of(source)
    positions = made.lattice.window.positions() + displacement
    return np.hypot(*(raster_from_lattice(made.lattice, grid, positions) - made.truth))


def test_with_a_dem_little_is_left_to_register(write: Write) -> None:
    """And the engine sees the same in linear power, with its speckle, and in decibels."""
    made = write(mountains)
    window = made.lattice.window
    optical = read_window([made.optical], made.lattice, window, made.optical.bands)
    corrected = replace(made.sar, terrain=(made.dem,))
    power = read_window([corrected], made.lattice, window, ("vv",))
    decibels = 10 * np.log10(np.where(power > 0, power, np.float32(np.nan)))
    moved = []
    for scale, image in (("power", power), ("decibels", decibels)):
        found = load_registrar(None).register(optical, image, max_offset_px=32)
        assert found.accepted, found.reason
        left = np.hypot(*found.displacement)
        print(f"\nDEM, {scale}: the engine still moves {np.median(left):.3f} px (median)")
        assert np.median(left) < 0.5
        moved.append(found.displacement)
    apart = np.hypot(*(moved[0] - moved[1]))
    print(f"power and decibels differ by {np.median(apart):.3f} px (median)")
    assert np.median(apart) < 0.3


@pytest.mark.parametrize(("relief", "max_offset_px"), [(mountains, 32.0), (ridges, None)])
def test_without_a_dem_relief_is_registered_or_refused(
    write: Write, relief: Relief, max_offset_px: float | None
) -> None:
    made = write(relief)
    window = made.lattice.window
    optical = read_window([made.optical], made.lattice, window, made.optical.bands)
    power = read_window([made.sar], made.lattice, window, ("vv",))
    before = residual_px(made, np.zeros((2, *window.shape)))
    assert np.median(before) > 10
    found = load_registrar(None).register(optical, power, max_offset_px=max_offset_px)
    became = f"refused: {found.reason}"
    if found.accepted:
        after = np.median(residual_px(made, found.displacement))
        became = f"{after:.2f} px after"
        assert after <= 2.0
    print(f"\n{relief.__name__}, no DEM: {np.median(before):.1f} px before; {became}")


def test_two_files_are_registered_without_a_catalog(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(flat)
    monkeypatch.setattr(match, "TILE_PX", max(made.lattice.shape))  # no larger than the files
    monkeypatch.setattr(match, "HALO_PX", 0)
    out = tmp_path / "registered.tif"
    result = register_files(made.optical_path, made.sar_path, out, max_offset_px=16)
    assert result.accepted, result.reason
    print(f"\nplain: moved {result.median_displacement_px:.3f} px (median)")
    assert result.median_displacement_px < 0.5
    with rasterio.open(out) as written, rasterio.open(made.optical_path) as given:
        assert written.transform == given.transform
        values = written.read(1)
    geocoded = read_window([made.sar], made.lattice, made.lattice.window, ("vv",))[0]
    inner = (slice(16, -16), slice(16, -16))
    # Digital numbers: two files have no calibration.
    power = np.square(values[inner])
    assert np.corrcoef(np.log(power.ravel()), np.log(geocoded[inner].ravel()))[0, 1] > 0.7
