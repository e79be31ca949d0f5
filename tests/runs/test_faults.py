"""What must hold when things go wrong: kills, broken files, foreign scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from prefect.client.schemas.objects import StateType

import catalog
from catalog.errors import SceneReadError, StoreError
from flows.cli.demo_region import DemoRegion
from flows.cli.main import main
from flows.cli.terminal import FAILED, PARTIAL
from flows.plan.request import RegionRequest
from flows.register_region import register_region
from flows.stages.compose import ShardJob, compose_shard
from flows.stages.group_matches import TileMatches
from flows.stages.match import Tile, TileImages, match_tiles
from tests.support.kills import start_flow
from tests.support.regions import arguments_of, files_under, last_flow_run, request_of

PATIENCE_SECONDS = 240  # with a machine that has other things to do


def copy_of(region: DemoRegion, folder: Path) -> DemoRegion:
    """The region's catalogue and scenes in a folder of their own, to be broken."""
    source = region.catalog.parent
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return DemoRegion(
        folder / region.catalog.name, folder / region.truth.name, region.bbox, "2024-06-01",
        "2024-06-15",
    )  # fmt: skip


def test_a_run_that_failed_halfway_is_continued_and_readers_see_all_or_nothing(
    small_region: DemoRegion, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a reader and to the next run it is one that was killed, which takes longer to try."""

    def compose(job: ShardJob) -> None:
        if job.shard.col == 1:
            raise StoreError("the power is out", "shard 0.1")
        compose_shard(job)

    bbox = southern_part(small_region, 0.1)
    request = request_of(
        small_region, tmp_path, bbox=bbox, resolution=1.9, scheduler=client.scheduler.address
    )
    with monkeypatch.context() as patch:
        patch.setattr("flows.tasks.compose_shard", compose)
        patch.setattr("flows.cluster.retries.may_pass", lambda _: False)
        assert register_region(request).ending == "Failed"
    (receipts,) = tmp_path.rglob("*.receipts")
    require_continued(tmp_path, receipts, request)


@pytest.mark.faults
def test_a_killed_run_is_continued_and_readers_see_all_or_nothing(
    small_region: DemoRegion, tmp_path: Path, client: Client
) -> None:
    store = tmp_path / "store"
    request = request_of(
        small_region, store, bbox=southern_part(small_region, 0.22), resolution=1.9
    )
    process = start_flow(request, tmp_path / "run.py")
    try:
        receipts = _wait_for_receipts(process, store)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    here = request.model_copy(update={"scheduler": client.scheduler.address})
    require_continued(store, receipts, here)


def require_continued(store: Path, receipts: Path, request: RegionRequest) -> None:
    """Half of a day is nothing to readers, and another run makes no more than the other half."""
    with pytest.raises(StoreError, match="no mosaic is published"):
        catalog.open_mosaic(str(store / "demo"))
    finished = {path: path.stat().st_mtime_ns for path in receipts.iterdir()}
    estimates = {path: path.stat().st_mtime_ns for path in store.rglob("*.npz")}
    assert len(finished) == 1
    assert len(estimates) == 1

    report = register_region(request).report
    assert report.tiles == 0
    assert (report.shards_written, report.shards_kept) == (1, 1)
    for path, written in {**finished, **estimates}.items():
        assert path.stat().st_mtime_ns == written, f"{path.name} was made again"
    mosaic = catalog.open_mosaic(str(store / "demo"))
    assert float((mosaic["quality"] != 0).mean()) > 0.97  # every shard is there


def southern_part(region: DemoRegion, share: float) -> tuple[float, float, float, float]:
    """In fine pixels it has a wide shard, and a narrow one that is finished before it."""
    west, south, east, north = region.bbox
    return west, south, east, south + share * (north - south)


def _wait_for_receipts(process: subprocess.Popen[bytes], store: Path) -> Path:
    """The folder of receipts, as soon as the first shard is finished."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for folder in store.rglob("*.receipts"):
            if any(folder.glob("*.json")):
                return folder
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    raise AssertionError(f"no shard was finished in {PATIENCE_SECONDS} s")


def test_broken_files_are_reported_and_the_rest_goes_on(
    small_region: DemoRegion, tmp_path: Path, client: Client
) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    region = copy_of(small_region, scenes)
    truncated = scenes / "S1-DEMO-SOUTH.tif"
    truncated.write_bytes(truncated.read_bytes()[:-4000])
    (scenes / "S2-DEMO-EARLY.tif").unlink()
    request = request_of(region, tmp_path / "store", scheduler=client.scheduler.address)
    report = register_region(request).report
    assert report.status == "registered"
    assert {pair.sar for pair in report.pairs} == {"S1-DEMO-NORTH"}
    assert all(pair.accepted for pair in report.pairs)
    reasons = {left.scene: left.reason for left in report.unpaired}
    assert reasons.keys() == {"S1-DEMO-SOUTH", "S2-DEMO-EARLY"}
    assert "S1-DEMO-SOUTH.tif" in reasons["S1-DEMO-SOUTH"]
    assert "S2-DEMO-EARLY.tif" in reasons["S2-DEMO-EARLY"]
    mosaic = catalog.open_mosaic(report.mosaic)
    quality = mosaic["quality"].isel(time=0).values
    assert (quality[:150] == 1).mean() > 0.95
    assert (quality[-100:] == 3).mean() > 0.95  # optical is there, its SAR is not


def test_a_scene_that_breaks_only_in_compose_is_dropped_and_a_rerun_has_nothing_to_do(
    small_region: DemoRegion, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compose(job: ShardJob) -> None:
        if any(scene.id == "S1-DEMO-SOUTH" for layer in job.layers for scene in layer.sar):
            raise SceneReadError("block 7 is broken", "S1-DEMO-SOUTH", "south.tif")
        compose_shard(job)

    monkeypatch.setattr("flows.tasks.compose_shard", compose)
    request = request_of(small_region, tmp_path, scheduler=client.scheduler.address)
    report = register_region(request).report
    assert report.status == "registered"
    assert {pair.sar for pair in report.pairs} == {"S1-DEMO-NORTH"}
    reasons = {left.scene: left.reason for left in report.unpaired}
    assert reasons["S1-DEMO-SOUTH"] == "block 7 is broken"
    assert report.tiles == 2  # with the scene, and without

    before = files_under(tmp_path)
    again = register_region(request).report
    assert again.status == "nothing to do"
    assert again.pairs == report.pairs
    assert files_under(tmp_path) == before


def test_a_report_that_a_crash_swallowed_is_made_up_for(
    small_region: DemoRegion,
    tmp_path: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def crash(*_: object) -> None:
        raise StoreError("the power is out", "report.json")

    request = request_of(small_region, tmp_path, scheduler=client.scheduler.address)
    with monkeypatch.context() as patch:
        patch.setattr("flows.cluster.retries.may_pass", lambda _: False)
        patch.setattr("flows.report.save.save_report", crash)
        with pytest.raises(StoreError, match="the power is out"):
            register_region(request)
    told = tmp_path / "demo" / "report.json", tmp_path / "demo" / "preview.png"
    assert not any(path.exists() for path in told)
    mosaic = files_under(tmp_path)

    arguments = arguments_of(request)
    assert main(arguments) == 0
    assert "report.json was missing" in capsys.readouterr().out
    assert all(path.exists() for path in told)
    assert len(json.loads(told[0].read_text())["pairs"]) == 4
    assert files_under(tmp_path).items() >= mosaic.items()
    assert main(arguments) == 0
    assert "report.json" not in capsys.readouterr().out

    for path in told:
        path.unlink()
    assert register_region(request).report.status == "nothing to do"  # and so from Prefect's UI
    assert all(path.exists() for path in told)


def test_a_region_of_foreign_scenes_is_refused_and_says_why(
    small_region: DemoRegion, tmp_path: Path, client: Client
) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    region = copy_of(small_region, scenes)
    _turn_over(scenes / "S1-DEMO-NORTH.tif")
    _turn_over(scenes / "S1-DEMO-SOUTH.tif")
    request = request_of(region, tmp_path / "store", scheduler=client.scheduler.address)
    report = register_region(request).report
    assert [pair.accepted for pair in report.pairs] == [False] * 4
    assert all(pair.reason for pair in report.pairs)
    mosaic = catalog.open_mosaic(report.mosaic).isel(time=0)
    assert (mosaic["quality"].values == 2).mean() > 0.95
    assert mosaic["vh"].isnull().all()
    assert (tmp_path / "store" / "demo" / "preview.png").exists()


def _turn_over(path: Path) -> None:
    """Rewrite a raster with its rows and columns reversed: texture without its place."""
    import rasterio

    with rasterio.open(path) as raster:
        profile, values = raster.profile, raster.read()
    with rasterio.open(path, "w", **profile | {"driver": "GTiff"}) as raster:
        raster.write(values[:, ::-1, ::-1])


def test_a_region_without_any_pair_ends_well(small_region: DemoRegion, tmp_path: Path) -> None:
    report = register_region(request_of(small_region, tmp_path, max_gap_days=1)).report
    assert report.status == "no overlapping pair"
    assert (report.pairs, report.slots) == ((), ())
    assert len(report.unpaired) == 5
    assert files_under(tmp_path).keys() == {"demo/metrics.prom", "demo/report.json"}
    assert json.loads((tmp_path / "demo" / "report.json").read_text())["pairs"] == []


def assert_prefect_state(name: str, message: str) -> None:
    """Of the last run: it did not complete, and says so in these words."""
    state = last_flow_run().state
    assert state is not None
    assert (state.type, state.name, state.message) == (StateType.FAILED, name, message)


def test_a_store_that_fails_fails_the_run_and_publishes_nothing(
    small_region: DemoRegion,
    tmp_path: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        raise StoreError("the disk is full", "slots")

    monkeypatch.setattr("flows.tasks.compose_shard", broken)
    monkeypatch.setattr("flows.cluster.retries.may_pass", lambda _: False)
    request = request_of(small_region, tmp_path, scheduler=client.scheduler.address)
    result = register_region(request)
    assert result.ending == "Failed"
    assert "shard 0.0: the disk is full" in result.summary
    assert_prefect_state("Failed", result.summary)
    assert not list(tmp_path.rglob("items/*.json"))
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert (report["status"], report["slots"]) == ("failed", [])
    assert report["accountability"]["pairs"] == {
        "expected": 4, "done": 0, "refused": 0, "skipped": 0, "failed": 4,
    }  # fmt: skip


def test_a_store_that_recovers_is_waited_for(
    small_region: DemoRegion, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect tries the batch again; here without its pauses."""
    first = tmp_path / "failed-once"

    def flaky(job: ShardJob) -> None:
        if not first.exists():
            first.touch()
            raise StoreError("503 Slow Down", "slots")
        compose_shard(job)

    monkeypatch.setattr("flows.tasks.compose_shard", flaky)
    monkeypatch.setattr("flows.tasks.compose_shards.retry_delay_seconds", [0.1])
    request = request_of(small_region, tmp_path / "store", scheduler=client.scheduler.address)
    assert register_region(request).report.status == "registered"
    assert first.exists()


@pytest.mark.faults
def test_a_poisonous_tile_is_recorded_and_the_day_is_published_without_it(
    small_region: DemoRegion,
    tmp_path: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def match(tiles: list[Tile], images: list[TileImages], **options: Any) -> list[TileMatches]:
        if any(tile.core.x0 > 0 for tile in tiles):
            raise ZeroDivisionError("nobody foresaw this")
        return match_tiles(tiles, images, **options)

    request = request_of(small_region, tmp_path, scheduler=client.scheduler.address, resolution=7.0)
    with monkeypatch.context() as patch:
        patch.setattr("flows.stages.match.match_tiles", match)
        # All in one job at first: the poisonous ones have to be found out.
        patch.setattr("flows.stages.match.JOBS_ARE_MANY", 1)
        result = register_region(request)
        assert result.ending == "Partial"
        assert "2 of 4 tiles" in result.summary
        assert_prefect_state("Partial", result.summary)
        report = json.loads((tmp_path / "demo" / "report.json").read_text())
        account = report["accountability"]
        assert (report["status"], account["days"]["done"]) == ("partial", 1)
        assert account["tiles"] == {
            "expected": 4, "done": 2, "refused": 0, "skipped": 0, "failed": 2,
        }  # fmt: skip
        for failure, row in zip(account["failures"], (0, 512), strict=True):
            assert "nobody foresaw this (3 attempts)" in failure["reason"]
            assert failure["what"].startswith(f"tile at column 512, row {row}")
        assert float((catalog.open_mosaic(report["mosaic"])["quality"] == 1).mean()) > 0.9

        assert main(arguments_of(request)) == PARTIAL  # tried again, to the same end
        told = capsys.readouterr().out
        assert "Partly done" in told
        assert "nobody foresaw this" in told

    whole = register_region(request).report  # the poison is gone
    assert whole.status == "registered"
    assert whole.slots[0].generation != report["slots"][0]["generation"]
    assert whole.accountability.failures == ()
    assert register_region(request).report.status == "nothing to do"


@pytest.mark.faults
def test_a_poisonous_shard_costs_its_day_and_says_so(
    small_region: DemoRegion,
    tmp_path: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def compose(job: ShardJob) -> None:
        if job.shard.col == 1:
            raise ZeroDivisionError("nobody foresaw this")
        compose_shard(job)

    monkeypatch.setattr("flows.tasks.compose_shard", compose)
    request = request_of(
        small_region, tmp_path, scheduler=client.scheduler.address, resolution=1.9,
        bbox=southern_part(small_region, 0.15),
    )  # fmt: skip
    assert main(arguments_of(request)) == FAILED
    captured = capsys.readouterr()
    assert "shard 0.1: ZeroDivisionError: nobody foresaw this (3 attempts)" in captured.err
    assert "shard 0.1" in captured.out
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["accountability"]["shards"] == {
        "expected": 2, "done": 1, "refused": 0, "skipped": 0, "failed": 1,
    }  # fmt: skip
    assert not list(tmp_path.rglob("items/*.json"))
    assert len(list(tmp_path.rglob("*.receipts/*.json"))) == 1  # the other is kept for a rerun
