"""The Dask side: which workers there are, and which of them does what.

Whatever runs the network asks for one unit of the resource `GPU`, which a worker on a machine
without a GPU offers too; so the same routing serves a laptop and a cluster. Each worker process
loads the network once. Everything else goes to workers that own no GPU, where there are any.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import dask
import torch
from distributed import Client, Future, Nanny, Scheduler, SpecCluster

from flows.cluster.heap import release_memory
from tar_engine import Registrar

GPU = {"GPU": 1}
ANSWER_SECONDS = 10  # that a scheduler has to answer
WORKERS_SECONDS = 120  # that workers have to come back to a scheduler that was lost
IN_FLIGHT_PER_THREAD = 2  # one running, one waiting: bounds memory, hides latency
REFRESH_SECONDS = 5  # between looks at which workers there are: they come and go
AHEAD = 1  # priority of reading: before the matching of tiles that are read already
MAX_WORKERS = 4  # of a local cluster; a bigger machine is better served by its own scheduler
WORKER_MEMORY = "3GiB"
LOOPBACK = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}  # any free port
IN_COMMON = ("tar-pipeline", "numpy", "zarr", "torch")  # of this process and its workers
_KEEP = str(2**32)
WORKER_SETTINGS = {
    "distributed.worker.memory.spill": False,
    # A worker that Dask pauses for its memory keeps the job that waits there, and nothing of ours
    # would make it go on: results are small, and what was freed is kept (below). What grows
    # beyond the limit is ended by its nanny, and its jobs are done elsewhere.
    "distributed.worker.memory.pause": False,
    # Dask looks at every thread's stack a hundred times a second, in which CPython 3.11 can lock
    # itself up for good (its issue 106883): the worker then stands still, and nobody is told.
    "distributed.worker.profile.enabled": False,
    # How often each scheduler, nanny and worker looks whether it is late; fifty times a second, as
    # Dask has it, costs a process that only waits a tenth of a core.
    "distributed.admin.tick.interval": "1s",
    # Matching makes and drops arrays of tens of megabytes. Handing each back to the kernel, as
    # Dask asks malloc to do, costs three quarters of the time in page faults.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": _KEEP,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": _KEEP,
}

Result = TypeVar("Result")


class DispatchError(RuntimeError):
    """The scheduler cannot be reached, was lost, stands still, or offers no worker with `GPU`."""


class Workers:
    """The workers of one cluster, as they are now: who owns an engine, who does the rest."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.scheduler = str(client.scheduler_info(0)["address"])
        self._cpu: list[str] | None = None
        self._in_flight = IN_FLIGHT_PER_THREAD
        self._refresh_at = 0.0

    @property
    def in_flight(self) -> int:
        """How many jobs may be under way at once, in the whole cluster."""
        self._refresh()
        return self._in_flight

    def match(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Run on a worker that owns an engine."""
        return self.client.submit(function, *args, resources=GPU, pure=False)

    def read_ahead(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Run on a worker without a GPU, before whatever waits there."""
        return self._submit_beside_engines(function, *args, priority=AHEAD)

    def run(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Run on a worker without a GPU; where all own one, on any."""
        return self._submit_beside_engines(function, *args)

    def release_memory(self) -> None:
        """Let every worker hand back what it freed (`heap`); one that does not answer keeps it.

        Raises `DispatchError` when the scheduler was lost for good.
        """
        self.reconnect_if_lost()
        with suppress(OSError):  # lost just now, which the next job tells
            self.client.run(release_memory, on_error="ignore")

    def _submit_beside_engines(
        self, function: Callable[..., Result], *args: Any, priority: int = 0
    ) -> Future[Result]:
        self._refresh()
        # A preference: when those workers are gone, others will do.
        where = {} if self._cpu is None else {"workers": self._cpu, "allow_other_workers": True}
        return self.client.submit(function, *args, priority=priority, pure=False, **where)

    def _refresh(self) -> None:
        if time.monotonic() < self._refresh_at:
            return
        workers = self.client.scheduler_info(-1)["workers"]
        engines = [address for address, worker in workers.items() if "GPU" in worker["resources"]]
        cpu = sorted(set(workers) - set(engines))
        self._cpu = cpu or None
        threads = sum(worker["nthreads"] for worker in workers.values())
        self._in_flight = IN_FLIGHT_PER_THREAD * max(1, threads)
        self._refresh_at = time.monotonic() + REFRESH_SECONDS

    def require_engine(self, seconds: float = 0.0) -> None:
        """Raise `DispatchError` unless a worker offers `GPU`, or comes to within `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            workers = self.client.scheduler_info(-1)["workers"].values()
            if any("GPU" in worker["resources"] for worker in workers):
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(0.5)
        raise DispatchError(
            f"no worker of {self.scheduler} offers the resource GPU: "
            "start at least one with `dask worker … --resources GPU=1`"
        )

    def reconnect_if_lost(self) -> None:
        """A client that lost its scheduler for long is closed for good, and needs a successor."""
        if self.client.status == "running":
            return
        self.client = connect(self.scheduler)
        self._refresh_at = 0.0
        self.require_engine(WORKERS_SECONDS)


@contextmanager
def cluster(scheduler: str | None = None, workers: int | None = None) -> Iterator[Workers]:
    """The workers of the scheduler at tcp://…, or of a local cluster that ends with the block.

    Raises `DispatchError` when the scheduler does not answer, none of its workers offers `GPU`, or
    it or they have other versions of what both sides have to agree on.
    """
    if scheduler is not None:
        found = Workers(connect(scheduler))
        try:
            found.require_engine()
            require_same_versions(found.client)
            yield found
        finally:
            found.client.close()  # by now perhaps another one than at first
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
        yield Workers(client)


def count_workers(scheduler: str | None) -> int:
    """The threads of a scheduler's workers, or of the local cluster that `cluster` would start.

    Raises `DispatchError`.
    """
    if scheduler is None:
        return len(_local_workers(None, scratch=""))
    with closing(connect(scheduler)) as client:
        workers = client.scheduler_info(-1)["workers"].values()
        return max(1, sum(int(worker["nthreads"]) for worker in workers))


def check_scheduler(scheduler: str | None) -> None:
    """Raise `DispatchError` unless a scheduler that was named can be used; None always can."""
    if scheduler is not None:
        with cluster(scheduler):
            pass


def connect(scheduler: str) -> Client:
    """A client of the scheduler at tcp://… Raises `DispatchError` when it does not answer."""
    try:
        return Client(scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
    except OSError as error:
        raise DispatchError(f"no Dask scheduler answers at {scheduler}: {error}") from error


def require_same_versions(client: Client) -> None:
    """Raise `DispatchError` unless scheduler and workers have the versions that this process has.

    Dask only warns, and what does not fit fails later in words of its own. Workers that come later
    are not looked at.
    """
    here, scheduler = installed_versions(), str(client.scheduler_info(0)["address"])
    told = cast("dict[str, Any]", client.get_versions())
    packages = told["scheduler"]["packages"]
    there = {name: str(packages.get(name)) for name in versions_of_dask()}
    found = client.run(installed_versions, on_error="return")
    workers = {f"the worker at {address}": each for address, each in found.items()}
    for who, versions in {f"the scheduler at {scheduler}": there, **workers}.items():
        if isinstance(versions, BaseException):
            raise DispatchError(f"{who} cannot tell its versions: {versions!r}")
        other = [f"{name} {each}, here {here[name]}"
                 for name, each in versions.items() if each != here[name]]  # fmt: skip
        if other:
            raise DispatchError(
                f"{who} has other versions than this process: {'; '.join(other)}; install the same "
                "everywhere (constraints.txt pins them)"
            )


def versions_of_dask() -> dict[str, str]:
    """What a client and a scheduler have to agree on, which may know nothing else of this."""
    return {name: version(name) for name in ("dask", "distributed")}


def installed_versions() -> dict[str, str]:
    """Of Python and of what a run's processes exchange or compute with, wherever this runs."""
    python = ".".join(map(str, sys.version_info[:2]))
    # PyTorch says after + for which processor it was built: GPUs and CPUs work side by side.
    found = {name: version(name).partition("+")[0] for name in IN_COMMON}
    return {"python": python, **versions_of_dask(), **found}


@lru_cache(maxsize=1)
def load_registrar(weights: Path | None, sha256: str | None = None) -> Registrar:
    """The engine of this process, loaded on first use.

    Raises `WeightsError` when the file's hash is not `sha256`: a path may hold another file where
    this worker runs, or by now.
    """
    return Registrar.load(weights, sha256=sha256)


def _local_workers(count: int | None, scratch: str) -> dict[str, dict[str, Any]]:
    """One process per GPU; beside them, or where there is none, one per core up to a few."""
    gpus = _visible_gpus()
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
            "options": {**options, "resources": GPU, "env": {"CUDA_VISIBLE_DEVICES": gpu}},
        }
        for index, gpu in enumerate(gpus)
    }
    for index in range(count or min(cores, MAX_WORKERS)):
        resources = {} if gpus else GPU
        specs[f"cpu-{index}"] = {"cls": Nanny, "options": {**options, "resources": resources}}
    return specs


def _visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them (index or UUID).

    Each goes to one worker, as with dask-cuda, which would do this for us but brings a version of
    Dask of its own.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(index) for index in range(count)]
    # CUDA sees those before the first that it does not know; PyTorch counted them.
    return [name.strip() for name in named.split(",")][:count]
