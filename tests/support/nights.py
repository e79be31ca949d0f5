"""A made region of known truth, seen on twelve nights: one ground, new speckle, a new remainder.

The ground is that of `tar_engine.training.synthesis`, its terrain replaced by low hills and a ridge
that displace the radar by up to some 5 px along range, the same on every pass. A pass has a shift
and a tilt of its own beside that, and speckle of its own; the day's optical image has its own light
and as much cloud as `CLOUD_PERCENT` says. Borders stay from night to night, the fine texture of
what grows between them does not. Everything comes from `SEED`. Both sensors are written on the
pixels of the mosaic, so that no resampling comes between truth and answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import ndimage

from flows.plan.request import RegionRequest
from tar_engine.training.synthesis import (
    INCIDENCE_DEG,
    PIXEL_M,
    Ground,
    draw_ground,
    optical_image,
    sar_image,
)
from tests.support.acquisitions import (
    OPTICAL_COLLECTION,
    SAR_COLLECTION,
    Site,
    lonlat_bounds,
    optical_acquisition,
    sar_acquisition,
)
from tests.support.scenes import write_items

Floats = npt.NDArray[np.float32]

SEED = 20240103
FIRST_NIGHT = date(2024, 1, 3)
REPEAT = timedelta(days=6)  # of two satellites by turns
CLOUD_PERCENT = (0, 20, 60, 100, 10, 80, 100, 0, 40, 100, 90, 100)
PLATFORMS = ("sentinel-1a", "sentinel-1c")
CRS, EASTING_M, NORTHING_M = "EPSG:32632", 494_000.0, 5_206_000.0
# A slot for every SAR pass, where the program knows how.
EVERY_PASS = {"slots": "both"} if "slots" in RegionRequest.model_fields else {}
MARGIN_PX = 32  # of ground around the region, so that displaced ground is seen too
INSET_PX = 4  # the box asked for, inside of the optical image: its lattice is snapped outwards

HILLS_PX, RIDGE_PX = 0.8, 4.0  # displacement: standard deviation of hills, height of the ridge
RIDGE_WIDTH_PX = 70.0
AZIMUTH_PX = 0.8
SHIFT_PX = 0.5  # standard deviation of a pass's shift, along x and y
TILT_PX = 0.15  # the same of its tilt: from the middle of the region to an edge
LOOKS, SPECKLE_SIGMA_PX = 5, 0.8  # of a GRD product in IW mode: its pixels are half as large as
# what it resolves, so speckle is alike in neighbours
SPECKLE_FREE = 1e4  # looks
LEAST_DB, STRETCH_DB = -30.0, 28.0  # of `sar_image`'s 1 to 255
SHADOW_PX = (18, -12)  # from a cloud to its shadow, rows and columns
GROUND_CLASS, SHADOW_CLASS, CLOUD_CLASS = 4, 3, 9  # of Sentinel-2


@dataclass(frozen=True)
class MadeNights:
    """A made region on disk: its catalogue, what to ask for, and its truth."""

    catalog: Path
    bbox: tuple[float, float, float, float]
    nights: tuple[date, ...]
    cloud_percent: tuple[int, ...]
    displacement: Floats  # (nights, 2, H, W): SAR minus ground position, (dx, dy) px, of all ground
    optical_shifts: Floats  # (nights, 2): optical minus ground position, (dx, dy) px

    def request(
        self, store: Path | str, first: int = 0, last: int | None = None, **changes: Any
    ) -> RegionRequest:
        """To register nights `first` to `last`, counted from 0, all where none are named; every
        SAR pass shall have its slot."""
        end = len(self.nights) - 1 if last is None else last
        values = {
            "catalog": str(self.catalog), "optical": OPTICAL_COLLECTION, "sar": SAR_COLLECTION,
            "bbox": self.bbox, "start": self.nights[first], "end": self.nights[end],
            "store": str(store), "region": "nights", "max_gap_days": 1.0, **EVERY_PASS,
        }  # fmt: skip
        return RegionRequest.of(**{**values, **changes})

    def truth(self, night: int, mosaic: xr.Dataset, optical: int | None = None) -> Floats:
        """The true displacement (2, H, W) at the pixels of a mosaic of this region, px: of the SAR
        of a night to the ground, or to what the optical image of a night shows."""
        column = round((float(mosaic.x[0]) - EASTING_M) / PIXEL_M - 0.5)
        row = round((NORTHING_M - float(mosaic.y[0])) / PIXEL_M - 0.5)
        rows, columns = slice(row, row + mosaic.y.size), slice(column, column + mosaic.x.size)
        truth = self.displacement[night, :, rows, columns]
        return truth if optical is None else truth - self.optical_shifts[optical][:, None, None]


def write_nights(
    folder: Path,
    *,
    side_px: int = 896,
    cloud_percent: Sequence[int] = CLOUD_PERCENT,
    optical_shift_px: float = 0.0,
    seed: int = SEED,
) -> MadeNights:
    """Draw the region and write as many nights as `cloud_percent` has, an optical and a SAR each.

    `optical_shift_px` is the standard deviation of what each optical image is misplaced by.
    """
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(folder, CRS, EASTING_M, NORTHING_M)
    ground = _ground_with_relief(side_px + 2 * MARGIN_PX, seed)
    inside = slice(MARGIN_PX, MARGIN_PX + side_px)
    items, fields, shifts, nights = [], [], [], []
    for night, percent in enumerate(cloud_percent):
        rng = np.random.default_rng((seed, night))
        day = FIRST_NIGHT + night * REPEAT
        # Another seed draws the fine texture of the same covers anew.
        tonight = replace(ground, seed=seed + night)
        passed = replace(tonight, displacement=ground.displacement + _remainder(rng, ground))
        shift = rng.normal(0.0, optical_shift_px, 2)
        image, classes = _optical_of_day(rng, tonight, percent, shift)
        items += [
            optical_acquisition(
                site, f"S2-{day}", _at(day, 10), image[:, inside, inside],
                origin=(MARGIN_PX, MARGIN_PX), cloud_cover=float(percent),
                scene_classes=classes[inside, inside],
            ),
            sar_acquisition(
                site, f"S1-{day}", _at(day, 5), _speckled_db(rng, passed),
                polarisation="vh", platform=PLATFORMS[night % len(PLATFORMS)],
            ),
        ]  # fmt: skip
        fields.append(passed.displacement)
        shifts.append(shift.astype(np.float32))
        nights.append(day)
    bbox = lonlat_bounds(folder / f"S2-{nights[0]}.tif", inset_px=INSET_PX)
    catalog = Path(write_items(folder, *items))
    made = tuple(nights), tuple(cloud_percent), np.stack(fields), np.stack(shifts)
    return MadeNights(catalog, bbox, *made)


def _at(day: date, hour: int) -> datetime:
    return datetime.combine(day, time(hour, 20), UTC)


def _ground_with_relief(side_px: int, seed: int) -> Ground:
    """The drawn ground on low hills and a ridge, and how they displace the radar."""
    ground = draw_ground(side_px, seed)
    hills = (ground.height_m - ground.height_m.mean()) / ground.height_m.std()
    rows, columns = np.mgrid[:side_px, :side_px]
    # Across the region from north-north-west, a little bent, so that it meets range at an angle.
    crest = 0.45 * side_px + 0.25 * (rows - side_px / 2) + 20.0 * np.sin(rows / 90.0)
    ridge = np.exp(-0.5 * ((columns - crest) / RIDGE_WIDTH_PX) ** 2)
    dx = (HILLS_PX * hills + RIDGE_PX * ridge).astype(np.float32)
    height_m = dx * np.float32(PIXEL_M * np.tan(np.radians(INCIDENCE_DEG)))
    displacement = np.stack([dx, np.full_like(dx, AZIMUTH_PX)])
    return replace(ground, height_m=height_m, displacement=displacement)


def _remainder(rng: np.random.Generator, ground: Ground) -> Floats:
    """A shift and a tilt of one pass, (2, H, W) px."""
    along = np.linspace(-1.0, 1.0, len(ground.cover))
    rows, columns = np.meshgrid(along, along, indexing="ij")
    shift, tilt = rng.normal(0.0, SHIFT_PX, (2, 1, 1)), rng.normal(0.0, TILT_PX, (2, 2, 1, 1))
    return np.asarray(shift + tilt[0] * columns + tilt[1] * rows, np.float32)


def _speckled_db(rng: np.random.Generator, passed: Ground) -> Floats:
    """What the radar sees on one pass, decibels (H, W)."""
    seen = sar_image(passed, looks=SPECKLE_FREE)[0].astype(np.float64)
    decibel = (seen - 1.0) / 254.0 * STRETCH_DB + LEAST_DB
    return np.asarray(decibel + 10.0 * np.log10(_speckle(rng, decibel.shape)), np.float32)


def _speckle(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Fully developed speckle of several looks, mean 1 (H, W): each look's power is that of a
    complex Gaussian of the sensor's resolution (Goodman, Speckle Phenomena in Optics, 2007)."""
    power = np.zeros(shape)
    for _ in range(LOOKS):
        parts = ndimage.gaussian_filter(
            rng.standard_normal((2, *shape)), (0, SPECKLE_SIGMA_PX, SPECKLE_SIGMA_PX)
        )
        power += (parts**2).sum(axis=0)
    return power / power.mean()


def _optical_of_day(
    rng: np.random.Generator,
    ground: Ground,
    percent: int,
    shift_px: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The day's image (3, H, W), in its own light, under its clouds; and its scene classes."""
    down, right = np.gradient(ground.height_m, PIXEL_M)
    light = rng.uniform(0.75, 1.1, (3, 1, 1)) * (1.0 + rng.normal(0, 0.3) * (down - right))
    image = optical_image(ground) * light
    image += rng.normal(0.0, 2.5, image.shape)
    if shift_px.any():
        image = ndimage.shift(image, (0.0, shift_px[1], shift_px[0]), order=1, mode="nearest")
    cover = _cloud(rng, ground.cover.shape, percent)
    shadow = np.roll(cover, SHADOW_PX, (0, 1))
    image = image * (1.0 - 0.55 * shadow)
    image = image * (1.0 - cover) + cover * rng.normal(235.0, 4.0, image.shape[1:])
    classes = np.full(ground.cover.shape, GROUND_CLASS, np.uint8)
    classes[shadow > 0.5] = SHADOW_CLASS
    classes[cover > 0.1] = CLOUD_CLASS
    return np.clip(np.rint(image), 1, 255).astype(np.uint8), classes


def _cloud(rng: np.random.Generator, shape: tuple[int, ...], percent: int) -> Floats:
    """How opaque clouds are that hide so much of the ground, 0 to 1 (H, W), soft at their edges."""
    lumps = ndimage.gaussian_filter(rng.standard_normal(shape), 40.0, mode="wrap")
    lumps += 0.25 * ndimage.gaussian_filter(rng.standard_normal(shape), 10.0, mode="wrap") / 4.0
    if percent in (0, 100):
        return np.full(shape, percent / 100.0, np.float32)
    edge = np.quantile(lumps, 1.0 - percent / 100.0)
    return np.asarray(np.clip((lumps - edge) / (0.15 * lumps.std()), 0.0, 1.0), np.float32)
