"""What a run leaves, in other people's hands: a STAC API, xarray, rioxarray, and an analyst."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pystac
import pystac_client
import pytest
import rasterio
import rioxarray
import xarray as xr
from rio_cogeo.cogeo import cog_validate

import catalog
from catalog.child_server import ending_with_parent, free_port, wait_for_answer
from flows.cli.main import main
from tests.support.regions import DemoRun
from tests.support.slots import rioxarray_is_older_than_affine

EXAMPLE = Path(__file__).parents[1] / "example_analysis.py"


@pytest.fixture(scope="module")
def api(demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The region's own collection and items, served by rustac as a STAC API."""
    program = shutil.which("rustac", path=sysconfig.get_path("scripts"))
    assert program is not None
    region = demo_run.store / "demo"
    items = [pystac.Item.from_file(str(path)) for path in sorted((region / "items").glob("*.json"))]
    for item in items:
        item.make_asset_hrefs_absolute()
        item.clear_links()
        item.collection_id = "demo"
    collection = json.loads((region / "collection.json").read_text())
    folder = tmp_path_factory.mktemp("api")
    contents = {
        "collection.json": {**collection, "links": []},
        "items.json": pystac.ItemCollection(items).to_dict(),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    address = f"127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        ending_with_parent([program, "serve", *(str(folder / name) for name in contents),
                            "--addr", address]),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert wait_for_answer(f"http://{address}/", server, 30)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(10)


@rioxarray_is_older_than_affine
def test_a_day_is_found_by_pystac_client_and_opened(api: str, demo_run: DemoRun) -> None:
    client = pystac_client.Client.open(api)
    collection = client.get_collection("demo")
    assert collection.ext.cube.dimensions["time"].extent[0].startswith(demo_run.day)
    assert "vh" in collection.ext.cube.variables
    assert collection.summaries.to_dict()["proj:code"] == ["EPSG:32632"]
    search = client.search(
        collections=["demo"], bbox=demo_run.region.bbox, datetime=f"{demo_run.day}/.."
    )
    (item,) = search.items()
    assert item.ext.proj.code == "EPSG:32632"
    day = xr.open_zarr(item.assets["mosaic"].href, decode_coords="all", chunks=None)
    assert list(day["vh"].shape) == item.ext.proj.shape
    assert list(day.rio.transform())[:6] == item.ext.proj.transform
    for name, variable in item.ext.cube.variables.items():
        assert tuple(variable.dimensions) == day[name].dims
        assert variable.description == day[name].attrs["long_name"]
    elsewhere = client.search(collections=["demo"], bbox=(0.0, 0.0, 1.0, 1.0))
    assert list(elsewhere.items()) == []


def test_every_pixel_has_its_sar_scene_and_time(demo_run: DemoRun) -> None:
    day = catalog.open_mosaic(demo_run.report["mosaic"]).isel(time=0).compute()
    registered = day.quality.values == 1
    ids = day.sar_id[day.sar_scene].values
    assert set(ids[registered].tolist()) == {"S1-DEMO-NORTH", "S1-DEMO-SOUTH"}
    assert set(ids[~registered].tolist()) <= {""}
    times = day.sar_time[day.sar_scene].values
    assert (times[ids == "S1-DEMO-SOUTH"] == np.datetime64("2024-06-14T05:34:45")).all()
    # North lies north of south.
    rows = np.indices(ids.shape)[0]
    assert rows[ids == "S1-DEMO-NORTH"].mean() < rows[ids == "S1-DEMO-SOUTH"].mean()


@rioxarray_is_older_than_affine
def test_the_export_of_a_run_is_a_valid_cog_in_the_right_place(
    demo_run: DemoRun, tmp_path: Path
) -> None:
    out = tmp_path / "day.tif"
    asked = ["--region", "demo", "--slot", demo_run.day, "--out", str(out)]
    assert main(["export", str(demo_run.store), *asked]) == 0
    valid, errors, _ = cog_validate(out)
    assert valid, errors
    day = catalog.open_mosaic(demo_run.report["mosaic"]).isel(time=0)
    with rioxarray.open_rasterio(out, masked=True, band_as_variable=True) as raster:
        by_name = {raster[name].attrs["long_name"]: raster[name] for name in raster.data_vars}
        assert np.array_equal(by_name["vh"].values, day["vh"].values, equal_nan=True)
        assert np.array_equal(raster.x.values, day.x.values)
        assert np.array_equal(raster.y.values, day.y.values)
    with rasterio.open(out) as raster:
        assert json.loads(raster.tags()["TAR_SAR_SCENES"]) == ["S1-DEMO-NORTH", "S1-DEMO-SOUTH"]


@rioxarray_is_older_than_affine
def test_the_example_analysis_runs_and_finds_the_mosaic_registered(
    demo_run: DemoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOSAIC", demo_run.report["mosaic"])
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLE))
    assert found["sure_share"] > 0.9
    assert found["before_px"] > 0.5
    assert 1.5 < float(found["gap"].median()) < 2.5
    assert (tmp_path / "example.png").stat().st_size > 10_000
