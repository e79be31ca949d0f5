"""Workers, flows and schedulers killed at random moments: the store is the same, to the bit."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import Client

from catalog.child_server import free_port
from flows.cli.demo_region import DemoRegion
from flows.cluster.workers import Workers, cluster
from flows.plan.request import RegionRequest
from flows.register_region import register_region
from tests.support.kills import (
    WorkerKiller,
    content_digests,
    kill_flow,
    reading,
    serve_prefect,
    start_flow,
    start_scheduler,
    start_worker,
    table_line,
    wait_for_worker,
)
from tests.support.regions import request_of

RUNS = 10


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed: what it left, and how long it took."""

    region: DemoRegion
    files: dict[str, str]
    seconds: float

    def request(self, store: Path, scheduler: str | None) -> RegionRequest:
        return small_request(self.region, store, scheduler)


def small_request(region: DemoRegion, store: Path, scheduler: str | None) -> RegionRequest:
    """Six tiles, and a shard with its overviews."""
    west, south, east, north = region.bbox
    bbox = (west, south, east, (south + north) / 2)
    return request_of(region, store, bbox=bbox, resolution=3.5, scheduler=scheduler)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with cluster(workers=2) as workers:
        yield workers


@pytest.fixture(scope="module")
def undisturbed(
    small_region: DemoRegion, workers: Workers, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    store = tmp_path_factory.mktemp("undisturbed")
    seconds = seconds_of(small_request(small_region, store, workers.scheduler))
    return Undisturbed(small_region, content_digests(store), seconds)


def seconds_of(request: RegionRequest) -> float:
    started = time.monotonic()
    register_region(request)
    return time.monotonic() - started


def run_with_a_killed_worker(
    undisturbed: Undisturbed, workers: Workers, store: Path, chance: random.Random
) -> float:
    """Seconds it took."""
    after_s = chance.uniform(0.0, 0.6 * undisturbed.seconds)
    killer = WorkerKiller(workers.client, after_s, chance)
    with reading(store, undisturbed.files) as reader:
        killer.start()
        started = time.monotonic()
        report = register_region(undisturbed.request(store, workers.scheduler)).report
        took_s = time.monotonic() - started
        killer.join()
    assert killer.killed is not None
    assert report.status == "registered"
    assert report.accountability.failures == ()
    assert content_digests(store) == undisturbed.files
    assert reader.looks > 0
    assert not reader.half_visible
    workers.client.wait_for_workers(2, timeout=60)
    return took_s


@pytest.mark.faults
def test_runs_whose_workers_are_killed_leave_the_same_store(
    undisturbed: Undisturbed, workers: Workers, tmp_path: Path
) -> None:
    # The first run of all has started Prefect too; this one is as warm as those that follow.
    whole_s = seconds_of(undisturbed.request(tmp_path / "whole", workers.scheduler))
    chance = random.Random(20240612)
    took_s = [
        run_with_a_killed_worker(undisturbed, workers, tmp_path / str(run), chance)
        for run in range(RUNS)
    ]
    print("\n" + table_line("a worker SIGKILLed at random", whole_s, took_s))


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server; yields its API's URL."""
    with serve_prefect(tmp_path_factory.mktemp("prefect-server")) as url:
        yield url


@pytest.mark.faults
def test_killed_flows_that_run_again_leave_the_same_store(
    undisturbed: Undisturbed,
    workers: Workers,
    prefect_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By turns with workers of its own, which must die with it, and on a cluster, which stays."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    whole_s = {}
    for scheduler in (None, workers.scheduler):
        store = tmp_path / f"whole-{scheduler is None}"
        started = time.monotonic()
        assert start_flow(undisturbed.request(store, scheduler), tmp_path / "run.py").wait() == 0
        whole_s[scheduler] = time.monotonic() - started
        assert content_digests(store) == undisturbed.files
    chance = random.Random(20240613)
    lost_s = []
    while len(lost_s) < RUNS:
        scheduler = None if len(lost_s) % 2 else workers.scheduler
        store = tmp_path / f"{len(lost_s)}-{chance.random()}"
        request = undisturbed.request(store, scheduler)
        after_s = chance.uniform(0.3, 1.0) * whole_s[scheduler]
        with reading(store, undisturbed.files) as reader:
            if not kill_flow(start_flow(request, tmp_path / "run.py"), after_s):
                whole_s[scheduler] = after_s  # it is faster now: drawn again, earlier
                continue
            started = time.monotonic()
            assert start_flow(request, tmp_path / "run.py").wait() == 0
            lost_s.append(after_s + time.monotonic() - started - whole_s[scheduler])
        assert content_digests(store) == undisturbed.files
        assert not reader.half_visible
    line = table_line("the flow process SIGKILLed at random, rerun", 0.0, lost_s)
    print(f"\n{line} (undisturbed: {', '.join(f'{s:.1f} s' for s in whole_s.values())})")


@pytest.mark.faults
def test_a_run_outlives_a_scheduler_that_is_killed_and_comes_back(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    running = [start_scheduler(port), start_worker(address)]
    try:
        wait_for_worker(address)
        request = undisturbed.request(tmp_path / "store", address)
        flow = start_flow(request, tmp_path / "run.py")
        wait_until_busy(address)
        for process in running:
            process.kill()
            process.wait()
        time.sleep(3)
        running[:] = [start_scheduler(port), start_worker(address)]
        assert flow.wait(600) == 0
        assert content_digests(tmp_path / "store") == undisturbed.files
        print("\n| the Dask scheduler and its worker SIGKILLed, started again | bit-identical |")
    finally:
        for process in running:
            process.kill()
            process.wait()


def wait_until_busy(address: str) -> None:
    with Client(address, timeout=60, set_as_default=False) as client:
        deadline = time.monotonic() + 120
        while not any(client.processing().values()):
            assert time.monotonic() < deadline, "the flow never began"
            time.sleep(0.1)
        time.sleep(3)
