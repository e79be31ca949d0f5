"""Thermal noise: both forms of its table, real ones, and images freed of it."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from catalog.archives.items import Asset
from catalog.archives.providers import Access
from catalog.errors import SceneReadError
from catalog.grid import lattice_for
from catalog.pixels.scene import probe, source_window
from catalog.sentinel1.annotation import AnnotationError
from catalog.sentinel1.noise import LEAST_SIGMA_NOUGHT, noise_table
from tests.support.grd import Radar, flat, region, write_grd
from tests.support.grd_annotations import (
    noise_power,
    noise_scallop,
    sigma_nought,
    write_annotation,
    write_calibration,
    write_noise,
)
from tests.support.scenes import REAL_PRODUCTS, require_products, scene

Floats = NDArray[np.float64]
SMALL = Radar(flat, shape=(700, 900), points=(5, 6))
SWATH_PX = 300
SEA = 10**-2.2  # sigma nought of a calm one, about as much as the noise


def crossings(radar: Radar) -> tuple[Floats, Floats]:
    height, width = radar.shape
    return np.arange(height, dtype=float), np.arange(width, dtype=float)


@pytest.mark.parametrize("older", [False, True])
def test_the_table_is_the_noise(tmp_path: Path, older: bool) -> None:
    rows, columns = crossings(SMALL)
    table = noise_table(str(write_noise(tmp_path / "n.xml", SMALL, older)), Access())
    expected = noise_power(rows, columns, SWATH_PX)
    if older:
        expected /= noise_scallop(rows[:, None], columns[None, :], SWATH_PX)
    np.testing.assert_allclose(table.at(rows, columns), expected, rtol=2e-3)
    # Between pixels too, as where several are averaged.
    between = table.at(np.array([5.5, 698.5]), np.array([0.5, 150.5, 898.5]))
    np.testing.assert_allclose(between, expected[[5, 698]][:, [0, 150, 898]], rtol=1e-2)


def test_real_tables_of_both_forms_are_read(tmp_path: Path) -> None:
    require_products()
    levels = []
    for product in sorted(REAL_PRODUCTS.glob("*.zip")):
        with zipfile.ZipFile(product) as files:
            name = next(n for n in files.namelist() if "/noise-" in n and "-vh-" in n)
            (tmp_path / "n.xml").write_bytes(files.read(name))
        noise_table.cache_clear()
        table = noise_table(str(tmp_path / "n.xml"), Access())
        levels.append(table.at(np.array([8_000.0]), np.array([9_000.0]))[0, 0])
        blocks = [block.first_and_last_pixel for block in table.along_azimuth]
        assert all(left[1] + 1 == right[0] for left, right in itertools.pairwise(blocks))
    print(f"\nnoise of VH in mid-swath: {levels}")
    assert levels[:2] == [0, 0]  # of 2015, before it was told
    assert 300 < levels[2] < 2_000


def sea_with(tmp_path: Path, *, noise: bool, noise_removed: bool = False) -> Floats:
    """Sigma nought (h, w) as it is read of an even sea that was received with noise."""
    rows, columns = crossings(SMALL)
    received = SEA * sigma_nought(rows, columns) ** 2 + noise_power(rows, columns, SWATH_PX)
    looks = 60.0
    speckle = np.random.default_rng(3).gamma(looks, 1 / looks, received.shape)
    numbers = np.rint(np.sqrt(received * speckle)).astype(np.uint16)[None]
    asset = Asset(
        "vv",
        str(write_grd(tmp_path / "vv.tif", SMALL, numbers)),
        ("vv",),
        annotation=str(write_annotation(tmp_path / f"p{noise_removed}.xml", SMALL, noise_removed)),
        calibration=str(write_calibration(tmp_path / "c.xml", SMALL)),
        noise=str(write_noise(tmp_path / "n.xml", SMALL)) if noise else None,
    )
    lattice = lattice_for(region(7))
    part = source_window(
        scene("S1", region(6), assets=(asset,)), lattice, lattice.window.positions()
    )
    assert part is not None
    return part[0][0].astype(np.float64)


def unevenness_db(image: Floats) -> tuple[float, float]:
    """Of the means of columns and of lines, 20 at a time: the largest less the smallest."""
    height, width = image.shape
    cut = image[: height // 20 * 20, : width // 20 * 20]
    means = cut.reshape(height // 20, 20, width // 20, 20).mean(axis=(1, 3))
    columns, lines = (float(np.ptp(10 * np.log10(means.mean(axis=axis)))) for axis in (0, 1))
    return columns, lines


def test_scalloping_and_the_profile_along_range_are_gone(tmp_path: Path) -> None:
    before = unevenness_db(sea_with(tmp_path, noise=False))
    cleaned = sea_with(tmp_path, noise=True)
    after = unevenness_db(cleaned)
    print(f"\nuneven by column and line, dB: {before} with noise, {after} without")
    assert min(before) > 0.3
    assert max(after) <= 0.1
    assert cleaned.mean() == pytest.approx(SEA, rel=0.01)


def test_noise_that_the_processor_has_removed_stays_removed(tmp_path: Path) -> None:
    untouched = sea_with(tmp_path, noise=False)
    told = sea_with(tmp_path, noise=True, noise_removed=True)
    assert np.array_equal(untouched, told)


def test_what_is_darker_than_the_noise_is_dark_and_still_data(tmp_path: Path) -> None:
    numbers = np.full((1, *SMALL.shape), 20, np.uint16)
    asset = Asset(
        "vv",
        str(write_grd(tmp_path / "vv.tif", SMALL, numbers)),
        ("vv",),
        calibration=str(write_calibration(tmp_path / "c.xml", SMALL)),
        noise=str(write_noise(tmp_path / "n.xml", SMALL)),
    )
    lattice = lattice_for(region(3))
    found = scene("S1", region(6), assets=(asset,))
    part = source_window(found, lattice, lattice.window.positions())
    assert part is not None
    assert part[0] == pytest.approx(LEAST_SIGMA_NOUGHT)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<noiseRangeVector>", "<other>", "has no vectors of noiseRangeLut"),
        ("<noiseRangeLut>", "<noiseRangeLut>1 ", "values of noiseRangeLut from zero up"),
        ("<noiseAzimuthLut>", "<noiseAzimuthLut>-1 ", "has 141 rising lines and 142 factors"),
        ("<firstAzimuthLine>0", "<firstAzimuthLine>one", "a vector of noiseAzimuthLut is"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = write_noise(tmp_path / "n.xml", SMALL)
    text = path.read_text().replace(old, new)
    path.write_text(text.replace("</noiseRangeVector>", "</other>") if "other" in new else text)
    with pytest.raises(AnnotationError, match=says) as caught:
        noise_table(str(path), Access())
    assert str(path) in str(caught.value)
    numbers = np.full((1, *SMALL.shape), 20, np.uint16)
    calibration = str(write_calibration(tmp_path / "c.xml", SMALL))
    grd = str(write_grd(tmp_path / "vv.tif", SMALL, numbers))
    asset = Asset("vv", grd, ("vv",), calibration=calibration, noise=str(path))
    with pytest.raises(SceneReadError, match=says):
        probe(scene("S1", region(6), assets=(asset,)))
