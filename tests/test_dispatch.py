"""The Dask side: bounded work in flight, routing by the resource GPU, failures that surface."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from distributed import Client, Future

from flows import dispatch
from flows.dispatch import GPU, IN_FLIGHT_PER_WORKER, DispatchError, cluster, stream


def double(number: int) -> int:
    if number == 13:
        raise ValueError("thirteen")
    return 2 * number


def test_every_job_comes_back_with_its_result(client: Client) -> None:
    def submit(number: int) -> Future:
        return client.submit(double, number, resources=GPU)

    assert dict(stream(client, submit, range(10))) == {n: 2 * n for n in range(10)}


def test_few_jobs_are_in_flight_however_many_there_are(client: Client) -> None:
    submitted = finished = most = 0

    def jobs() -> Iterator[int]:
        nonlocal submitted, most
        for number in range(100, 112):
            submitted += 1
            most = max(most, submitted - finished)
            yield number

    for _ in stream(client, lambda number: client.submit(double, number), jobs()):
        finished += 1
    assert finished == 12
    assert most <= IN_FLIGHT_PER_WORKER + 1  # the one just handed over is not counted yet


def test_a_failure_is_raised_and_the_rest_is_dropped(client: Client) -> None:
    submitted: list[int] = []

    def submit(number: int) -> Future:
        submitted.append(number)
        return client.submit(double, number)

    with pytest.raises(ValueError, match="thirteen"):
        list(stream(client, submit, [13, *range(200, 300)]))
    assert len(submitted) <= IN_FLIGHT_PER_WORKER


def test_no_jobs_no_results(client: Client) -> None:
    assert list(stream(client, lambda number: client.submit(double, number), [])) == []


def test_local_workers_are_processes_that_offer_a_gpu_or_its_stand_in(client: Client) -> None:
    workers = client.scheduler_info(-1)["workers"].values()
    assert any("GPU" in worker["resources"] for worker in workers)
    assert all(worker["nthreads"] == 1 for worker in workers)
    assert client.submit(os.getpid).result() != os.getpid()
    kept = client.submit(os.environ.get, "MALLOC_TRIM_THRESHOLD_").result()
    assert (
        kept
        == dispatch.WORKER_SETTINGS["distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"]
    )


def test_workers_do_not_dump_failed_tasks_on_the_terminal(client: Client) -> None:
    def quietest() -> int:
        return min(handler.level for handler in logging.getLogger("distributed").handlers)

    assert client.submit(quietest).result() == logging.CRITICAL


def test_an_external_scheduler_is_used_and_left_alone(client: Client) -> None:
    with cluster(client.scheduler.address) as other:
        assert other.submit(double, 4).result() == 8
    assert client.submit(double, 5).result() == 10


def test_a_scheduler_that_does_not_answer_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "ANSWER_SECONDS", 1)
    with (
        pytest.raises(DispatchError, match="no Dask scheduler answers at tcp"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass
