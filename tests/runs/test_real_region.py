"""Real Sentinel scenes: a real misregistration, removed, by a judge unlike the matcher."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import xarray as xr
from distributed import Client
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

import catalog
from flows.plan.plan import plan_region
from flows.plan.request import RegionRequest
from flows.register_region import register_region
from tests.support.judges import residuals
from tests.support.scenes import REAL_ITEMS, needs_real_data, read_window

# Parts of two scenes, with the border between them in the middle.
BBOX = (-118.07, 33.835, -117.995, 33.915)


@needs_real_data
@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # in rioxarray
def test_real_scenes_are_registered_across_their_border(tmp_path: Path, client: Client) -> None:
    request = RegionRequest.of(
        catalog=str(REAL_ITEMS),
        optical="sentinel-2-visual",
        sar="sentinel-1-grd-vh",
        bbox=BBOX,
        start="2020-11-01",
        end="2020-11-10",
        store=str(tmp_path),
        scheduler=client.scheduler.address,
    )
    report = register_region(request).report
    assert [pair.accepted for pair in report.pairs] == [True, True]
    plan = plan_region(request, report.weights_sha256)
    assert plan.slots[0].published
    mosaic = catalog.open_mosaic(report.mosaic).isel(time=0)
    optical = np.mean([mosaic[band].values for band in ("red", "green", "blue")], axis=0)
    (group,) = plan.slots[0].groups
    delivered = read_window(group.sar, plan.lattice, plan.lattice.window, ("vh",))[0]

    before = residuals(optical, delivered)
    after = residuals(optical, mosaic["vh"].values)
    assert len(after.length) >= 8
    assert np.median(before.length) > 1.2
    assert np.median(after.length) < min(1.1, 0.6 * np.median(before.length))
    # No window holds a gap: the border between the scenes does not show.
    assert float(mosaic["vh"].isnull().mean()) < 0.02

    for scene in group.optical:
        shown_by_rasterio = warped_by_rasterio(scene.assets[0].href, mosaic)
        assert np.abs(shift_between(shown_by_rasterio, mosaic["red"].values)).max() < 0.1


def warped_by_rasterio(path: str, mosaic: xr.Dataset) -> npt.NDArray[np.float32]:
    """A raster's first band on the mosaic's pixels as plain rasterio has it; NaN outside."""
    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source, crs=mosaic.rio.crs, transform=mosaic.rio.transform(),
            height=mosaic.sizes["y"], width=mosaic.sizes["x"], resampling=Resampling.bilinear,
            add_alpha=True,
        ) as warped,
    ):  # fmt: skip
        band = warped.read(1).astype(np.float32)
        return np.where(warped.dataset_mask() == 255, band, np.nan)


def shift_between(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """(dx, dy) by phase correlation, pixels, inside the ground that both show."""
    both = np.isfinite(one) & np.isfinite(other)
    rows, columns = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    block = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    images = [np.where(both, image, 0.0)[block].astype(np.float32) for image in (one, other)]
    (dx, dy), response = cv2.phaseCorrelate(*images)
    assert response > 0.3, "not the same ground"
    return dx, dy
