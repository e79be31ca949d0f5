"""How much the registration of one place differs from month to month, and whose motion that is.

    .venv/bin/python -m tests.benchmarks.series ../shared/data/series

The ground does not move, so whatever the displacement makes of it from month to month is scatter:
of the engine, or of the files, each of which was placed on the grid by itself. OpenCV's
enhanced correlation coefficient (Evangelidis and Psarakis, PAMI 2008), which shares nothing with
the engine, tells how far each month's SAR lies from the SAR of a reference month, and its optical
image from the optical one. What the engine finds between the sensors, less both, is what it would
have found had no file moved.

Per place, medians over the months of the distance from the place's median displacement, pixels:
`as delivered` each month's SAR to its own optical image; `one optical` to one optical image for
all months; `files` the motion of the files alone, without the engine; `unexplained` the engine's
answers of the first kind less that motion. `tests.benchmarks.series_flow` asks the same of whole
runs, with their memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio

from tar_engine import Registrar
from tar_engine.training.evaluate import align_columns

Floats = npt.NDArray[np.float32]
Shift = npt.NDArray[np.float64]
Months = dict[int, tuple[Floats, Floats]]
"""Optical (3, H, W) and SAR (1, H, W) by month."""

PRIOR_PX = 32.0  # as in a run
SMOOTHED_PX = 5  # side of the Gaussian that quiets speckle before months are compared
LEAST_ALIKE = 0.3  # correlation of two months; below it they show different things


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series_dir", type=Path, help="folders with MM_optical.tif and MM_sar.tif")
    parser.add_argument("--reference", type=int, default=9, help="month that others are held to")
    args = parser.parse_args()
    registrar = Registrar.load()
    places = sorted(folder for folder in args.series_dir.iterdir() if folder.is_dir())
    found = {
        place.name: spreads_of(registrar, read_months(place), args.reference) for place in places
    }
    head = ["place", "answered", "as delivered", "one optical", "files", "unexplained"]
    rows = [
        [name, str(answered), *(f"{spread:.2f}" for spread in spreads or [np.nan] * 4)]
        for name, (answered, spreads) in found.items()
    ]
    medians = np.median([spreads for _, spreads in found.values() if spreads], axis=0)
    print(align_columns([head, *rows, ["median", "", *(f"{spread:.2f}" for spread in medians)]]))


def read_months(place: Path) -> Months:
    """Optical and SAR, (bands, H, W) each, of every month of a place."""
    months = sorted(int(path.name[:2]) for path in place.glob("*_sar.tif"))
    return {
        month: (read(place / f"{month:02d}_optical.tif"), read(place / f"{month:02d}_sar.tif"))
        for month in months
    }


def read(path: Path) -> Floats:
    """A raster as it is stored, (bands, H, W)."""
    with rasterio.open(path) as source:
        image: Floats = source.read().astype(np.float32)
    return image


def spreads_of(registrar: Registrar, months: Months, reference: int) -> tuple[int, list[float]]:
    """How many months were answered, and the four spreads of the table, pixels; none of no month.

    Months whose files the correlation cannot compare are left out, of all four alike.
    """
    optical_there, sar_there = months[reference]
    delivered, one_optical, files = [], [], []
    for optical, sar in months.values():
        own = registrar.register(optical, sar, max_offset_px=PRIOR_PX)
        shared = registrar.register(optical_there, sar, max_offset_px=PRIOR_PX)
        sar_moved = motion(sar_there[0], sar[0])
        optical_moved = motion(optical_there.mean(axis=0), optical.mean(axis=0))
        if own.accepted and shared.accepted and sar_moved is not None and optical_moved is not None:
            delivered.append(own.displacement)
            one_optical.append(shared.displacement)
            files.append(
                np.broadcast_to((sar_moved - optical_moved)[:, None, None], own.displacement.shape)
            )
    if not delivered:
        return 0, []
    unexplained = [field - moved for field, moved in zip(delivered, files, strict=True)]
    return len(delivered), [spread(each) for each in (delivered, one_optical, files, unexplained)]


def motion(there: Floats, here: Floats) -> Shift | None:
    """How far (dx, dy) what `there` (H, W) shows has moved in `here`, pixels; None if unsure."""
    warp = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-5)
    try:
        alike, warp = cv2.findTransformECC(
            there, here, warp, cv2.MOTION_TRANSLATION, stop, None, SMOOTHED_PX
        )
    except cv2.error:  # it does not converge on images that show different things
        return None
    return warp[:, 2].astype(np.float64) if alike > LEAST_ALIKE else None


def spread(fields: list[npt.NDArray[np.floating]]) -> float:
    """Median over fields (2, H, W) of the median distance from their median."""
    typical = np.median(fields, axis=0)
    return float(np.median([np.median(np.hypot(*(field - typical))) for field in fields]))


if __name__ == "__main__":
    main()
