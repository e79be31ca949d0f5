"""The Dask side: where tiles and shards go.

Tiles are many and small, so each is one Dask future. Whatever runs the network asks for one unit of
the resource `GPU`, which a worker on a machine without a GPU offers too; so the same routing serves
a laptop and a cluster. Each worker process loads the network once.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import dask
import torch
from distributed import Client, Future, Nanny, Scheduler, SpecCluster, as_completed

from tar_engine import Registrar

GPU = {"GPU": 1}
MAX_WORKERS = 4  # of a local cluster; a bigger machine is better served by its own scheduler
WORKER_MEMORY = "3GiB"
LOOPBACK = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}  # any free port
ANSWER_SECONDS = 10  # that a scheduler has to answer
IN_FLIGHT_PER_WORKER = 2  # one running, one waiting: bounds memory, hides latency
_KEEP = str(2**32)
WORKER_SETTINGS = {
    "distributed.worker.memory.spill": False,
    # Matching makes and drops arrays of tens of megabytes. Handing each back to the kernel, as
    # Dask asks malloc to do, costs three quarters of the time in page faults.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": _KEEP,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": _KEEP,
}

Job = TypeVar("Job")


class DispatchError(RuntimeError):
    """The scheduler cannot be reached, or offers no worker with the resource `GPU`."""


@contextmanager
def cluster(scheduler: str | None = None, workers: int | None = None) -> Iterator[Client]:
    """A client of the scheduler at `scheduler` (tcp://…), or of a local cluster that ends with it.

    Raises `DispatchError` when the scheduler does not answer or none of its workers offers `GPU`.
    """
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
        except OSError as error:
            raise DispatchError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        with client:
            _require_gpu_worker(client, scheduler)
            yield client
        return
    with (
        tempfile.TemporaryDirectory(prefix="tar-pipeline-", ignore_cleanup_errors=True) as scratch,
        dask.config.set(WORKER_SETTINGS),
        SpecCluster(
            scheduler={"cls": Scheduler, "options": LOOPBACK | {"dashboard": False}},
            workers=_local_workers(workers, scratch),
            silence_logs=logging.CRITICAL,
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def check_scheduler(scheduler: str | None) -> None:
    """Raise `DispatchError` unless a scheduler that was named can be used; None always can."""
    if scheduler is not None:
        with cluster(scheduler):
            pass


@lru_cache(maxsize=1)
def registrar(weights: Path | None, sha256: str | None = None) -> Registrar:
    """The engine of this process, loaded on first use.

    Raises `WeightsError` when the file's hash is not `sha256`: a path may hold another file where
    this worker runs, or by now.
    """
    return Registrar.load(weights, sha256=sha256)


def stream(
    client: Client, submit: Callable[[Job], Future[Any]], jobs: Iterable[Job]
) -> Iterator[tuple[Job, Any]]:
    """Submit `jobs` a few at a time and yield (job, result) in the order they finish.

    At most `IN_FLIGHT_PER_WORKER` futures per worker are alive, so memory stays bounded however
    many jobs there are. The first failure cancels what is left and is raised here.
    """
    waiting = iter(jobs)
    in_flight = IN_FLIGHT_PER_WORKER * max(1, len(client.scheduler_info(-1)["workers"]))
    job_of = {submit(job): job for job in islice(waiting, in_flight)}
    finished = as_completed(list(job_of), loop=client.loop)
    try:
        for future in finished:
            result = future.result()
            job = job_of.pop(future)
            future.release()
            for following in islice(waiting, 1):
                successor = submit(following)
                job_of[successor] = following
                finished.add(successor)
            yield job, result
    finally:
        client.cancel(list(job_of))


def _local_workers(count: int | None, scratch: str) -> dict[str, dict[str, Any]]:
    """One process per GPU; beside them, or where there is none, one per core up to a few."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cores = len(os.sched_getaffinity(0))
    options = {
        "nthreads": 1,
        "memory_limit": WORKER_MEMORY,
        "local_directory": scratch,
        "dashboard": False,
        # What fails on a worker is raised here, in one sentence; a dump of the task beside it
        # would hide that sentence, and show whatever the addresses of scenes are signed with.
        "silence_logs": logging.CRITICAL,
    }
    specs = {
        f"gpu-{index}": {
            "cls": Nanny,
            "options": {**options, "resources": GPU, "env": {"CUDA_VISIBLE_DEVICES": str(index)}},
        }
        for index in range(gpus)
    }
    for index in range(count or min(cores, MAX_WORKERS)):
        resources = {} if gpus else GPU
        specs[f"cpu-{index}"] = {"cls": Nanny, "options": {**options, "resources": resources}}
    return specs


def _require_gpu_worker(client: Client, scheduler: str) -> None:
    workers = client.scheduler_info(-1)["workers"].values()
    if not any("GPU" in worker["resources"] for worker in workers):
        raise DispatchError(
            f"no worker of {scheduler} offers the resource GPU: "
            "start at least one with `dask worker … --resources GPU=1`"
        )
