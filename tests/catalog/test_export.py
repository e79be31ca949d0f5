"""Export: the slot's pixels in a valid cloud-optimised GeoTIFF, complete or not there at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from rio_cogeo.cogeo import cog_validate

from catalog.errors import ArgumentError
from catalog.export import export_cog, published_slot
from catalog.grid import Lattice, Window
from catalog.store.overviews import half_resolution
from catalog.store.slot import SlotStore
from flows.cli.main import main
from tests.support.scenes import same
from tests.support.slots import LATTICE, published, rioxarray_is_older_than_affine


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SlotStore:
    return published(tmp_path_factory.mktemp("store"))


@rioxarray_is_older_than_affine
def test_all_that_is_measured_is_exported(store: SlotStore, tmp_path: Path) -> None:
    out = tmp_path / "day.tif"
    names = export_cog(store, out)
    assert names == ("red", "green", "blue", "vh", "dx", "dy", "expected_error")
    valid, errors, _ = cog_validate(out)
    assert valid, errors
    assert list(tmp_path.iterdir()) == [out]
    slot = store.open()
    with rasterio.open(out) as raster:
        assert raster.descriptions == names
        assert raster.dtypes == ("float32",) * len(names)
        assert np.isnan(raster.nodata)
        assert raster.crs == rasterio.crs.CRS.from_epsg(32611)
        assert raster.transform == LATTICE.geobox.affine
        assert [each.name for each in raster.colorinterp[:4]] == [
            "red", "green", "blue", "undefined",
        ]  # fmt: skip
        for index, name in enumerate(names, start=1):
            assert same(raster.read(index), slot[name].values)
            assert raster.tags(index)["long_name"] == slot[name].attrs["long_name"]
        tags = raster.tags()
        assert tags["TAR_GENERATION"] == store.generation
        assert tags["TAR_SLOT"] == store.slot
        assert store.slot in tags["TIFFTAG_IMAGEDESCRIPTION"]
    opened = rioxarray.open_rasterio(out, masked=True)
    assert opened.rio.transform() == LATTICE.geobox.affine
    opened.close()


def test_flags_stay_whole_numbers_in_a_file_of_their_own(store: SlotStore, tmp_path: Path) -> None:
    slot = store.open()
    export_cog(store, tmp_path / "quality.tif", ["quality"])
    with rasterio.open(tmp_path / "quality.tif") as raster:
        assert (raster.dtypes, raster.nodata) == (("uint8",), 0)
        assert same(raster.read(1), slot["quality"].values)
        assert raster.tags(1)["flags"].startswith("0 no_optical, 1 registered")
    export_cog(store, tmp_path / "both.tif", ["vh", "sar_scene"])
    with rasterio.open(tmp_path / "both.tif") as raster:
        assert raster.descriptions == ("vh", "sar_scene")
        assert np.array_equal(raster.read(2), slot["sar_scene"].values)


def test_a_large_day_has_overviews_that_are_means(tmp_path: Path) -> None:
    # Even sides: otherwise GDAL's overview pixels are a little less than two pixels wide.
    lattice = Lattice(LATTICE.window_geobox(Window(0, 0, 440, 640)), 256)
    store = published(tmp_path, lattice)
    out = tmp_path / "day.tif"
    export_cog(store, out, ["vh"])
    valid, errors, _ = cog_validate(out, strict=True)
    assert valid, errors
    with rasterio.open(out) as raster:
        assert raster.overviews(1) == [2]
    with rasterio.open(out, overview_level=0) as half:
        expected = half_resolution(store.open()["vh"].values)
        np.testing.assert_allclose(half.read(1), expected, rtol=1e-5)


def test_an_older_file_stays_until_the_new_one_is_complete(
    store: SlotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "day.tif"
    out.write_bytes(b"older")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rasterio.shutil.copy", full_disk)
    with pytest.raises(ArgumentError, match="No space left") as caught:
        export_cog(store, out)
    assert caught.value.argument == "out"
    assert out.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_exported_is_told(store: SlotStore, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"swir asked for; there are blue, .*vh"):
        export_cog(store, tmp_path / "x.tif", ["red", "swir"])
    with pytest.raises(ArgumentError, match=r"out: .* cannot be written"):
        export_cog(store, tmp_path / "no" / "folder" / "x.tif")
    with pytest.raises(ArgumentError, match=r"is not published .* there are: 2020-11-04"):
        published_slot(store.store_url, "la", "2020-11-05")
    assert list(tmp_path.iterdir()) == []


def test_the_command_needs_no_region_where_there_is_one(
    store: SlotStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "day.tif"
    asked = ["--slot", "2020-11-04", "--out", str(out), "--bands", "vh", "quality"]
    assert main(["export", store.store_url, *asked]) == 0
    assert f"{out}: vh, quality" in capsys.readouterr().out
    assert main(["export", store.store_url, "--region", "ny", *asked]) == 2
    assert "name one of those" in capsys.readouterr().err
    item = json.loads(Path(store.item_url).read_text())
    with rasterio.open(out) as raster:
        assert raster.tags()["TAR_GENERATION"] == item["properties"]["tar:generation"]
