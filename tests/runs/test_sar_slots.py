"""Days of SAR passes get a mosaic too: over older optical scenes, or over none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import xarray as xr
from distributed import Client

import catalog
from catalog.store.schema import ABSTAINED, NO_OPTICAL, REGISTERED_RADAR_TO_RADAR
from flows.cli.demo_region import DemoRegion
from flows.cli.main import main
from flows.plan.plan import plan_request
from flows.register_region import register_region
from flows.report.drift import read_passes
from flows.run_region import RunResult
from tests.support.regions import arguments_of, files_under, request_of

BEFORE_ALL_OPTICAL, OPTICAL, TWO_DAYS_LATER = "2024-05-20", "2024-06-12", "2024-06-14"


@pytest.fixture(scope="module")
def region(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> DemoRegion:
    """The drawn region, whose SAR pass also came by before there was any optical scene."""
    folder = tmp_path_factory.mktemp("passes")
    shutil.copytree(small_region.catalog.parent, folder, dirs_exist_ok=True)
    items = json.loads((folder / "items.json").read_text())
    for item in [each for each in items["features"] if each["id"].startswith("S1")]:
        properties = item["properties"]
        when = properties["datetime"].replace(TWO_DAYS_LATER, BEFORE_ALL_OPTICAL)
        items["features"].append(
            {**item, "id": f"{item['id']}-MAY", "properties": {**properties, "datetime": when}}
        )
    (folder / "items.json").write_text(json.dumps(items))
    return replace(small_region, catalog=folder / "items.json", start="2024-05-15")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def options(client: Client) -> dict[str, Any]:
    return {"slots": "both", "scheduler": client.scheduler.address}


@pytest.fixture(scope="module")
def result(region: DemoRegion, store: Path, options: dict[str, Any]) -> RunResult:
    return register_region(request_of(region, store, **options))


@pytest.fixture(scope="module")
def mosaic(result: RunResult) -> xr.Dataset:
    return catalog.open_mosaic(result.plan.mosaic_url)


def test_every_pass_has_its_slot(result: RunResult) -> None:
    assert (result.ending, result.report.status) == ("Completed", "registered")
    kinds = {slot.slot: slot.kind for slot in result.plan.slots}
    assert kinds == {BEFORE_ALL_OPTICAL: "sar", OPTICAL: "optical", TWO_DAYS_LATER: "sar"}
    assert [slot.slot for slot in result.report.slots] == list(kinds)
    days, pairs = result.report.accountability.days, result.report.accountability.pairs
    assert (days.done, pairs.expected) == (3, pairs.done + pairs.refused)
    assert result.report.unpaired == ()  # the early optical scene is shown under the last pass


def test_a_pass_without_optical_of_its_day_shows_an_older_one(mosaic: xr.Dataset) -> None:
    day, before = (mosaic.sel(time=each).load() for each in (TWO_DAYS_LATER, OPTICAL))
    assert np.array_equal(day["red"], before["red"], equal_nan=True)
    by_radar = day["quality"] == REGISTERED_RADAR_TO_RADAR
    seen = mosaic["optical_time"].load()[day["optical_scene"]].values[by_radar]
    assert set(seen.astype("datetime64[D]").astype(str)) == {OPTICAL}
    assert float(by_radar.mean()) > 0.97


def test_a_pass_without_any_optical_abstains_and_says_so(
    mosaic: xr.Dataset, result: RunResult
) -> None:
    day = mosaic.sel(time=BEFORE_ALL_OPTICAL).load()
    assert set(np.unique(day["quality"])) <= {ABSTAINED, NO_OPTICAL}
    assert float((day["quality"] == ABSTAINED).mean()) > 0.97
    assert np.isnan(day["red"]).all()
    assert np.isnan(day["vh"]).all()
    alone = [pair for pair in result.report.pairs if pair.slot == BEFORE_ALL_OPTICAL]
    assert [(pair.optical, pair.sar) for pair in alone] == [
        ("", "S1-DEMO-NORTH-MAY"), ("", "S1-DEMO-SOUTH-MAY")
    ]  # fmt: skip
    assert {pair.reason for pair in alone} == {"no memory of its viewing geometry yet"}


def test_items_and_pages_tell_what_a_day_is_made_of(result: RunResult, store: Path) -> None:
    folder = store / result.plan.request.region
    for day, kind, title in (
        (BEFORE_ALL_OPTICAL, "sar", "SAR registered by memory, no optical"),
        (OPTICAL, "optical", "SAR registered to optical"),
        (TWO_DAYS_LATER, "sar", "SAR registered to the latest optical and by memory"),
    ):
        item = pystac.Item.from_file(str(folder / "items" / f"{day}.json"))
        assert item.datetime is not None
        assert item.datetime.date().isoformat() == day
        assert item.properties["tar:slot_kind"] == kind
        assert item.properties["title"].endswith(title)
        page = (folder / "reports" / f"{day}.html").read_text()
        assert item.properties["tar:generation"] in page
    assert (
        "no memory of its viewing geometry yet"
        in (folder / "reports" / f"{BEFORE_ALL_OPTICAL}.html").read_text()
    )


def test_a_finished_request_is_left_alone_whatever_its_window(
    result: RunResult,
    region: DemoRegion,
    store: Path,
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert result.ending == "Completed"
    before = files_under(store)
    request = request_of(region, store, **options)
    assert main([*arguments_of(request), "--slots", "both"]) == 0
    assert "Nothing to do" in capsys.readouterr().out
    one_day = {"start": TWO_DAYS_LATER, "end": TWO_DAYS_LATER}
    assert not plan_request(request_of(region, store, **options, **one_day)).unfinished
    assert files_under(store) == before


def test_a_remake_makes_the_same_day_of_the_same_scenes(
    result: RunResult, region: DemoRegion, store: Path, options: dict[str, Any]
) -> None:
    slots = store / result.plan.request.region / "slots"
    before = {name: content for name, (_, content) in files_under(slots).items()}
    again = register_region(
        request_of(region, store, **options, remake=True, start=OPTICAL, end=OPTICAL)
    )
    assert (again.ending, again.report.status) == ("Completed", "registered")
    assert {name: content for name, (_, content) in files_under(slots).items()} == before


def test_looking_after_a_store_knows_days_without_optical(
    result: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    url = result.plan.mosaic_url
    passes, without = read_passes(url)
    assert {str(each.day) for each in passes} == {OPTICAL, TWO_DAYS_LATER}
    assert [str(day) for day in without] == [BEFORE_ALL_OPTICAL]
    assert main(["drift", url]) == 0
    assert BEFORE_ALL_OPTICAL in capsys.readouterr().out
    assert main(["status", url, "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    told = {row["slot"]: row for row in rows if "slot" in row}
    assert told[BEFORE_ALL_OPTICAL]["pixels"]["abstained"] > 0.97
    assert main(["verify", url]) == 0


def test_a_dry_run_lists_passes_without_optical(
    region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*arguments_of(request_of(region, tmp_path)), "--dry-run", "--slots", "sar"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert f"{BEFORE_ALL_OPTICAL}    –" in told
    assert "2 days" in told
    assert main([*words, "--json", "-"]) == 0
    slots = json.loads(capsys.readouterr().out)["slots"]
    assert [(each["slot"], each["kind"], len(each["sar"])) for each in slots] == [
        (BEFORE_ALL_OPTICAL, "sar", 2), (TWO_DAYS_LATER, "sar", 2)
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())
