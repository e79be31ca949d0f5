"""What misregistration is left in a mosaic, judged by windowed mutual information.

    .venv/bin/python -m tests.benchmarks.residual STORE/REGION \\
        --catalog items.json --optical COLLECTION --sar COLLECTION

The judge (`tests/support/judges.py`) shares nothing with the matcher. `before` reads the same SAR
scenes without the displacement. `border` windows hold two optical scenes that touch, `inside`
windows one. Figures are medians over confident windows, in pixels of the mosaic.
"""

from __future__ import annotations

import argparse
from datetime import date

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import catalog
from catalog.archives.search import catalog_api, search
from catalog.grid import Lattice
from tests.support.judges import WINDOW_PX, residuals

OPTICAL = ("red", "green", "blue")


def main() -> None:
    """Print the table."""
    args = arguments()
    mosaic = catalog.open_mosaic(args.mosaic).isel(time=0).load()
    lattice = lattice_of(mosaic)
    extent = lattice.lonlat_extent().bounds
    day = date.fromisoformat(str(mosaic.time.values)[:10])
    with catalog_api(args.catalog) as url:
        optical_scenes = search(url, args.optical, extent, day, day)
        sar_scenes = search(url, args.sar, extent, date(2014, 1, 1), date.max)
    polarisation = next(name for name in ("vh", "vv") if name in mosaic)
    brightness = mosaic[[*OPTICAL]].to_array().mean("variable").values
    after = mosaic[polarisation].values
    before = catalog.composite(sar_scenes, lattice, (polarisation,))[polarisation].values
    before[np.isnan(after)] = np.nan
    shown = catalog.composite(optical_scenes, lattice, OPTICAL)["scene"].values
    print("        confident    all  inside  border   median px")
    for name, image in (("before", before), ("after", after)):
        found = residuals(brightness, image)
        border = np.array([holds_two(shown, *centre) for centre in found.centre_xy])
        medians = [np.median(found.length[chosen]) for chosen in (border | True, ~border, border)]
        print(
            f"{name:8} {len(found.length):8} {medians[0]:6.2f} {medians[1]:7.2f} {medians[2]:7.2f}"
        )


def lattice_of(mosaic: xr.Dataset) -> Lattice:
    """The lattice a mosaic lies on."""
    affine = Affine(*mosaic.rio.transform(recalc=True)[:6])
    return Lattice(GeoBox((mosaic.sizes["y"], mosaic.sizes["x"]), affine, mosaic.rio.crs.to_wkt()))


def holds_two(shown: npt.NDArray[np.int64], x: float, y: float) -> bool:
    """Whether at least two scenes each fill a sixth of the window around (x, y)."""
    half = WINDOW_PX // 2
    window = shown[int(y) - half : int(y) + half, int(x) - half : int(x) + half]
    index, count = np.unique(window, return_counts=True)
    return int((count[index >= 0] > window.size / 6).sum()) > 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mosaic")
    parser.add_argument("--catalog", required=True)
    parser.add_argument("--optical", default="sentinel-2-visual")
    parser.add_argument("--sar", default="sentinel-1-grd-vh")
    return parser.parse_args()


if __name__ == "__main__":
    main()
