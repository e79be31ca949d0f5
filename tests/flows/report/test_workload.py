"""What a plan comes to, and the live progress of doing it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from catalog.archives.items import Asset
from catalog.archives.sizes import ASKED, file_sizes
from flows import progress
from flows.cli.demo_region import DemoRegion
from flows.progress import Progress
from flows.report.workload import SHARD_SECONDS, TILE_SECONDS, estimate_workload
from tests.support.regions import plan_of
from tests.support.scenes import scene


def files(folder: Path, count: int, *, said: int | None = None) -> list[Asset]:
    paths = [folder / f"{index}.tif" for index in range(count)]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    return [Asset("vh", str(path), ("vh",), size_bytes=said) for path in paths]


def test_sizes_come_from_items_from_files_or_from_those_that_answer(tmp_path: Path) -> None:
    asked = file_sizes([scene("a", assets=tuple(files(tmp_path, 3)))])
    assert (asked.files, asked.bytes, asked.basis) == (3, 3000, "measured")
    said = file_sizes([scene("a", assets=tuple(files(tmp_path, 3, said=5)))])
    assert (said.bytes, said.basis) == (15, "by the items")
    many = file_sizes([scene("a", assets=tuple(files(tmp_path, 2 * ASKED)))])
    assert many.bytes == 2000 * ASKED
    assert many.basis == f"estimated from {ASKED} of {2 * ASKED} files"
    gone = (*files(tmp_path, 1), Asset("vh", str(tmp_path / "gone.tif"), ("vh",)))
    assert file_sizes([scene("a", assets=gone)]).basis == "estimated from 1 of 2 files"
    nothing = file_sizes([scene("a", assets=gone[1:])])
    assert (nothing.bytes, nothing.basis) == (None, "no file's size is known")


def test_a_workload_says_what_its_time_rests_on(small_region: DemoRegion, tmp_path: Path) -> None:
    plan = plan_of(small_region, tmp_path)
    work = estimate_workload(plan)
    assert (work.days, work.scenes, work.files, work.tiles, work.shards) == (1, 4, 4, 1, 1)
    assert work.bytes == sum(
        Path(asset.href).stat().st_size
        for pair in plan.pairs[:1] + plan.pairs[-1:]
        for each in (pair.optical, pair.sar)
        for asset in each.assets
    )
    assert work.seconds == TILE_SECONDS + SHARD_SECONDS
    assert "a guess" in work.seconds_basis
    earlier = {"tiles": 2, "shards_written": 4, "seconds": {"estimate": 10.0, "compose": 8.0}}
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "report.json").write_text(json.dumps(earlier))
    work = estimate_workload(plan)
    assert work.seconds == 5 + 2
    assert "last run" in work.seconds_basis


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
