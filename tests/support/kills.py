"""Real processes killed at random moments, and a reader that looks on."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from distributed import Client

from catalog.child_server import free_port, wait_for_answer
from flows.plan.request import RegionRequest
from tests.support.prefect_home import prepare_home
from tests.support.slots import digests

RUN = """
import sys
from flows.cli.terminal import prepare_prefect
prepare_prefect()
from flows.register_region import register_region
from flows.plan.request import RegionRequest
if __name__ == "__main__":
    result = register_region(RegionRequest.model_validate_json(sys.argv[1]))
    sys.exit(result.ending != "Completed")
"""
TELLS_OF_THE_RUN = ("report.json", "metrics.prom")  # seconds, and where the store is
CUBE = "/cube/"  # its objects have names and times of their own


def content_digests(store: Path) -> dict[str, str]:
    """Every file of a store that its content determines."""
    return {
        name: found
        for name, found in digests(store).items()
        if not name.endswith(TELLS_OF_THE_RUN) and CUBE not in name
    }


def digest(file: Path) -> str:
    """Of its content; "" where there is no such file."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


class Reader(threading.Thread):
    """Looks at a store all the time; once a day is visible, its pixels must be whole."""

    def __init__(self, store: Path, expected: dict[str, str]):
        super().__init__(daemon=True)
        self.store = store
        self.expected = {
            name: wanted
            for name, wanted in expected.items()
            if "/slots/" in name and ".zarr/" in name
        }
        self.half_visible: list[str] = []
        self.looks = 0
        self._stop_looking = threading.Event()

    def run(self) -> None:
        while not self._stop_looking.wait(0.02):
            self.looks += 1
            if any(self.store.glob("*/items/*.json")):
                # By name: files that are not of the mosaic may go while it looks.
                self.half_visible += [
                    name
                    for name, wanted in self.expected.items()
                    if digest(self.store / name) != wanted
                ]

    def stop(self) -> None:
        self._stop_looking.set()
        self.join()


@contextmanager
def reading(store: Path, expected: dict[str, str]) -> Iterator[Reader]:
    """A reader for as long as the block."""
    reader = Reader(store, expected)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()


class WorkerKiller(threading.Thread):
    """SIGKILLs one worker process, chosen at random, so many seconds after the work began."""

    def __init__(self, client: Client, after_s: float, chance: random.Random):
        super().__init__(daemon=True)
        self.client, self.after_s, self.chance = client, after_s, chance
        self.killed: int | None = None

    def run(self) -> None:
        while not any(self.client.processing().values()):
            time.sleep(0.02)
        time.sleep(self.after_s)
        pids = sorted(self.client.run(os.getpid).values())
        self.killed = self.chance.choice(pids)
        os.kill(self.killed, signal.SIGKILL)


@contextmanager
def serve_prefect(home: Path, port: int | None = None) -> Iterator[str]:
    """A real Prefect server for as long as the block; yields its API's URL."""
    prepare_home(home)
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1",
         "--port", str(port), "--no-ui"],
        env={**os.environ, "PREFECT_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/api"
    try:
        assert wait_for_answer(f"{url}/health", process, 300), (
            "the Prefect server died, or does not answer"
        )
        yield url
    finally:
        process.terminate()
        process.wait(30)


def start_flow(request: RegionRequest, script: Path) -> subprocess.Popen[bytes]:
    """The flow in a process of its own."""
    script.write_text(RUN)
    return subprocess.Popen(
        [sys.executable, str(script), request.model_dump_json()], start_new_session=True
    )


def start_scheduler(port: int) -> subprocess.Popen[bytes]:
    """A Dask scheduler in a process of its own."""
    return dask_process("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")


def start_worker(address: str, *more: str) -> subprocess.Popen[bytes]:
    """A worker process of its own; `more` are options of `dask worker`."""
    return dask_process(
        "worker", address, "--nthreads", "1", "--resources", "GPU=1", "--no-nanny",
        "--no-dashboard", *more,
    )  # fmt: skip


def dask_process(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dask", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_worker(address: str, count: int = 1) -> None:
    with Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


def kill_flow(process: subprocess.Popen[bytes], after_s: float) -> bool:
    """SIGKILL that process alone; False when it was done by then. Its own workers must follow."""
    try:
        process.wait(after_s)
        return False
    except subprocess.TimeoutExpired:
        pass
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    workers = [child for child in children if "spawn_main" in " ".join(_command(child))]
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive, "the killed flow's workers outlived it"
    return True


def table_line(what: str, whole_s: float, took_s: list[float]) -> str:
    """One row of the fault table."""
    lost = [seconds - whole_s for seconds in took_s]
    return (
        f"| {what} | {len(took_s)} runs, {len(took_s)} complete and bit-identical, none "
        f"half-visible | undisturbed {whole_s:.1f} s; lost {statistics.median(lost):.1f} s in the "
        f"median, {max(lost):.1f} s at most |"
    )


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
