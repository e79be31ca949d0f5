"""Series of months become pairs of two dates; what shows other ground is left out, and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cli.main import main
from flows.cli.training_series import read_pairs, stretched
from tar_engine import Registrar
from tar_engine.errors import InputError
from tar_engine.training.evaluate import register_case
from tar_engine.training.protocols import PROTOCOLS, make_case
from tests.support.scenes import noise, write_raster

REAL_SERIES = Path(__file__).resolve().parents[4] / "shared" / "data" / "series"
SIDE = 64
MONTHS = [f"{month:02}" for month in range(1, 5)]


def write_series(folder: Path, place: str, stray: str = "") -> None:
    """Four months of one place: each optical image brighter, SAR in decibels with speckle."""
    ground = np.random.default_rng(1).normal(0, 3, (1, SIDE // 8, SIDE // 8)).repeat(8, 1)
    ground = ground.repeat(8, 2)
    (folder / place).mkdir()
    for month in MONTHS:
        speckle = np.random.default_rng(int(month)).normal(0, 1, ground.shape)
        sar = -12 + speckle + (0 if month == stray else ground)
        optical = 1000 * int(month) + noise((3, SIDE, SIDE)).astype(np.uint16)
        write_raster(folder / place / f"{month}_sar.tif", sar.astype(np.float32), crs=None)
        write_raster(folder / place / f"{month}_optical.tif", optical, crs=None)


def test_each_month_s_sar_meets_the_optical_image_of_half_a_year_later(tmp_path: Path) -> None:
    write_series(tmp_path, "a")
    data, left_out = read_pairs(tmp_path)
    assert left_out == ()
    assert data.names == tuple(
        f"series/a_sar{month}_optical{away}"
        for month, away in zip(MONTHS, MONTHS[2:] + MONTHS[:2], strict=True)
    )
    assert data.optical.shape == (4, 3, SIDE, SIDE)
    assert data.sar.shape == (4, 1, SIDE, SIDE)
    assert data.optical.dtype == data.sar.dtype == torch.uint8


def test_a_month_that_shows_other_ground_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "series").mkdir()
    write_series(tmp_path / "series", "a", stray="02")
    data, left_out = read_pairs(tmp_path / "series")
    assert data.names == ("series/a_sar01_optical03", "series/a_sar03_optical01")
    assert left_out == ("a, month 02: shows other ground",)
    assert main(["train", str(tmp_path / "series"), "--pack", str(tmp_path / "pairs.npz")]) == 0
    told = capsys.readouterr()
    assert "2 pairs packed" in told.out
    assert "left out: a, month 02: shows other ground" in told.err


def test_bands_are_stretched_each_by_itself_and_nothing_becomes_nodata() -> None:
    ramp = torch.arange(100.0 * 100).view(1, 100, 100)
    seen = stretched(torch.cat([ramp, ramp / 1000 - 20]))
    assert torch.equal(seen[0], seen[1])
    assert (seen.min(), seen.max()) == (1, 255)
    assert (seen[0].float().diff(dim=1) >= 0).all()
    assert (stretched(torch.full((1, 9, 9), 7.0)) == 1).all()


def test_a_series_with_a_file_missing_is_named(tmp_path: Path) -> None:
    write_series(tmp_path, "a")
    (tmp_path / "a" / "03_optical.tif").unlink()
    with pytest.raises(InputError, match=r"03_optical\.tif"):
        read_pairs(tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_SERIES.exists(), reason=f"REAL DATA MISSING: {REAL_SERIES}")
def test_dunes_half_a_year_apart_are_found_at_a_closer_look() -> None:
    """A pair that neither the usual search nor any rotation finds."""
    torch.set_num_threads(1)
    data, _ = read_pairs(REAL_SERIES)
    case = make_case(data, data.names.index("series/place_05_sar01_optical07"), PROTOCOLS["season"])
    found = register_case(Registrar.load(device="cpu"), case, PROTOCOLS["season"])
    assert found["accepted"], found["reason"]
    assert found["error_px"] < min(2.0, 2 * found["expected_error_px"])
