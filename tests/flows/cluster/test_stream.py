"""Many jobs through few workers: bounded, retried where that helps, given up where it does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, Future

from catalog.errors import SceneReadError
from flows.cluster import stream as module
from flows.cluster.stream import ATTEMPTS, Done, GivenUp, JobsFailed, run_one, stream
from flows.cluster.workers import IN_FLIGHT_PER_THREAD, DispatchError, Workers, cluster


@pytest.fixture
def workers(client: Client) -> Workers:
    return Workers(client)


def double(number: int) -> int:
    return 2 * number


def count_and_fail(file: Path, successes_after: int) -> str:
    """Leaves a mark for every attempt; raises until there are enough."""
    with file.open("a") as marks:
        marks.write("x")
    if len(file.read_text()) <= successes_after:
        raise ValueError("not yet")
    return "now"


def die(number: int, poison: int) -> int:
    if number == poison:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(mark: Path) -> str:
    """Kills the process that does it, the first time."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def grow(number: int, poisonous: int) -> int:
    """Takes more and more memory, slowly enough for the nanny to see it."""
    kept = []
    while number == poisonous:
        kept.append(bytearray(os.urandom(1)) * 2**25)
        time.sleep(0.05)
    return len(kept)


def refuse() -> None:
    raise SceneReadError("it is truncated", "S1", "s1.tif")


def test_every_job_comes_back_with_its_result(workers: Workers) -> None:
    found = dict(stream(workers, lambda number: workers.match(double, number), range(10)))
    assert found == {number: Done(2 * number) for number in range(10)}


def test_without_jobs_nothing_comes_back(workers: Workers) -> None:
    assert list(stream(workers, lambda number: workers.run(double, number), [])) == []


def test_few_jobs_are_in_flight_however_many_there_are(workers: Workers) -> None:
    submitted = finished = most = 0

    def jobs() -> Iterator[int]:
        nonlocal submitted, most
        for number in range(40):
            submitted += 1
            most = max(most, submitted - finished)
            yield number

    for _ in stream(workers, lambda number: workers.run(double, number), jobs()):
        finished += 1
    assert finished == 40
    assert most <= IN_FLIGHT_PER_THREAD + 1  # the one just handed over is not counted yet


def test_an_unforeseen_error_is_tried_again(workers: Workers, tmp_path: Path) -> None:
    file = tmp_path / "marks"
    assert (
        run_one(workers, lambda: workers.run(count_and_fail, file, ATTEMPTS - 1), "a job") == "now"
    )


def test_a_job_that_never_succeeds_is_given_up_and_the_rest_goes_on(
    workers: Workers, tmp_path: Path
) -> None:
    file = tmp_path / "marks"

    def submit(number: int) -> Future:
        if number == 3:
            return workers.run(count_and_fail, file, 99)
        return workers.run(double, number)

    found = dict(stream(workers, submit, range(6)))
    assert [number for number, outcome in found.items() if isinstance(outcome, Done)] != []
    (given_up,) = [outcome for outcome in found.values() if isinstance(outcome, GivenUp)]
    assert found[3] is given_up
    assert given_up.reason == f"ValueError: not yet ({ATTEMPTS} attempts)"
    assert file.read_text() == "x" * ATTEMPTS


def test_the_error_of_a_single_job_that_is_given_up_names_it(
    workers: Workers, tmp_path: Path
) -> None:
    with pytest.raises(JobsFailed, match="the field of a group: ValueError: not yet"):
        run_one(
            workers,
            lambda: workers.run(count_and_fail, tmp_path / "marks", 99),
            "the field of a group",
        )
    with pytest.raises(SceneReadError, match="it is truncated"):
        run_one(workers, lambda: workers.run(refuse), "the field of a group")


def test_what_is_raised_on_purpose_is_not_tried_again(workers: Workers) -> None:
    ((_, outcome),) = stream(workers, lambda _: workers.run(refuse), [None])
    assert isinstance(outcome, GivenUp)
    assert outcome.reason == "it is truncated"
    assert isinstance(outcome.error, SceneReadError)
    assert str(JobsFailed({"shard 0.1": outcome})) == "shard 0.1: it is truncated"


def test_a_job_whose_worker_dies_is_done_elsewhere(workers: Workers, tmp_path: Path) -> None:
    mark = tmp_path / "died"
    assert run_one(workers, lambda: workers.run(die_once, mark), "a job") == "done"
    assert mark.exists()


@pytest.mark.faults
def test_a_job_that_kills_its_workers_is_found_out_and_its_neighbours_are_not_blamed() -> None:
    with cluster(workers=2) as workers:
        found = dict(stream(workers, lambda n: workers.match(die, n, 5), range(12)))
        assert len(found) == 12
        assert {n for n, outcome in found.items() if isinstance(outcome, GivenUp)} == {5}
        assert "killed every worker that tried it" in found[5].reason
        assert (
            run_one(workers, lambda: workers.run(double, 4), "a job") == 8
        )  # there are workers again


@pytest.mark.faults
def test_a_job_that_outgrows_its_worker_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows.cluster.workers.WORKER_MEMORY", "900MiB")
    with cluster(workers=2) as workers:
        found = dict(stream(workers, lambda n: workers.match(grow, n, 2), range(4)))
        assert {n for n, outcome in found.items() if isinstance(outcome, GivenUp)} == {2}
        assert "out of memory" in found[2].reason
        assert run_one(workers, lambda: workers.run(double, 4), "a job") == 8


def test_a_cluster_that_stands_still_is_an_error(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.2)
    with pytest.raises(DispatchError, match=r"finished in 0\.2 s"):
        run_one(workers, lambda: workers.run(time.sleep, 1.0), "a job")
