"""The demo: a whole region through the real STAC API, Prefect server, Dask processes and Zarr."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from distributed import Client
from prefect.client.schemas.objects import StateType
from rasterio.windows import Window as RasterWindow

import catalog
from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion
from flows.cli.main import main
from flows.plan.plan import Plan, plan_region, plan_request
from flows.progress import Stopwatch
from flows.register_region import register_plan, register_region
from flows.report.schema import encode_report
from tests.support.regions import (
    DemoRun,
    arguments_of,
    files_under,
    last_flow_run,
    request_of,
    without_cubes,
)
from tests.support.small_stac_api import small_stac_api


@pytest.fixture(scope="module")
def store(demo_run: DemoRun) -> Path:
    return demo_run.store


@pytest.fixture(scope="module")
def region(demo_run: DemoRun) -> DemoRegion:
    return demo_run.region


@pytest.fixture(scope="module")
def report(demo_run: DemoRun) -> dict[str, Any]:
    return demo_run.report


def test_every_pair_is_registered(report: dict[str, Any]) -> None:
    assert report["status"] == "registered"
    assert len(report["pairs"]) == 4
    assert all(pair["accepted"] for pair in report["pairs"]), report["pairs"]
    assert all(pair["expected_error_px"] < 1.5 for pair in report["pairs"])
    assert report["tiles"] == 1
    assert (report["shards"], report["shards_written"]) == (1, 1)
    assert {"plan", "estimate", "compose", "publish", "report"} <= report["seconds"].keys()


def test_the_true_misregistration_is_removed(report: dict[str, Any]) -> None:
    truth = report["truth"]
    assert truth["before_px"] >= 2.5
    assert truth["after_px"] <= 0.5
    assert truth["after_p90_px"] <= 1.0
    assert truth["registered_share"] >= 0.97


def test_a_stranger_is_told_what_happened(report: dict[str, Any], demo_run: DemoRun) -> None:
    text = demo_run.told
    assert "3 optical, 2 SAR" in text
    assert "4: 4 accepted, 0 refused" in text
    assert f"{report['truth']['before_px']:.2f} px before" in text
    assert "S2-DEMO-EARLY: the nearest overlapping SAR scene" in text
    assert f'catalog.open_mosaic("{report["mosaic"]}")' in text
    assert f"{report['mosaic']}/preview.png" in text


def test_the_mosaic_is_the_scenes_pixels(report: dict[str, Any], region: DemoRegion) -> None:
    mosaic = catalog.open_mosaic(report["mosaic"]).isel(time=0)
    assert str(mosaic.rio.crs) == "EPSG:32632"
    with rasterio.open(region.catalog.parent / "S2-DEMO-WEST.tif") as scene:
        x, y = mosaic.x.values[50:90], mosaic.y.values[100:140]
        column, row = ~scene.transform @ (x[0], y[0])
        window = RasterWindow(int(column), int(row), 40, 40)
        expected = scene.read(1, window=window).astype(np.float32)
    assert np.array_equal(mosaic["red"].values[100:140, 50:90], expected)


def test_a_day_opens_with_plain_xarray_too(report: dict[str, Any]) -> None:
    (slot,) = report["slots"]
    plain = xr.open_zarr(slot["url"], decode_coords="all", chunks=None)
    mosaic = catalog.open_mosaic(report["mosaic"]).isel(time=0)
    assert plain.rio.crs == mosaic.rio.crs
    assert np.array_equal(plain["vh"].values, mosaic["vh"].values, equal_nan=True)
    assert plain.attrs["optical_scenes"] == ["S2-DEMO-EAST", "S2-DEMO-WEST"]
    assert plain.attrs["weights_sha256"] == report["weights_sha256"]


def test_report_and_picture_lie_beside_the_mosaic(report: dict[str, Any], store: Path) -> None:
    written = json.loads((store / "demo" / "report.json").read_text())
    assert written["pairs"] == report["pairs"]
    assert written["truth"] == report["truth"]
    assert (store / "demo" / "preview.png").read_bytes().startswith(b"\x89PNG")
    item = pystac.Item.from_file(str(store / "demo" / "items" / "2024-06-12.json"))
    assert item.properties["tar:generation"] == report["slots"][0]["generation"]


def test_a_rerun_writes_nothing_and_says_so(
    report: dict[str, Any],
    region: DemoRegion,
    store: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report
    before = files_under(store)
    code = main(
        ["run", "--catalog", str(region.catalog), "--store", str(store),
         "--optical", OPTICAL_COLLECTION, "--sar", SAR_COLLECTION, "--region", "demo",
         "--bbox", *(str(edge) for edge in region.bbox),
         "--start", region.start, "--end", region.end]
    )  # fmt: skip
    assert code == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert files_under(store) == before


def test_the_flow_itself_has_nothing_to_do_either(
    report: dict[str, Any], region: DemoRegion, store: Path
) -> None:
    before = files_under(store)
    again = register_region(request_of(region, store)).report
    assert again.status == "nothing to do"
    assert json.loads(encode_report(again))["pairs"] == report["pairs"]
    assert files_under(store) == before


@pytest.mark.parametrize("by_hand", [True, False])
def test_who_finds_nothing_to_do_shows_the_day_of_a_run_that_was_killed_before_its_cube(
    region: DemoRegion, report: dict[str, Any], store: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], by_hand: bool,
) -> None:  # fmt: skip
    shutil.copytree(store / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns("cube"))
    request = request_of(region, tmp_path)
    if by_hand:
        assert main(arguments_of(request)) == 0
        told = capsys.readouterr().out
        assert "Nothing to do" in told
        day = report["slots"][0]["slot"]
        assert f"the cube of all days was behind, and is not any more: {day}" in told
    else:
        assert register_region(request).report.status == "nothing to do"
    (generation,) = catalog.open_cube(tmp_path / "demo").generation.values
    assert generation == report["slots"][0]["generation"]


def test_an_api_that_is_behind_ends_a_run_partial_and_the_next_run_makes_up_for_it(
    report: dict[str, Any], region: DemoRegion, store: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(store / "demo", tmp_path / "demo")
    with small_stac_api() as api:
        request = request_of(region, tmp_path, stac_api=api.url)
        words = [*arguments_of(request), "--stac-api", api.url]
        api.faults = {"": 403}
        result = register_region(request)
        assert result.ending == "Partial"
        assert result.report.status == "nothing to do"  # which the days are
        assert f"the STAC API {api.url} is behind: POST {api.url}/coll" in result.summary
        assert main(words) == 4
        assert "is behind" in capsys.readouterr().out
        api.faults.clear()
        assert main(words) == 0
        assert f"the STAC API {api.url} shows what is published" in capsys.readouterr().out
        (item,) = api.items["demo"].values()
    assert item["properties"]["tar:generation"] == report["slots"][0]["generation"]


def test_days_that_another_run_published_after_the_plan_was_made_are_left_alone(
    report: dict[str, Any], region: DemoRegion, store: Path, tmp_path: Path
) -> None:
    """A run with a plan may have waited for a run of the same region."""
    plan = plan_request(request_of(region, tmp_path))
    assert plan.unfinished
    shutil.copytree(store / "demo", tmp_path / "demo", dirs_exist_ok=True)
    before = without_cubes(files_under(tmp_path))
    result = register_plan(plan, Stopwatch())
    assert (result.ending, result.report.status) == ("Completed", "nothing to do")
    assert not result.plan.unfinished
    assert len(result.report.pairs) == len(report["pairs"])
    assert without_cubes(files_under(tmp_path)) == before


def test_another_store_gets_the_same_bytes_from_one_plan_and_one_prefect_run(
    report: dict[str, Any],
    region: DemoRegion,
    store: Path,
    tmp_path: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever workers do it, and in whatever order they finish; here from the command line."""
    request = request_of(region, tmp_path, scheduler=client.scheduler.address)
    planned = []

    def plan_and_count(*arguments: Any) -> Plan:
        planned.append(arguments)
        return plan_region(*arguments)

    monkeypatch.setattr("flows.plan.plan.plan_region", plan_and_count)
    assert main(arguments_of(request)) == 0
    assert len(planned) == 1
    run = last_flow_run()
    assert run.name == f"demo {region.start} {region.end}"
    assert run.parameters == {"request": request.model_dump(mode="json")}
    assert run.state is not None
    assert (run.state.type, run.state.name) == (StateType.COMPLETED, "Completed")
    assert run.state.message == f"registered: {tmp_path}/demo"
    told = {"demo/report.json", "demo/metrics.prom"}  # of seconds, and of where the store is
    first, second = (without_cubes(files_under(each)) for each in (store, tmp_path))
    assert first.keys() == second.keys()
    for name in first.keys() - told:
        assert first[name][1] == second[name][1], name
    assert report["slots"][0]["generation"] in "".join(second)
