"""Work that a worker finds while it works, and shares with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from distributed import worker_client

from flows.cluster.stream import Done, JobsFailed, stream
from flows.cluster.workers import Workers

Job = TypeVar("Job")
Result = TypeVar("Result")


def among_peers(function: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
    """Runs on a worker: the results of `jobs`, in their order, by all workers of its cluster.

    The worker itself takes jobs too while it waits. Should it die, Dask begins its work anew
    elsewhere; jobs are taken from `jobs` a few at a time (`stream`).

    Raises `JobsFailed` for the first job that was given up.
    """
    found = {}
    with worker_client() as client:
        workers = Workers(client)
        numbered = stream(workers, lambda job: workers.run(function, job[1]), enumerate(jobs))
        for (number, _), outcome in numbered:
            if not isinstance(outcome, Done):
                raise JobsFailed({f"part {number}": outcome}) from outcome.error
            found[number] = outcome.result
    return [found[number] for number in range(len(found))]
