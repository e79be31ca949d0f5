"""What a plan comes to, and the live progress of doing it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives.items import Asset
from catalog.archives.sizes import ASKED, file_sizes
from catalog.grid import Lattice
from flows import progress
from flows.cli.demo_region import DemoRegion
from flows.progress import CpuClock, Progress
from flows.report.rates import DEFAULT, rates_of
from flows.report.schema import Measured
from flows.report.workload import count_objects, estimate_workload
from tests.support.regions import DemoRun, plan_of
from tests.support.scenes import scene
from tests.support.slots import FEW_CHUNKS, ONE_SHARD, VARIABLES, published

EVERYWHERE = shapely.box(-180, -90, 180, 90)


def files(folder: Path, count: int, *, said: int | None = None) -> list[Asset]:
    paths = [folder / f"{index}.tif" for index in range(count)]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    return [Asset("vh", str(path), ("vh",), size_bytes=said) for path in paths]


def test_sizes_come_from_items_from_files_or_from_those_that_answer(tmp_path: Path) -> None:
    asked = file_sizes([scene("a", assets=tuple(files(tmp_path, 3)))], EVERYWHERE)
    assert (asked.files, asked.bytes, asked.basis) == (3, 3000, "measured")
    said = file_sizes([scene("a", assets=tuple(files(tmp_path, 3, said=5)))], EVERYWHERE)
    assert (said.bytes, said.basis) == (15, "by the items")
    many = file_sizes([scene("a", assets=tuple(files(tmp_path, 2 * ASKED)))], EVERYWHERE)
    assert many.bytes == 2000 * ASKED
    assert many.basis == f"estimated from {ASKED} of {2 * ASKED} files"
    gone = (*files(tmp_path, 1), Asset("vh", str(tmp_path / "gone.tif"), ("vh",)))
    assert file_sizes([scene("a", assets=gone)], EVERYWHERE).basis == "estimated from 1 of 2 files"
    nothing = file_sizes([scene("a", assets=gone[1:])], EVERYWHERE)
    assert (nothing.bytes, nothing.inside) == (None, None)
    assert nothing.basis == "no file's size is known"


@given(share=st.floats(0, 1), count=st.integers(1, 5))
def test_of_a_file_that_lies_partly_in_the_region_that_part_counts(
    share: float, count: int
) -> None:
    assets = tuple(Asset("vh", f"/{i}.tif", ("vh",), size_bytes=1000) for i in range(count))
    west, south, east, north = (-118.0, 33.0, -117.0, 34.0)
    half = shapely.box(west, south, west + share * (east - west), north)
    sizes = file_sizes([scene("a", (west, south, east, north), assets=assets)], half)
    assert sizes.bytes == 1000 * count
    assert sizes.inside == pytest.approx(1000 * count * share, abs=1)


MEASURED = Measured(
    workers=4, tiles=2, estimate_seconds=10.0, estimate_cpu_seconds=30.0,
    pixels=500_000, compose_seconds=8.0, compose_cpu_seconds=16.0,
    days=2, day_seconds=6.0, day_cpu_seconds=3.0, rest_seconds=5.0, rest_cpu_seconds=4.0,
    stored_pixels=1_000_000, bytes_written=7_000_000, objects_written=90,
)  # fmt: skip


def leave_report(region: Path, measured: Measured | None) -> None:
    region.mkdir(parents=True, exist_ok=True)
    told = {"measured": measured and measured.model_dump()}
    (region / "report.json").write_text(json.dumps(told))


def test_a_workload_says_what_it_rests_on(
    small_region: DemoRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.report.rates.count_workers", lambda _: 2)
    plan = plan_of(small_region, tmp_path)
    work = estimate_workload(plan)
    assert (work.days, work.scenes, work.files, work.tiles, work.shards) == (1, 4, 4, 1, 1)
    assert work.bytes == sum(
        Path(asset.href).stat().st_size
        for pair in plan.pairs[:1] + plan.pairs[-1:]
        for each in (pair.optical, pair.sar)
        for asset in each.assets
    )
    assert work.bytes_inside is not None
    assert 0 < work.bytes_inside < work.bytes
    millions = work.pixels / 1e6
    assert work.rates_basis.startswith("default: ")
    assert work.written_bytes == round(work.pixels * DEFAULT.pixel_bytes)
    assert work.seconds == pytest.approx(
        (DEFAULT.tile_s + millions * DEFAULT.megapixel_s) / 2 + DEFAULT.day_s + DEFAULT.run_s,
        abs=0.1,
    )

    leave_report(tmp_path / "elsewhere", MEASURED)
    assert "region elsewhere" in estimate_workload(plan).rates_basis
    leave_report(tmp_path / "demo", None)
    assert "region elsewhere" in estimate_workload(plan).rates_basis
    leave_report(tmp_path / "demo", MEASURED)
    work = estimate_workload(plan)
    assert work.rates_basis == "measured by this region's last run"
    assert work.written_bytes == 7 * work.pixels
    assert work.seconds == pytest.approx((20 + millions * 64) / 2 + 3 + 5, abs=0.1)
    assert work.cpu_seconds == pytest.approx(15 + millions * 32 + 1.5 + 4, abs=0.1)
    assert all(work.rates_basis in dict(work.rows())[what] for what in ("to write", "CPU", "time"))


@given(times=st.integers(1, 50), workers=st.integers(1, 64))
def test_a_run_is_estimated_as_it_was_measured(times: int, workers: int) -> None:
    """So many times the work takes so many times as long, on the workers that there were."""
    measured = MEASURED.model_copy(update={"workers": workers})
    rates = rates_of(measured, "")
    work = times * (measured.tiles * rates.tile_s + measured.pixels / 1e6 * rates.megapixel_s)
    took = measured.estimate_seconds + measured.compose_seconds
    assert work / workers == pytest.approx(times * took)
    elsewhere = measured.model_copy(update={"estimate_cpu_seconds": None})
    assert rates_of(elsewhere, "").tile_cpu_s == rates.tile_s


def test_a_real_run_measures_itself_and_its_objects_were_counted_before(
    demo_run: DemoRun, tmp_path: Path
) -> None:
    measured = Measured.model_validate(demo_run.report["measured"])
    of_slots = [path for path in (demo_run.store / "demo/slots").rglob("*") if path.is_file()]
    assert measured.objects_written == len(of_slots)
    assert measured.bytes_written == sum(path.stat().st_size for path in of_slots)
    counted = estimate_workload(plan_of(demo_run.region, tmp_path)).written_objects
    assert counted == len(of_slots) + 2  # and its item and page
    assert measured.tiles == demo_run.report["tiles"]
    assert (measured.days, measured.pixels) == (1, measured.stored_pixels)
    cpu = demo_run.report["cpu_seconds"]
    assert cpu.keys() == demo_run.report["seconds"].keys()
    assert 0 < cpu["estimate"] <= cpu["total"]


@pytest.mark.parametrize("lattice", [FEW_CHUNKS, ONE_SHARD])
def test_objects_are_those_of_the_layout(lattice: Lattice, tmp_path: Path) -> None:
    slot = published(tmp_path, lattice)
    slot.save_estimate(b"")
    objects = [path for path in tmp_path.rglob("*") if path.is_file()]
    # The collection is the region's, and there is no page.
    assert count_objects(lattice, len(VARIABLES), lattice.shards()) == len(objects)


def test_processor_time_of_ended_children_stays_counted() -> None:
    clock = CpuClock()
    before = clock()
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = clock()
        child.kill()
    assert during - before >= 0.25
    assert clock() >= during


def test_progress_is_shown_while_it_happens_and_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHOWN_EVERY_SECONDS", 0.01)
    shown: list[tuple[float, str]] = []
    with Progress(lambda share, line: shown.append((share, line)), expected=8) as lines:
        with lines.bar("matching a", "tiles") as bar:
            bar.expect(6)
            bar.advance(3)
            while not shown:
                time.sleep(0.01)
            bar.advance(3)
        with lines.bar("composing b", "shards") as bar:
            bar.expect(2)
            bar.advance(2)
    assert shown[0] == (3 / 8, "matching a, 3 of 6 tiles")
    assert shown[-1] == (1.0, "composing b, 2 of 2 shards")


def test_a_server_that_is_away_stops_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SHOWN_EVERY_SECONDS", 0.01)
    called = threading.Event()

    def show(_: float, __: str) -> None:
        called.set()
        raise OSError("no route to host")

    with Progress(show, expected=1) as lines, lines.bar("matching a", "tiles") as bar:
        bar.expect(1)
        assert called.wait(10)
        bar.advance()
    assert caplog.text.count("the progress artifact cannot be updated") == 1
