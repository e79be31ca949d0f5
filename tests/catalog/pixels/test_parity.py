"""Windows against rasterio's own WarpedVRT: the same bits on the files' pixels, close elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from scipy import ndimage

import catalog
from catalog.grid import Lattice, Window, lattice_for
from tests.support.scenes import CORNER, UTM, noise, read_window, same, scene_of, write_raster

SIDE = 200
BANDS = ("red", "green", "blue")


def warped_by_rasterio(
    path: Path, lattice: Lattice, window: Window, **options: Any
) -> NDArray[np.float32]:
    """A window as a plain WarpedVRT has it: NaN where its mask says so."""
    geobox = lattice.window_geobox(window)
    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source, crs=lattice.crs.to_wkt(), transform=geobox.affine, height=window.height,
            width=window.width, resampling=Resampling.bilinear, **options,
        ) as warped,
    ):  # fmt: skip
        values = warped.read().astype(np.float32)[: len(BANDS)]
        values[:, warped.dataset_mask() == 0] = np.nan
    return values


def aligned_at(x: int, y: int) -> Lattice:
    affine = Affine(10.0, 0.0, CORNER[0] + 10 * x, 0.0, -10.0, CORNER[1] - 10 * y)
    return Lattice(GeoBox((SIDE, SIDE), affine, UTM))


FILES: dict[str, dict[str, Any]] = {
    "8 bit": {"dtype": "uint8"},
    "16 bit with nodata": {"dtype": "uint16", "nodata": 0},
    "floats with NaN": {"dtype": "float32", "nodata": float("nan")},
    "alpha": {"dtype": "uint8", "alpha": True},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, hole = tmp_path_factory.mktemp("files"), np.zeros((SIDE, SIDE), bool)
    hole[20:60, 100:] = True
    written = {}
    for name, kind in FILES.items():
        values, profile = noise((3, SIDE, SIDE), kind["dtype"]), dict(kind)
        del profile["dtype"]
        if "nodata" in kind:
            values[:, hole] = kind["nodata"]
            values[0, 70:80] = kind["nodata"]  # in one band alone it is a value
        if profile.pop("alpha", False):
            opaque = np.where(hole, 0, 255).astype(np.uint8)[None]
            values, profile = np.concatenate([values, opaque]), {"photometric": "RGB"}
            profile["alpha"] = "YES"
        written[name] = write_raster(folder / f"{len(written)}.tif", values, **profile)
    return written


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(FILES)),
    at=st.tuples(st.integers(-50, 150), st.integers(-50, 150)),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
)
def test_windows_on_the_files_pixels_have_its_bits(
    files: dict[str, Path], name: str, at: tuple[int, int], size: tuple[int, int]
) -> None:
    """Inside the file, over its edge, and beside it."""
    lattice, window = aligned_at(3, -4), Window(*at, *size)
    ours = read_window([scene_of(files[name], BANDS)], lattice, window, BANDS)
    # NaN tells by itself where a view has no data; elsewhere it takes an alpha band.
    options: dict[str, Any] = {} if name in ("alpha", "floats with NaN") else {"add_alpha": True}
    if name == "16 bit with nodata":  # of all bands, not of each
        options["warp_extras"] = {"UNIFIED_SRC_NODATA": "YES"}
    theirs = warped_by_rasterio(files[name], lattice, window, **options)
    theirs[:, np.isnan(theirs).any(axis=0)] = np.nan  # a composite shows whole pixels
    assert same(ours, theirs)
    if (inside := window.clip(lattice.shape)) is not None:
        rows, columns = inside.slices
        image = catalog.composite([scene_of(files[name], BANDS)], lattice, BANDS)
        cut = image[[*BANDS]].isel(y=rows, x=columns).to_dataarray().values
        y, x = inside.y0 - window.y0, inside.x0 - window.x0
        assert same(cut, theirs[:, y : y + inside.height, x : x + inside.width])


def test_a_subset_of_bands_is_no_data_where_all_of_the_file_is(files: dict[str, Path]) -> None:
    found = scene_of(files["16 bit with nodata"], BANDS)
    lattice = aligned_at(0, 0)
    (red,) = read_window([found], lattice, lattice.window, ("red",))
    assert (red[70:80] == 0).all()
    assert np.isnan(red[20:60, 100:]).all()


@pytest.mark.parametrize("scaled", [1.0, 0.0001])
@pytest.mark.parametrize("grid", ["half a pixel", "20 m", "another zone", "mercator"])
def test_windows_on_other_grids_are_rasterios(tmp_path: Path, grid: str, scaled: float) -> None:
    """Reflectance over smooth ground, to a thousandth: both approximate the way between grids."""
    rough = np.random.default_rng(2).normal(0.2, 0.05, (3, 24, 24))
    smooth = ndimage.zoom(rough, (1, 10, 10), order=3)
    stored = np.rint(smooth * 10_000).astype(np.uint16) if scaled != 1 else smooth.astype("f4")
    path = write_raster(tmp_path / "x.tif", stored)
    found = scene_of(path, BANDS, scale=scaled)
    box = found.footprint.bounds
    lattice = {
        "half a pixel": lambda: Lattice(
            GeoBox((240, 240), Affine(10, 0, CORNER[0] + 5, 0, -10, CORNER[1] - 5), UTM)
        ),
        "20 m": lambda: lattice_for(box, UTM, 20.0),
        "another zone": lambda: lattice_for(box, "EPSG:32612", 10.0),
        "mercator": lambda: lattice_for(box, "EPSG:3857", 12.0),
    }[grid]()
    window = Window(20, 20, lattice.shape[0] - 40, lattice.shape[1] - 40)
    ours = read_window([found], lattice, window, BANDS)
    theirs = warped_by_rasterio(path, lattice, window, tolerance=0.001, add_alpha=True) * scaled
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert both.mean() > 0.8
    assert np.abs(ours - theirs)[both].max() <= 1e-3
    assert (np.isfinite(ours) == np.isfinite(theirs)).mean() > 0.99
