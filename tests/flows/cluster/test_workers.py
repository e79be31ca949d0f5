"""The Dask side: which workers there are, and which of them does what."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from distributed import Client, Scheduler, SpecCluster, Worker, get_worker

from catalog.child_server import free_port
from flows.cluster.workers import (
    GPU,
    IN_FLIGHT_PER_THREAD,
    LOOPBACK,
    WORKER_SETTINGS,
    DispatchError,
    Workers,
    _local_workers,
    check_scheduler,
    cluster,
)
from tests.support.kills import start_scheduler, start_worker, wait_for_worker

QUIET = {"dashboard": False}
SCHEDULER = {"cls": Scheduler, "options": LOOPBACK | QUIET}


def double(number: int) -> int:
    return 2 * number


def where() -> str:
    return str(get_worker().address)


def test_local_workers_are_processes_that_offer_a_gpu_or_its_stand_in(client: Client) -> None:
    workers = client.scheduler_info(-1)["workers"].values()
    assert any("GPU" in worker["resources"] for worker in workers)
    assert all(worker["nthreads"] == 1 for worker in workers)
    assert client.submit(os.getpid).result() != os.getpid()
    paused = client.submit(lambda: get_worker().memory_manager.memory_pause_fraction).result()
    assert paused is False  # or it would keep what waits there for good
    kept = client.submit(os.environ.get, "MALLOC_TRIM_THRESHOLD_").result()
    assert kept == WORKER_SETTINGS["distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"]


@pytest.mark.parametrize(
    ("visible", "count", "given"),
    [
        (None, 2, ["0", "1"]),
        ("2,3", 2, ["2", "3"]),
        (" 3 , 1 ", 2, ["3", "1"]),
        ("GPU-8932f937-d72c,MIG-GPU-1a2b/0/0", 2, ["GPU-8932f937-d72c", "MIG-GPU-1a2b/0/0"]),
        ("1,-1,0", 1, ["1"]),  # CUDA stops at what it does not know
        ("", 0, []),
        ("NoDevFiles", 0, []),
        (None, 0, []),
    ],
)
def test_each_gpu_that_the_caller_may_see_goes_to_one_worker(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, given: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    options = {name: spec["options"] for name, spec in _local_workers(2, "/tmp").items()}
    engines = {name for name, each in options.items() if each["resources"] == GPU}
    on_gpus = [each["env"]["CUDA_VISIBLE_DEVICES"] for each in options.values() if "env" in each]
    assert on_gpus == given
    assert engines == ({f"gpu-{n}" for n in range(count)} or {"cpu-0", "cpu-1"})
    assert len(options) == count + 2


def test_workers_do_not_dump_failed_tasks_on_the_terminal(client: Client) -> None:
    def quietest() -> int:
        return min(handler.level for handler in logging.getLogger("distributed").handlers)

    assert client.submit(quietest).result() == logging.CRITICAL


def test_an_external_scheduler_is_used_and_left_alone(client: Client) -> None:
    with cluster(client.scheduler.address) as other:
        assert other.run(double, 4).result() == 8
    assert client.submit(double, 5).result() == 10


def test_a_scheduler_that_does_not_answer_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows.cluster.workers.ANSWER_SECONDS", 1)
    with (
        pytest.raises(DispatchError, match="no Dask scheduler answers at tcp"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_scheduler_without_an_engine_is_refused() -> None:
    with (
        SpecCluster(workers={}, scheduler=SCHEDULER) as bare,
        pytest.raises(DispatchError, match=r"no worker of .* offers the resource GPU"),
        cluster(bare.scheduler_address),
    ):
        pass


def test_engines_match_and_the_others_do_the_rest() -> None:
    """One worker owns a GPU: nothing but matching may keep it busy."""
    specs = {
        name: {
            "cls": Worker,
            "options": {"nthreads": 1, "resources": resources, "dashboard": False},
        }
        for name, resources in (("gpu", GPU), ("cpu", {}), ("cpu-2", {}))
    }
    with SpecCluster(workers=specs, scheduler=SCHEDULER) as mixed, Client(mixed) as client:
        workers = Workers(client)
        gpu = mixed.workers["gpu"].address
        assert {f.result() for f in [workers.match(where) for _ in range(6)]} == {gpu}
        others = [workers.run(where) for _ in range(20)]
        others += [workers.read_ahead(where) for _ in range(20)]
        assert gpu not in {future.result() for future in others}
        assert workers.in_flight == 3 * IN_FLIGHT_PER_THREAD


def test_without_other_workers_the_engines_do_everything(client: Client) -> None:
    workers = Workers(client)
    assert workers.run(where).result() == workers.match(where).result()


OTHER_VERSION = """
import importlib.metadata
def older(name, known=importlib.metadata.version):
    return "0.0.1" if name == "tar-pipeline" else known(name)
importlib.metadata.version = older
"""


@pytest.mark.faults
def test_a_worker_of_another_version_is_named_before_work(tmp_path: Path) -> None:
    (tmp_path / "older.py").write_text(OTHER_VERSION)
    address = f"tcp://127.0.0.1:{free_port()}"
    processes = [start_scheduler(int(address.rpartition(":")[2]))]
    try:
        processes.append(start_worker(address))
        wait_for_worker(address)
        check_scheduler(address)
        processes.append(start_worker(address, "--preload", str(tmp_path / "older.py")))
        wait_for_worker(address, count=2)
        with pytest.raises(DispatchError, match=r"tar-pipeline 0\.0\.1, here ") as caught:
            check_scheduler(address)
        assert "the worker at tcp://127.0.0.1" in str(caught.value)
    finally:
        for process in processes:
            process.kill()
            process.wait()
