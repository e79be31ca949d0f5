"""Six nights of one region in a run that is killed ten times: the same store, to the bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest.mock import patch

import pytest

import catalog
from catalog.store.days import published_items
from catalog.store.slot import SlotStore
from catalog.store.upkeep import verify
from flows.cluster.workers import Workers, cluster
from flows.plan.request import RegionRequest
from tests.support.kills import content_digests, serve_prefect
from tests.support.nights import MadeNights, write_nights

KILLS = 10
CLOUD_PERCENT = (0, 30, 0, 100, 0, 20)
SIDE_PX = 160
LATEST = 0.85  # share of the files that are there at the last kill
PATIENCE_S = 120.0
FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Children of a server that has imported all this start at once.

    Here, and not for whoever imports this module: there is one such server for all tests.
    """
    FORKS.set_forkserver_preload(["flows.register_region", "tests.support.nights"])


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> MadeNights:
    folder = tmp_path_factory.mktemp("nights")
    return write_nights(folder, side_px=SIDE_PX, cloud_percent=CLOUD_PERCENT)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with cluster(workers=2) as workers:
        yield workers


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_prefect(tmp_path_factory.mktemp("prefect")) as url:
        yield url


def run_to_its_end(request_json: str) -> None:
    """The flow, in a process group of its own, by which it is killed with all it started."""
    os.setsid()
    from flows.register_region import register_region

    # The lease of a killed run would hold up the next one for a minute.
    with patch("flows.register_region.region_lease", lambda *_: nullcontext()):
        result = register_region(RegionRequest.model_validate_json(request_json))
    os._exit(result.ending != "Completed")


def start(request: RegionRequest) -> ForkServerProcess:
    process = FORKS.Process(target=run_to_its_end, args=(request.model_dump_json(),))
    process.start()
    return process


def contents(store: Path) -> dict[str, str]:
    """Every file that the nights determine, but the picture, which is of the last run's days, and
    what a killed process was just writing, which no reader looks at."""
    return {
        name: found
        for name, found in content_digests(store).items()
        if not name.endswith((".partial", "preview.png"))
    }


def count_files(store: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(store))


def wait_for_files(process: ForkServerProcess, store: Path, files: int) -> None:
    """Until the store has so many files; the run must not end before that."""
    deadline = time.monotonic() + PATIENCE_S
    while count_files(store) < files:
        assert process.exitcode is None, f"the run ended with {count_files(store)} files"
        assert time.monotonic() < deadline, f"no {files} files in {PATIENCE_S} s"
        time.sleep(0.01)


def kill(process: ForkServerProcess) -> None:
    assert process.pid is not None
    assert process.exitcode is None, "the run ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.join(PATIENCE_S)


def require_whole_days(store: Path, expected: dict[str, str]) -> int:
    """What is published must be there to the last byte, and open; returns how many days are."""
    region = store / "nights"
    days = sorted(path.stem for path in (region / "items").glob("*.json"))
    if not days:
        return 0
    found = contents(store)
    for day in days:
        mine = {
            name: wanted
            for name, wanted in expected.items()
            if f"/slots/{day}/" in name or name.endswith(f"/items/{day}.json")
        }
        assert {name: found.get(name) for name in mine} == mine
    mosaic = catalog.open_mosaic(region).load()
    assert [str(day)[:10] for day in mosaic.time.values] == days
    for item in published_items(str(region)).values():
        told = item["properties"]
        slot = SlotStore(str(store), "nights", told["tar:slot"], told["tar:generation"])
        assert not verify(slot).faults
    return len(days)


@pytest.mark.faults
def test_a_run_of_six_nights_that_is_killed_ten_times_leaves_the_same_store(
    nights: MadeNights,
    workers: Workers,
    prefect_api: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed by turns are the flow, which starts again, and a worker, whose flow goes on."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    whole, store = tmp_path / "whole", tmp_path / "store"
    undisturbed = start(nights.request(whole, scheduler=workers.scheduler))
    undisturbed.join(PATIENCE_S)
    assert undisturbed.exitcode == 0
    expected, files = contents(whole), count_files(whole)
    days = require_whole_days(whole, expected)
    assert days >= len(CLOUD_PERCENT) - 1

    chance = random.Random(20240103)
    request = nights.request(store, scheduler=workers.scheduler)
    flow, seen = start(request), []
    for number in range(KILLS):
        # Anywhere in its tenth of the work, and a little later: writing is only a part of that.
        wait_for_files(flow, store, round(LATEST * files * (number + chance.random()) / KILLS))
        time.sleep(chance.uniform(0.0, 0.2))
        if number % 2:
            pids = workers.client.run(os.getpid, on_error="ignore").values()
            os.kill(chance.choice(sorted(pids)), signal.SIGKILL)
        else:
            kill(flow)
            seen.append(require_whole_days(store, expected))
            flow = start(request)
    flow.join(PATIENCE_S)
    assert flow.exitcode == 0
    assert contents(store) == expected
    assert require_whole_days(store, expected) == days
    assert 0 < seen[-1] < days
